{{/*
Finds secrets in plain text among values that end in a ConfigMap or a Deployment, where they are readable for
many. tests/chart/test_plain_secrets.py compares the words with what LiteLLM itself takes for sensitive.
*/}}

{{/* Parts of a name that make it a secret's. */}}
{{- define "konstruct.secretWords" -}}
access apikey auth authorization bearer certificate cookie credential credentials fingerprint jwt key passphrase passwd password private pwd sas secret secrets signature tenancy token
{{- end -}}

{{/* Whether a text is a secret whatever its name: a URL with a password or a key, a private key, a bearer token. */}}
{{- define "konstruct.secretText" -}}
{{- if regexMatch `(?i)[a-z][a-z0-9+.-]*://[^/?#\s]*:[^/?#\s]+@|[?&][^=&#\s]*(key|token|secret|password|sig|signature|code)=[^&#\s]|-----BEGIN |^\s*(bearer|basic)\s+\S` . }}true{{ end -}}
{{- end -}}

{{/*
Paths of secrets in plain text, one in a line: call with (list path value by-name inherited). by-name: names count too,
not only texts; inherited: a name above is a secret's. os.environ/NAME and references to an OIDC provider are none.
*/}}
{{- define "konstruct.plainSecrets" -}}
{{- $path := index . 0 -}}{{- $value := index . 1 -}}{{- $byName := index . 2 -}}{{- $inherited := index . 3 -}}
{{- if kindIs "map" $value -}}
{{- range $name, $inner := $value -}}
{{- $parts := regexSplit "[^a-z0-9]+" (regexReplaceAll "([a-z0-9])([A-Z])" $name "${1}_${2}" | lower) -1 -}}
{{- $secret := $inherited -}}
{{- if and $byName (not (has "cost" $parts)) -}}
{{- range splitList " " (include "konstruct.secretWords" $) -}}
{{- if has . $parts -}}{{- $secret = true -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- include "konstruct.plainSecrets" (list (printf "%s.%s" $path $name) $inner $byName $secret) -}}
{{- end -}}
{{- else if kindIs "slice" $value -}}
{{- range $number, $inner := $value -}}
{{- include "konstruct.plainSecrets" (list (printf "%s[%d]" $path $number) $inner $byName $inherited) -}}
{{- end -}}
{{- else if kindIs "string" $value -}}
{{- if not (or (empty $value) (regexMatch "^os\\.environ/[A-Za-z_][A-Za-z0-9_]*$" $value) (hasPrefix "oidc/" $value)) -}}
{{- if or $inherited (include "konstruct.secretText" $value) }}{{ $path }}{{ "\n" }}{{ end -}}
{{- end -}}
{{- else if and $inherited (not (kindIs "bool" $value)) (not (kindIs "invalid" $value)) -}}
{{ $path }}{{ "\n" }}
{{- end -}}
{{- end -}}

{{- define "konstruct.validatePlainSecrets" -}}
{{- $pool := .Values.llmPool -}}
{{- $found := "" -}}
{{- range $number, $entry := $pool.modelList -}}
{{- $path := printf "llmPool.modelList[%d]" $number -}}
{{- $found = print $found (include "konstruct.plainSecrets" (list $path (omit $entry "litellm_params") false false)) -}}
{{- $found = print $found (include "konstruct.plainSecrets" (list (print $path ".litellm_params") $entry.litellm_params true false)) -}}
{{- end -}}
{{- $found = print $found (include "konstruct.plainSecrets" (list "llmPool.routerSettings" $pool.routerSettings true false)) -}}
{{- with $found | trim | splitList "\n" | compact -}}
{{ printf "%s would be readable in a ConfigMap in plain text: write os.environ/NAME and name NAME in llmPool.providerKeys.keys, or put the whole file into a Secret and name that in llmPool.config.existingSecret." (join ", " .) }}{{ "\n" }}
{{- end -}}
{{- range $part := list "llmPool" "worker" "operator" "migration" "postgresql" "redis" -}}
{{- range (index $.Values $part).extraEnv -}}
{{- $secret := regexMatch "(?i)(^|_)(api_?key|key|token|secret|password|passwd|passphrase|credentials?)$" .name -}}
{{- if and .value (or $secret (include "konstruct.secretText" .value)) -}}
{{ printf "%s.extraEnv: %s would be readable in the pod's manifest in plain text: give it by valueFrom.secretKeyRef, from a Secret." $part .name }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
