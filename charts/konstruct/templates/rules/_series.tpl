{{/* Parts of the rules: which series they read, and what their alerts carry. */}}

{{/* A metric or record, of this release alone unless ownSeriesOnly is off: call with (list root name matchers). */}}
{{- define "konstruct.series" -}}
{{- $root := index . 0 -}}{{- $matchers := list -}}
{{- if $root.Values.monitoring.rules.ownSeriesOnly -}}
{{- $matchers = list (printf "namespace=%q" $root.Release.Namespace) (printf "release=%q" $root.Release.Name) -}}
{{- end -}}
{{- with index . 2 }}{{ $matchers = append $matchers . }}{{ end -}}
{{ index . 1 }}{{ with $matchers }}{ {{- join "," . -}} }{{ end }}
{{- end -}}

{{/* Every window that a ratio is recorded over, as a YAML list: 5m for dashboards, and those of the burn rates. */}}
{{- define "konstruct.ruleWindows" -}}
{{- $windows := list "5m" -}}
{{- range tuple "fast" "slow" "gradual" -}}
{{- $burn := get $.Values.monitoring.rules.burnRates . -}}
{{- $windows = concat $windows (list $burn.short $burn.long) -}}
{{- end -}}
{{ $windows | uniq | toJson }}
{{- end -}}

{{/* A bucket's bound as the label le shows it: 5 is 5.0. */}}
{{- define "konstruct.bucket" -}}
{{- $bound := toString . -}}
le="{{ $bound }}{{ if not (contains "." $bound) }}.0{{ end }}"
{{- end -}}

{{/* Bad or good of all, 0 while there is nothing: call with (list share total). */}}
{{- define "konstruct.ratio" -}}
clamp_min({{ index . 0 }} / ({{ index . 1 }} > 0), 0)
or 0 * {{ index . 1 }}
{{- end -}}

{{/* What every alert carries: call with (list root alert severity more-labels summary description). */}}
{{- define "konstruct.alertTail" -}}
{{- $root := index . 0 -}}{{- $rules := $root.Values.monitoring.rules -}}
labels:
  {{- merge (dict "severity" (index . 2)) (index . 3) $rules.alertLabels | toYaml | nindent 2 }}
annotations:
  summary: {{ index . 4 | quote }}
  description: {{ index . 5 | quote }}
  runbook_url: {{ printf "%s/%s.md" (default "docs/runbooks" $rules.runbookBaseUrl | trimSuffix "/") (index . 1) | quote }}
{{- end -}}
