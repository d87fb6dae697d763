{{/* Which secrets each container gets, and how: as variables, or (secrets.asFiles) as files that variables name. */}}

{{- define "konstruct.secretsFolder" -}}/etc/konstruct-secrets{{- end -}}

{{/* Secrets of the servers in use: the existing ones, or the one that the chart makes. */}}
{{- define "konstruct.databaseSecret" -}}
{{ .Values.postgresql.enabled | ternary (include "konstruct.generatedSecret" .) .Values.database.existingSecret }}
{{- end -}}
{{- define "konstruct.queueSecret" -}}
{{ .Values.redis.enabled | ternary (include "konstruct.generatedSecret" .) .Values.queue.existingSecret }}
{{- end -}}

{{/* The token that workers send, and the pool demands. */}}
{{- define "konstruct.tokenSecret" -}}
{{ default (include "konstruct.generatedSecret" .) .Values.llmPool.auth.existingSecret }}
{{- end -}}

{{/* One secret, as an item of a YAML list: call with (list variable secret key optional). */}}
{{- define "konstruct.secretItem" -}}
- { variable: {{ index . 0 | quote }}, secret: {{ index . 1 | quote }}, key: {{ index . 2 | quote }}, optional: {{ index . 3 }} }
{{- end -}}

{{/* Secrets of a container, as a YAML list of {variable, secret, key, optional}: call with (list root container). */}}
{{- define "konstruct.secretsOf" -}}
{{- $root := index . 0 -}}{{- $container := index . 1 -}}{{- $values := $root.Values -}}
{{- $database := include "konstruct.databaseSecret" $root -}}
{{- $keys := $values.database.keys -}}
{{- $connected := has $container (list "worker" "test") -}}
{{- if eq $container "migration" }}
{{- $owner := $values.postgresql.enabled | ternary $database (default $database $values.database.migrationExistingSecret) }}
{{ include "konstruct.secretItem" (list "KONSTRUCT_MIGRATION_DATABASE_URL" $owner $keys.migration false) }}
{{- end }}
{{- if or $connected (has $container (list "migration" "wait-for-migration")) }}
{{ include "konstruct.secretItem" (list "KONSTRUCT_DATABASE_URL" $database $keys.service false) }}
{{- end }}
{{- if or $connected (eq $container "migration") }}
{{ include "konstruct.secretItem" (list "KONSTRUCT_SYSTEM_DATABASE_URL" $database $keys.system false) }}
{{- end }}
{{- if $connected }}
{{ include "konstruct.secretItem" (list "KONSTRUCT_REDIS_URL" (include "konstruct.queueSecret" $root) $values.queue.keys.url false) }}
{{- with $values.signing }}{{ if .enabled }}
{{- $secret := default (include "konstruct.generatedSecret" $root) .existingSecret }}
{{ include "konstruct.secretItem" (list "KONSTRUCT_PAYLOAD_KEY" $secret .key false) }}
{{ include "konstruct.secretItem" (list "KONSTRUCT_PAYLOAD_SECOND_KEY" $secret .secondKey true) }}
{{- end }}{{ end }}
{{- end }}
{{- $token := include "konstruct.tokenSecret" $root }}
{{- with $values.llmPool.auth }}
{{- if and .enabled (or $connected (eq $container "llm-pool")) }}
{{ include "konstruct.secretItem" (list "KONSTRUCT_LLM_POOL_TOKEN" $token .key false) }}
{{- end }}
{{- if and .enabled (eq $container "llm-pool") }}
{{ include "konstruct.secretItem" (list "KONSTRUCT_LLM_POOL_SECOND_TOKEN" $token .secondKey true) }}
{{- end }}
{{- end }}
{{- with $values.llmPool.providerKeys }}
{{- if and .existingSecret (eq $container "llm-pool") }}
{{- range .keys }}
{{ include "konstruct.secretItem" (list . $values.llmPool.providerKeys.existingSecret . true) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A variable from a Secret: call with a dict of variable, secret, key, optional. */}}
{{- define "konstruct.secretVariable" -}}
- name: {{ .variable | quote }}
  valueFrom: { secretKeyRef: { name: {{ .secret | quote }}, key: {{ .key | quote }}{{ if .optional }}, optional: true{{ end }} } }
{{- end -}}

{{/* Variables by which a container gets its secrets: call with (list root container). */}}
{{- define "konstruct.secretsEnv" -}}
{{- $root := index . 0 -}}
{{- range include "konstruct.secretsOf" . | fromYamlArray }}
{{- if $root.Values.secrets.asFiles }}
# A file that need not exist has a "-" before its path.
- { name: {{ .variable }}_FILE, value: {{ .optional | ternary "-" "" }}{{ include "konstruct.secretsFolder" $root }}/{{ .variable }} }
{{- else }}
{{ include "konstruct.secretVariable" . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The files, readable for the container's group (fsGroup) alone: call with (list root container). */}}
{{- define "konstruct.secretsVolume" -}}
{{- $root := index . 0 -}}
{{- $secrets := include "konstruct.secretsOf" . | fromYamlArray -}}
{{- if and $root.Values.secrets.asFiles $secrets -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $secrets }}
      - secret:
          name: {{ .secret | quote }}
          items: [{ key: {{ .key | quote }}, path: {{ .variable | quote }} }]
          {{- if .optional }}
          optional: true
          {{- end }}
      {{- end }}
{{- end }}
{{- end -}}
{{- define "konstruct.secretsVolumeMount" -}}
{{- if include "konstruct.secretsVolume" . -}}
- { name: secrets, mountPath: {{ include "konstruct.secretsFolder" (index . 0) }}, readOnly: true }
{{- end }}
{{- end -}}

{{/*
The environment of a container, with nothing in it twice, which a server-side apply refuses:
call with (list path-of-extraEnv own-variables-as-YAML extraEnv).
*/}}
{{- define "konstruct.env" -}}
{{- $path := index . 0 -}}
{{- $all := concat (index . 1 | fromYamlArray) (index . 2) -}}
{{- $seen := dict -}}
{{- range $all -}}
{{- $name := .name | trimSuffix "_FILE" -}}
{{- if hasKey $seen $name -}}
{{- fail (printf "%s: %s is set already, by a value of the chart, llmPool.providerKeys or another entry; use that, and leave this one out." $path .name) -}}
{{- end -}}
{{- $_ := set $seen $name true -}}
{{- end -}}
{{ toYaml $all }}
{{- end -}}
