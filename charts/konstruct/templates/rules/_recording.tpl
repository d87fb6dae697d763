{{/* Recording rules. Names keep to level:metric:operation, levels being labels of the chart's own. */}}

{{/* For dashboards: rates, ratios and quantiles of the last five minutes. */}}
{{- define "konstruct.rates" -}}
{{- $requests := include "konstruct.series" (list . "konstruct_llm_requests_total" `outcome!="cancelled",requested_group!="_unknown"`) -}}
- record: konstruct:llm_requests:rate5m
  expr: sum by (namespace, release, requested_group) (rate({{ $requests }}[5m]))
{{- $answers := include "konstruct.series" (list . "konstruct:llm_answers:increase5m" "") }}
{{- $asked := include "konstruct.series" (list . "konstruct:llm_answers_as_asked:increase5m" "") }}
- record: konstruct:llm_fallback:ratio_rate5m
  expr: |-
    {{- include "konstruct.ratio" (list (printf "(sum without (served_group) (%s) - %s)" $answers $asked) (printf "sum without (served_group) (%s)" $answers)) | nindent 4 }}
{{- range $quantile := tuple 0.5 0.95 0.99 }}
{{- $series := include "konstruct.series" (list $ "konstruct_llm_request_duration_seconds_bucket" `served_group!="_none"`) }}
- record: konstruct:llm_request_duration_seconds:p{{ mulf $quantile 100 }}_rate5m
  expr: |-
    histogram_quantile({{ $quantile }}, sum by (namespace, release, requested_group, le) (rate({{ $series }}[5m])))
{{- end }}
{{- range $name, $part := dict "message_queue_seconds" 0.95 "message_duration_seconds" 0.95 "agent_config_lag_seconds" 0.99 }}
{{- $series := include "konstruct.series" (list $ (printf "konstruct_%s_bucket" $name) "") }}
- record: konstruct:{{ $name }}:p{{ mulf $part 100 }}_rate5m
  expr: histogram_quantile({{ $part }}, sum by (namespace, release, le) (rate({{ $series }}[5m])))
{{- end }}
{{- $unanswered := include "konstruct.series" (list . "konstruct_messages_total" `outcome!="answered"`) }}
{{- $messages := include "konstruct.series" (list . "konstruct_messages_total" "") }}
- record: konstruct:messages_unanswered:ratio_rate5m
  expr: |-
    {{- include "konstruct.ratio" (list (printf "sum by (namespace, release) (rate(%s[5m]))" $unanswered) (printf "sum by (namespace, release) (rate(%s[5m]))" $messages)) | nindent 4 }}
- record: konstruct:backlog_messages:max
  expr: max by (namespace, release) ({{ include "konstruct.series" (list . "konstruct_backlog_messages" "") }})
{{- range $kind, $metric := dict "tokens" "konstruct_llm_tokens_total" "cost" "konstruct_llm_cost_usd_total" }}
{{- $name := trimSuffix "_total" (trimPrefix "konstruct_" $metric) }}
{{- $window := (get $.Values.monitoring.rules.alerts $kind).window }}
- record: konstruct:{{ $name }}:increase{{ $window }}
  expr: sum by (namespace, release, group) (increase({{ include "konstruct.series" (list $ $metric "") }}[{{ $window }}]))
{{- end }}
{{- end -}}

{{/* What the objectives are about, over one window: call with (list root window). */}}
{{- define "konstruct.ratios" -}}
{{- $root := index . 0 -}}{{- $window := index . 1 -}}{{- $objectives := $root.Values.monitoring.rules.objectives -}}
{{- $requests := printf "konstruct:llm_requests:increase%s" $window -}}
{{- $answers := printf "konstruct:llm_answers:increase%s" $window -}}
{{- $asked := printf "konstruct:llm_answers_as_asked:increase%s" $window -}}
- record: {{ $requests }}
  expr: |-
    sum by (namespace, release, requested_group) (
      increase({{ include "konstruct.series" (list $root "konstruct_llm_requests_total" `outcome!="cancelled",requested_group!="_unknown"`) }}[{{ $window }}])
    )
- record: {{ $answers }}
  expr: |-
    sum by (namespace, release, requested_group, served_group) (
      increase({{ include "konstruct.series" (list $root "konstruct_llm_requests_total" `outcome="ok"`) }}[{{ $window }}])
    )
{{- $requests = include "konstruct.series" (list $root $requests "") }}
{{- $answers = include "konstruct.series" (list $root $answers "") }}
# Of the answers those whose group is the one that was asked for.
- record: {{ $asked }}
  expr: |-
    sum without (served_group) (
      {{ $answers }}
      and on (namespace, release, requested_group, served_group)
      label_replace({{ $requests }}, "served_group", "$1", "requested_group", "(.+)")
    )
    or 0 * {{ $requests }}
{{- $asked = include "konstruct.series" (list $root $asked "") }}
{{- $answered := printf "sum without (served_group) (%s)" $answers }}
- record: konstruct:llm_degraded:ratio_rate{{ $window }}
  expr: |-
    {{- include "konstruct.ratio" (list (printf "(%s - %s)" $requests $asked) $requests) | nindent 4 }}
- record: konstruct:llm_failed:ratio_rate{{ $window }}
  expr: |-
    {{- include "konstruct.ratio" (list (printf "(%s - %s)" $requests $answered) $requests) | nindent 4 }}
{{- $unserved := include "konstruct.series" (list $root "konstruct_apologies_total" `reason!~"agent_suspended|agent_unknown|message_invalid"`) }}
{{- $unserved = printf "sum by (namespace, release) (increase(%s[%s]))" $unserved $window }}
{{- $served := include "konstruct.series" (list $root "konstruct_messages_total" `outcome="answered"`) }}
{{- $name := printf "konstruct:messages_servable:increase%s" $window }}
- record: {{ $name }}
  expr: |-
    sum by (namespace, release) (increase({{ $served }}[{{ $window }}]))
    + {{ $unserved }}
- record: konstruct:messages_unserved:ratio_rate{{ $window }}
  expr: |-
    {{- include "konstruct.ratio" (list $unserved (include "konstruct.series" (list $root $name ""))) | nindent 4 }}
{{- range tuple
  (dict "metric" "llm_request_duration_seconds" "objective" $objectives.latency "total" "llm_answers_timed" "late" "llm_slow"
    "by" "namespace, release, requested_group" "matchers" `served_group!="_none"`)
  (dict "metric" "message_queue_seconds" "objective" $objectives.queueDelay "total" "messages_claimed" "late" "messages_delayed"
    "by" "namespace, release" "matchers" "")
  (dict "metric" "agent_config_lag_seconds" "objective" $objectives.configLag "total" "agent_edits" "late" "agent_edits_late"
    "by" "namespace, release" "matchers" "") }}
{{- $name := printf "konstruct:%s:increase%s" .total $window }}
{{- $total := include "konstruct.series" (list $root $name "") }}
{{- $quick := list (include "konstruct.bucket" .objective.seconds) .matchers | compact | join "," }}
{{- $quick = include "konstruct.series" (list $root (printf "konstruct_%s_bucket" .metric) $quick) }}
- record: {{ $name }}
  expr: sum by ({{ .by }}) (increase({{ include "konstruct.series" (list $root (printf "konstruct_%s_count" .metric) .matchers) }}[{{ $window }}]))
- record: konstruct:{{ .late }}:ratio_rate{{ $window }}
  expr: |-
    {{- include "konstruct.ratio" (list (printf "(%s - sum by (%s) (increase(%s[%s])))" $total .by $quick $window) $total) | nindent 4 }}
{{- end }}
{{- end -}}
