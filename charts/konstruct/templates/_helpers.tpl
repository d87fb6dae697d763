{{/* The only place where names, labels, images and security contexts are made. */}}

{{/* Shortens a name to $max characters without making two names one: call with (list name max). */}}
{{- define "konstruct.shorten" -}}
{{- $name := index . 0 -}}{{- $max := int (index . 1) -}}
{{- if le (len $name) $max -}}{{ $name }}
{{- else -}}{{ printf "%s-%s" (trunc (int (sub $max 9)) $name | trimSuffix "-") (sha256sum $name | trunc 8) }}
{{- end -}}
{{- end -}}

{{- define "konstruct.name" -}}
{{ include "konstruct.shorten" (list (default .Chart.Name .Values.nameOverride) 40) }}
{{- end -}}

{{/*
Prefix of every name; short enough for the suffixes that Kubernetes adds to names of pods. What cannot be a name is
refused here, for it would break YAML before validate.yaml is reached.
*/}}
{{- define "konstruct.fullname" -}}
{{- with include "konstruct.validateNames" . | trim -}}
{{- fail (splitList "\n" . | join " ") -}}
{{- end -}}
{{ include "konstruct.uncheckedFullname" . }}
{{- end -}}
{{- define "konstruct.uncheckedFullname" -}}
{{- $name := include "konstruct.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{ include "konstruct.shorten" (list (default $full .Values.fullnameOverride) 40) }}
{{- end -}}

{{/* Prefix of cluster-wide names: two releases of one name may live in two namespaces. */}}
{{- define "konstruct.clusterName" -}}
{{ .Release.Namespace }}-{{ include "konstruct.fullname" . }}
{{- end -}}

{{/* Secret that the chart itself makes (secrets.generate). */}}
{{- define "konstruct.generatedSecret" -}}
{{ include "konstruct.fullname" . }}-generated
{{- end -}}

{{/* Name of a component's Deployment: the workers run the orchestrator. Call with (list root component). */}}
{{- define "konstruct.workload" -}}
{{ include "konstruct.fullname" (index . 0) }}-{{ eq (index . 1) "worker" | ternary "orchestrator" (index . 1) }}
{{- end -}}

{{/* Labels that select pods: call with (list root component). */}}
{{- define "konstruct.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "konstruct.name" $root | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{/*
Labels of every object: call with (list root component), or with (list root component more-labels). No label is
written twice: those of the chart win, then the object's own, then commonLabels.
*/}}
{{- define "konstruct.labels" -}}
{{- $root := index . 0 -}}
{{- $own := include "konstruct.selectorLabels" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- $more := gt (len .) 2 | ternary (last .) dict -}}
{{ merge $own $more $root.Values.commonLabels | toYaml }}
{{- end -}}

{{/* Reference of an image of Konstruct's own: call with (list root image). */}}
{{- define "konstruct.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- $tag := coalesce $image.tag $root.Values.image.tag $root.Chart.AppVersion -}}
{{- $registry := $root.Values.image.registry | trimSuffix "/" -}}
{{ printf "%s%s:%s%s" (empty $registry | ternary "" (print $registry "/")) $image.repository $tag (empty $image.digest | ternary "" (print "@" $image.digest)) | quote }}
{{- end -}}

{{/* Reference of an image of others, which may lie in another registry. */}}
{{- define "konstruct.foreignImage" -}}
{{ printf "%s:%s%s" .repository .tag (empty .digest | ternary "" (print "@" .digest)) | quote }}
{{- end -}}

{{/* What every pod has: call with (list root component values uid). */}}
{{- define "konstruct.podSpec" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}{{- $uid := index . 3 -}}
serviceAccountName: {{ include "konstruct.fullname" $root }}-{{ $component }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $uid }}
  runAsGroup: {{ $uid }}
  fsGroup: {{ $uid }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ quote . }}
  {{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ quote . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.topologySpread }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: {{ $values.topologySpread }}
    labelSelector:
      matchLabels: {{ include "konstruct.selectorLabels" (list $root $component) | nindent 8 }}
    # Pods of an older revision do not count, or a rollout could not begin on a full set of nodes.
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end -}}

{{/* What every container has beside its image: pull policy and security context. */}}
{{- define "konstruct.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end -}}

{{/* Metadata of a pod template: call with (list root component values). */}}
{{- define "konstruct.podMetadata" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}
labels: {{ include "konstruct.labels" (list $root $component $values.podLabels) | nindent 2 }}
{{- end -}}

{{/* A ServiceAccount without a token of its own: call with (list root component values). */}}
{{- define "konstruct.serviceAccount" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "konstruct.fullname" $root }}-{{ $component }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels: {{ include "konstruct.labels" (list $root $component) | nindent 4 }}
  {{- with merge (dict) (default dict $values.annotations) $values.serviceAccount.annotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}

{{/* The way to the Kubernetes API, for the one container that needs it. */}}
{{- define "konstruct.apiVolume" -}}
- name: kubernetes-api
  projected:
    sources:
      - serviceAccountToken: { path: token, expirationSeconds: 3607 }
      - configMap: { name: kube-root-ca.crt, items: [{ key: ca.crt, path: ca.crt }] }
      - downwardAPI: { items: [{ path: namespace, fieldRef: { fieldPath: metadata.namespace } }] }
{{- end -}}
{{- define "konstruct.apiVolumeMount" -}}
- name: kubernetes-api
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end -}}

{{/* What every container of ours logs. */}}
{{- define "konstruct.loggingEnv" -}}
- { name: KONSTRUCT_LOG_FORMAT, value: {{ .Values.logging.format }} }
- { name: KONSTRUCT_LOG_LEVEL, value: {{ .Values.logging.level }} }
{{- end -}}

{{/* Where the spans of a container go. */}}
{{- define "konstruct.tracingEnv" -}}
{{- with .Values.tracing }}
{{- if .enabled -}}
- { name: KONSTRUCT_TRACING, value: "true" }
- { name: KONSTRUCT_TRACING_SAMPLE_RATIO, value: {{ .sampleRatio | quote }} }
- { name: KONSTRUCT_TRACING_CONTENT, value: {{ .content | quote }} }
- { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }} }
{{- with .headers.existingSecret }}
{{ include "konstruct.secretVariable" (dict "variable" "OTEL_EXPORTER_OTLP_HEADERS" "secret" . "key" $.Values.tracing.headers.key) }}
{{- end }}
{{- $attributes := dict "k8s.namespace.name" $.Release.Namespace "konstruct.release" $.Release.Name }}
{{- $pairs := list }}
{{- range $name, $value := mergeOverwrite $attributes .resourceAttributes }}
{{- $pairs = append $pairs (printf "%s=%s" $name (urlquery $value | replace "+" "%20")) }}
{{- end }}
- { name: OTEL_RESOURCE_ATTRIBUTES, value: {{ join "," $pairs | quote }} }
{{- end }}
{{- end }}
{{- end -}}

{{/* Who and where a pod is. */}}
{{- define "konstruct.identityEnv" -}}
- name: KONSTRUCT_RELEASE
  value: {{ .Release.Name | quote }}
- name: KONSTRUCT_POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: KONSTRUCT_POD_NAMESPACE
  valueFrom: { fieldRef: { fieldPath: metadata.namespace } }
- name: KONSTRUCT_POD_UID
  valueFrom: { fieldRef: { fieldPath: metadata.uid } }
{{- with .Values.watch.namespaces }}
- name: KONSTRUCT_WATCH_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
{{- end -}}

{{/* Authorities of the servers in use: the in-chart ones speak plain TCP. */}}
{{- define "konstruct.databaseCa" -}}
{{ .Values.postgresql.enabled | ternary "" .Values.database.ca.existingSecret }}
{{- end -}}
{{- define "konstruct.queueCa" -}}
{{ .Values.redis.enabled | ternary "" .Values.queue.ca.existingSecret }}
{{- end -}}

{{/* How PostgreSQL is trusted, for every container that connects: libpq's own variables. */}}
{{- define "konstruct.databaseTrustEnv" -}}
{{- if include "konstruct.databaseCa" . -}}
- { name: PGSSLMODE, value: verify-full }
- { name: PGSSLROOTCERT, value: /etc/konstruct-trust/database.crt }
{{- end }}
{{- end -}}

{{/* How Redis and the pool are trusted, for senders and workers. */}}
{{- define "konstruct.trustEnv" -}}
{{- with include "konstruct.databaseTrustEnv" . }}
{{ . }}
{{- end }}
{{- if include "konstruct.queueCa" . }}
- { name: KONSTRUCT_REDIS_CA_FILE, value: /etc/konstruct-trust/queue.crt }
{{- end }}
{{- if and .Values.llmPool.tls.existingSecret (not .Values.worker.llmPoolUrl) }}
- { name: KONSTRUCT_LLM_POOL_CA_FILE, value: /etc/konstruct-trust/llm-pool.crt }
{{- end }}
{{- end -}}

{{/* The authorities, all in one folder. No key is among them. Secrets of servers are projected anew when they change. */}}
{{- define "konstruct.trustVolume" -}}
{{- $sources := list }}
{{- with include "konstruct.databaseCa" . }}
{{- $sources = append $sources (list . $.Values.database.ca.key "database.crt") }}
{{- end }}
{{- with include "konstruct.queueCa" . }}
{{- $sources = append $sources (list . $.Values.queue.ca.key "queue.crt") }}
{{- end }}
{{- with .Values.llmPool.tls.existingSecret }}
{{- $sources = append $sources (list . "ca.crt" "llm-pool.crt") }}
{{- end }}
{{- if $sources -}}
- name: trust
  projected:
    sources:
      {{- range $sources }}
      - secret: { name: {{ index . 0 | quote }}, items: [{ key: {{ index . 1 | quote }}, path: {{ index . 2 }} }] }
      {{- end }}
{{- end }}
{{- end -}}
{{- define "konstruct.trustVolumeMount" -}}
{{- if include "konstruct.trustVolume" . -}}
- { name: trust, mountPath: /etc/konstruct-trust, readOnly: true }
{{- end }}
{{- end -}}

{{/* How the pool is spoken to. */}}
{{- define "konstruct.poolScheme" -}}
{{ empty .Values.llmPool.tls.existingSecret | ternary "http" "https" }}
{{- end -}}

{{/* What every sender and worker needs to reach the database, the queue and the pool, beside secrets. */}}
{{- define "konstruct.connectionEnv" -}}
- name: KONSTRUCT_LLM_POOL_URL
  value: {{ default (printf "%s://%s-llm-pool:8004" (include "konstruct.poolScheme" .) (include "konstruct.fullname" .)) .Values.worker.llmPoolUrl | quote }}
{{- if not .Values.worker.llmPoolUrl }}
- name: KONSTRUCT_LLM_POOL_REPLICAS_URL
  value: {{ include "konstruct.poolScheme" . }}://{{ include "konstruct.fullname" . }}-llm-pool-replicas:8004
{{- end }}
{{- include "konstruct.trustEnv" . }}
{{- if .Values.signing.enabled }}
- { name: KONSTRUCT_PAYLOAD_UNSIGNED, value: {{ .Values.signing.acceptUnsigned | quote }} }
{{- end }}
{{- end -}}

{{/* Grace periods: longer than what may be under way. */}}
{{- define "konstruct.llmPoolGrace" -}}
{{ add .Values.llmPool.timeoutSeconds .Values.llmPool.preStopSeconds 15 }}
{{- end -}}
{{- define "konstruct.workerGrace" -}}
{{ add .Values.worker.messageDeadlineSeconds .Values.worker.drainSeconds 15 }}
{{- end -}}

{{/* A PodDisruptionBudget: call with (list root component values). */}}
{{- define "konstruct.podDisruptionBudget" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}
{{- if $values.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "konstruct.workload" (list $root $component) }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels: {{ include "konstruct.labels" (list $root $component) | nindent 4 }}
spec:
  maxUnavailable: {{ kindIs "string" $values.maxUnavailable | ternary (quote $values.maxUnavailable) (int $values.maxUnavailable) }}
  # A pod that does not work anyway never holds up the drain of a node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{ include "konstruct.selectorLabels" (list $root $component) | nindent 6 }}
{{- end -}}
{{- end -}}
