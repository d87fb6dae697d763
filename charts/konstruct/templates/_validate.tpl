{{/* What a schema cannot say. Every message says what to set. */}}
{{- define "konstruct.validate" -}}
{{- with .Values -}}
{{- if and .postgresql.enabled .database.existingSecret -}}
{{- fail "Two databases: set postgresql.enabled=false to use the one of database.existingSecret, or leave that empty." -}}
{{- else if not (or .postgresql.enabled .database.existingSecret) -}}
{{- fail "No database: set database.existingSecret to a Secret with the URLs of a PostgreSQL (README.md lists its keys), or postgresql.enabled=true for a small one for development." -}}
{{- end -}}
{{- if and .redis.enabled .queue.existingSecret -}}
{{- fail "Two queues: set redis.enabled=false to use the one of queue.existingSecret, or leave that empty." -}}
{{- else if not (or .redis.enabled .queue.existingSecret) -}}
{{- fail "No queue: set queue.existingSecret to a Secret with the URL of a Redis (README.md lists its keys), or redis.enabled=true for a small one for development." -}}
{{- end -}}
{{- if not .secrets.generate -}}
{{- if or .postgresql.enabled .redis.enabled -}}
{{- fail "secrets.generate=false, but the in-chart servers need generated passwords: set database.existingSecret and queue.existingSecret, and postgresql.enabled and redis.enabled to false." -}}
{{- end -}}
{{- if and .llmPool.auth.enabled (not .llmPool.auth.existingSecret) -}}
{{- fail "secrets.generate=false: set llmPool.auth.existingSecret to a Secret with the pool's bearer token." -}}
{{- end -}}
{{- if and .signing.enabled (not .signing.existingSecret) -}}
{{- fail "secrets.generate=false: set signing.existingSecret to a Secret with the key that deliveries are signed with (at least 32 random characters)." -}}
{{- end -}}
{{- end -}}
{{- range .llmPool.modelList -}}
{{- $key := dig "litellm_params" "api_key" "" . -}}
{{- if and $key (not (hasPrefix "os.environ/" $key)) -}}
{{- fail "llmPool.modelList holds an api_key in plain text, which would be readable in a ConfigMap: write os.environ/NAME, and name it in llmPool.providerKeys." -}}
{{- end -}}
{{- end -}}
{{- if gt (int .llmPool.attemptTimeoutSeconds) (int .llmPool.timeoutSeconds) -}}
{{- fail "llmPool.attemptTimeoutSeconds must not be above llmPool.timeoutSeconds." -}}
{{- end -}}
{{- if and (not .worker.llmPoolUrl) (ge (int .llmPool.timeoutSeconds) (int .worker.messageDeadlineSeconds)) -}}
{{- fail "llmPool.timeoutSeconds must be below worker.messageDeadlineSeconds: else workers give up on answers that still come." -}}
{{- end -}}
{{- if and .llmPool.terminationGracePeriodSeconds (lt (int .llmPool.terminationGracePeriodSeconds) (int (include "konstruct.llmPoolGrace" $))) -}}
{{- fail (printf "llmPool.terminationGracePeriodSeconds would cut answers off: 0, or at least %s." (include "konstruct.llmPoolGrace" $)) -}}
{{- end -}}
{{- if and .worker.terminationGracePeriodSeconds (lt (int .worker.terminationGracePeriodSeconds) (int (include "konstruct.workerGrace" $))) -}}
{{- fail (printf "worker.terminationGracePeriodSeconds would cut messages off: 0, or at least %s." (include "konstruct.workerGrace" $)) -}}
{{- end -}}
{{- if and .tracing.enabled (not .tracing.endpoint) -}}
{{- fail "tracing.enabled: set tracing.endpoint to the collector's address for OTLP over HTTP, such as http://collector.observability:4318." -}}
{{- end -}}
{{- if .monitoring.rules.enabled -}}
{{- range $objective := include "konstruct.objectives" $ | fromJsonArray -}}
{{- range $pace, $burn := $.Values.monitoring.rules.burnRates -}}
{{- if ge (mulf $burn.factor (subf 1.0 $objective.share)) 1.0 -}}
{{- fail (printf "%s could never fire at the %s pace: %v times what the objective allows is everything or more. Set a higher objective or a lower monitoring.rules.burnRates.%s.factor." $objective.alert $pace $burn.factor $pace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
