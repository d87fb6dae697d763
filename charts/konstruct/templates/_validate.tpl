{{/* What a schema cannot say: a sentence for each problem, which says what to set; all of them are told at once. */}}
{{- define "konstruct.validate" -}}
{{- $problems := "" -}}
{{- range list "Servers" "Pool" "Names" "Images" "Pods" "PlainSecrets" "Monitoring" -}}
{{- $problems = print $problems (include (print "konstruct.validate" .) $) -}}
{{- end -}}
{{- with $problems | trim -}}
{{- fail (splitList "\n" . | join " ") -}}
{{- end -}}
{{- end -}}

{{/* Where the database and the queue are, and their secrets. */}}
{{- define "konstruct.validateServers" -}}
{{- with .Values -}}
{{- if and .postgresql.enabled .database.existingSecret -}}
{{ "Two databases: set postgresql.enabled=false to use the one of database.existingSecret, or leave that empty." }}{{ "\n" }}
{{- else if not (or .postgresql.enabled .database.existingSecret) -}}
{{ "No database: set database.existingSecret to a Secret with the URLs of a PostgreSQL (README.md lists its keys), or postgresql.enabled=true for a small one for development." }}{{ "\n" }}
{{- end -}}
{{- if and .redis.enabled .queue.existingSecret -}}
{{ "Two queues: set redis.enabled=false to use the one of queue.existingSecret, or leave that empty." }}{{ "\n" }}
{{- else if not (or .redis.enabled .queue.existingSecret) -}}
{{ "No queue: set queue.existingSecret to a Secret with the URL of a Redis (README.md lists its keys), or redis.enabled=true for a small one for development." }}{{ "\n" }}
{{- end -}}
{{- if not .secrets.generate -}}
{{- if or .postgresql.enabled .redis.enabled -}}
{{ "secrets.generate=false, but the in-chart servers need generated passwords: set database.existingSecret and queue.existingSecret, and postgresql.enabled and redis.enabled to false." }}{{ "\n" }}
{{- end -}}
{{- if and .llmPool.auth.enabled (not .llmPool.auth.existingSecret) -}}
{{ "secrets.generate=false: set llmPool.auth.existingSecret to a Secret with the pool's bearer token." }}{{ "\n" }}
{{- end -}}
{{- if and .signing.enabled (not .signing.existingSecret) -}}
{{ "secrets.generate=false: set signing.existingSecret to a Secret with the key that deliveries are signed with (at least 32 random characters)." }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The pool and the workers: what belongs together. */}}
{{- define "konstruct.validatePool" -}}
{{- with .Values -}}
{{- range $path, $scaling := dict "llmPool.autoscaling" .llmPool.autoscaling "worker.keda" .worker.keda -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{ printf "%s.minReplicas (%d) is above maxReplicas (%d): raise %s.maxReplicas, or lower minReplicas." $path (int $scaling.minReplicas) (int $scaling.maxReplicas) $path }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- if and .llmPool.config.existingSecret (or .llmPool.modelList .llmPool.routerSettings) -}}
{{ "Two configurations of the pool: leave llmPool.modelList and llmPool.routerSettings empty to use the file of llmPool.config.existingSecret, or that one empty." }}{{ "\n" }}
{{- end -}}
{{- if gt (int .llmPool.attemptTimeoutSeconds) (int .llmPool.timeoutSeconds) -}}
{{ "llmPool.attemptTimeoutSeconds must not be above llmPool.timeoutSeconds." }}{{ "\n" }}
{{- end -}}
{{- if and (not .worker.llmPoolUrl) (ge (int .llmPool.timeoutSeconds) (int .worker.messageDeadlineSeconds)) -}}
{{ "llmPool.timeoutSeconds must be below worker.messageDeadlineSeconds: else workers give up on answers that still come." }}{{ "\n" }}
{{- end -}}
{{- if and .llmPool.terminationGracePeriodSeconds (lt (int .llmPool.terminationGracePeriodSeconds) (int (include "konstruct.llmPoolGrace" $))) -}}
{{ printf "llmPool.terminationGracePeriodSeconds would cut answers off: 0, or at least %s (llmPool.timeoutSeconds + llmPool.preStopSeconds + 15)." (include "konstruct.llmPoolGrace" $) }}{{ "\n" }}
{{- end -}}
{{- if and .worker.terminationGracePeriodSeconds (lt (int .worker.terminationGracePeriodSeconds) (int (include "konstruct.workerGrace" $))) -}}
{{ printf "worker.terminationGracePeriodSeconds would cut messages off: 0, or at least %s (worker.messageDeadlineSeconds + worker.drainSeconds + 15)." (include "konstruct.workerGrace" $) }}{{ "\n" }}
{{- end -}}
{{- if and .tracing.enabled (not .tracing.endpoint) -}}
{{ "tracing.enabled: set tracing.endpoint to the collector's address for OTLP over HTTP, such as http://collector.observability:4318." }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Alerts that could never fire. */}}
{{- define "konstruct.validateMonitoring" -}}
{{- with .Values -}}
{{- if .monitoring.rules.enabled -}}
{{- range $objective := include "konstruct.objectives" $ | fromJsonArray -}}
{{- range $pace, $burn := $.Values.monitoring.rules.burnRates -}}
{{- if ge (mulf $burn.factor (subf 1.0 $objective.share)) 1.0 -}}
{{ printf "%s could never fire at the %s pace: %v times what the objective allows is everything or more. Set a higher objective in monitoring.rules.objectives, or a lower monitoring.rules.burnRates.%s.factor." $objective.alert $pace $burn.factor $pace }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Names: of the release, overrides, and keys of the Secret that the chart makes. */}}
{{- define "konstruct.validateNames" -}}
{{- $name := .Release.Name -}}
{{- if contains "." $name -}}
{{ printf "The release's name %q has a dot, which names of Services and the setting KONSTRUCT_RELEASE may not have: choose another." $name }}{{ "\n" }}
{{- end -}}
{{- range $path, $pattern := dict "nameOverride" "^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$" "fullnameOverride" "^([a-z]([-a-z0-9]{0,61}[a-z0-9])?)?$" -}}
{{- $given := get $.Values $path -}}
{{- if not (regexMatch $pattern $given) -}}
{{ printf "%s %q cannot be part of a name: write lower-case letters, digits and '-' between them, at most 63 characters%s." $path $given (eq $path "nameOverride" | ternary "" ", a letter first") }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]" (include "konstruct.uncheckedFullname" .)) -}}
{{ printf "Names of Services begin with a letter, and the release's name %q does not: choose another, or set fullnameOverride." $name }}{{ "\n" }}
{{- end -}}
{{- with .Values -}}
{{- $keys := list "postgres-password" "owner-password" "service-password" "system-password" "redis-password" "token-password" "signing-password" -}}
{{- $paths := dict -}}
{{- if .postgresql.enabled -}}
{{- range $key, $value := .database.keys }}{{ $_ := set $paths (print "database.keys." $key) $value }}{{ end -}}
{{- end -}}
{{- if .redis.enabled }}{{ $_ := set $paths "queue.keys.url" .queue.keys.url }}{{ end -}}
{{- if and .llmPool.auth.enabled (not .llmPool.auth.existingSecret) }}{{ $_ := set $paths "llmPool.auth.key" .llmPool.auth.key }}{{ end -}}
{{- if and .signing.enabled (not .signing.existingSecret) }}{{ $_ := set $paths "signing.key" .signing.key }}{{ end -}}
{{- range $path, $key := $paths -}}
{{- if has $key $keys -}}
{{ printf "%s: %q is taken in the Secret that the chart makes; keys there must differ." $path $key }}{{ "\n" }}
{{- end -}}
{{- $keys = append $keys $key -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Images: tags that are tags, and digests where they are demanded. */}}
{{- define "konstruct.validateImages" -}}
{{- with .Values -}}
{{- if not (regexMatch `^((\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?)(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*/?)?$` .image.registry) -}}
{{ printf "image.registry %q is no registry: write host, host:port or host/path, without https://." .image.registry }}{{ "\n" }}
{{- end -}}
{{- $images := dict "image" .image "llmPool.image" .llmPool.image "worker.image" .worker.image "operator.image" .operator.image "postgresql.image" .postgresql.image "redis.image" .redis.image -}}
{{- range $path, $image := $images -}}
{{- if not (regexMatch "^([A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?$" $image.tag) -}}
{{ printf "%s.tag %q is no tag: letters, digits, '_', '-' and '.', at most 128. A digest (sha256:...) belongs into %s.digest." $path $image.tag (eq $path "image" | ternary "llmPool.image.digest, worker.image.digest and operator.image" $path) }}{{ "\n" }}
{{- end -}}
{{- if and (hasKey $image "repository") (not (regexMatch `^([A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?/)?[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$` $image.repository)) -}}
{{ printf "%s.repository %q is no name of an image: lower-case letters, digits, '.', '_', '-' and '/', without tag and digest." $path $image.repository }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- if .image.requireDigests -}}
{{- $used := list "llmPool" "worker" "operator" -}}
{{- if .postgresql.enabled }}{{ $used = append $used "postgresql" }}{{ end -}}
{{- if .redis.enabled }}{{ $used = append $used "redis" }}{{ end -}}
{{- range $used -}}
{{- if not (index $.Values .).image.digest -}}
{{ printf "image.requireDigests: set %s.image.digest to the digest that your registry shows for the image (sha256:...; docs/install.md has the command), or image.requireDigests=false to trust tags." . }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Parts of pods that must fit together: volumes and mounts, requests and limits. */}}
{{- define "konstruct.validatePods" -}}
{{- $volumes := list "certificate" "config" "data" "kubernetes-api" "run" "script" "scripts" "secrets" "tmp" "trust" -}}
{{- $mounts := list "/data" "/etc/konstruct" "/etc/konstruct-secrets" "/etc/konstruct-tls" "/etc/konstruct-trust" "/tmp" "/var/lib/postgresql" "/var/run/postgresql" "/var/run/secrets/kubernetes.io/serviceaccount" -}}
{{- range $part := list "llmPool" "worker" "operator" "migration" "postgresql" "redis" -}}
{{- $values := index $.Values $part -}}
{{- $names := $volumes -}}
{{- range $values.extraVolumes -}}
{{- if has .name $names -}}
{{ printf "%s.extraVolumes: the name %q is taken; choose another." $part .name }}{{ "\n" }}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $paths := $mounts -}}
{{- range $values.extraVolumeMounts -}}
{{- if has .mountPath $paths -}}
{{ printf "%s.extraVolumeMounts: something is mounted at %q already; choose another path." $part .mountPath }}{{ "\n" }}
{{- end -}}
{{- $paths = append $paths .mountPath -}}
{{- if or (has .name $volumes | and (ne .name "tmp")) (not (has .name $names)) -}}
{{ printf "%s.extraVolumeMounts: %q is no volume of %s.extraVolumes; add it there." $part .name $part }}{{ "\n" }}
{{- end -}}
{{- if or (and .subPath .subPathExpr) (regexMatch `^/|(^|/)\.\.(/|$)` (print (default "" .subPath) (default "" .subPathExpr))) -}}
{{ printf "%s.extraVolumeMounts: subPath of %q is a path inside the volume, without '..', and not beside subPathExpr." $part .name }}{{ "\n" }}
{{- end -}}
{{- if and .recursiveReadOnly (ne .recursiveReadOnly "Disabled") (or (not .readOnly) (not (has .mountPropagation (list nil "" "None")))) -}}
{{ printf "%s.extraVolumeMounts: recursiveReadOnly of %q needs readOnly, and mountPropagation None." $part .name }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- $limits := default dict $values.resources.limits -}}
{{- $requests := default dict $values.resources.requests -}}
{{- range $name, $limit := $limits -}}
{{- if and (contains "/" $name) (not (regexMatch "^[0-9]+$" (toString $limit))) -}}
{{ printf "%s.resources: %s is given in whole numbers." $part $name }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- range $name, $request := $requests -}}
{{- $limit := get $limits $name -}}
{{- if and (contains "/" $name) (ne (toString $request) (toString $limit)) -}}
{{ printf "%s.resources: %s can only be requested as it is limited: set limits alone." $part $name }}{{ "\n" }}
{{- end -}}
{{- if and (hasKey $limits $name) (gt (include "konstruct.quantity" $request | float64) (include "konstruct.quantity" $limit | float64)) -}}
{{ printf "%s.resources.requests.%s (%v) is above its limit (%v): raise the limit, or lower the request." $part $name $request $limit }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
