{{/*
Alerts on the objectives. A budget is 1 - objective; each alert watches how many times faster than allowed it is
spent, over a long window, and over a short one so that it ends soon after its cause.
*/}}

{{/* The objectives, as a YAML list. */}}
{{- define "konstruct.objectives" -}}
{{- $rules := .Values.monitoring.rules -}}{{- $objectives := $rules.objectives -}}
{{- $group := ` ({{ $labels.namespace }}/{{ $labels.release }}, group {{ $labels.requested_group }})` -}}
{{- $release := ` ({{ $labels.namespace }}/{{ $labels.release }})` -}}
{{- $objectives = list
  (dict "alert" "KonstructLLMFailing" "ratio" "llm_failed" "total" "llm_requests" "least" $rules.minRequests
    "share" $objectives.answered "fast" "page" "slow" "page" "gradual" "ticket"
    "summary" (print "Requests to the llm-pool get no answer" $group)
    "bad" "of requests got no answer from any model")
  (dict "alert" "KonstructLLMDegraded" "ratio" "llm_degraded" "total" "llm_requests" "least" $rules.minRequests
    "share" $objectives.askedModel "fast" "page" "slow" "ticket" "gradual" "ticket"
    "summary" (print "Answers do not come from the model group that was asked for" $group)
    "bad" "of requests were not answered by the group that was asked for")
  (dict "alert" "KonstructLLMSlow" "ratio" "llm_slow" "total" "llm_requests" "least" $rules.minRequests
    "share" $objectives.latency.share "fast" "page" "slow" "ticket" "gradual" "ticket"
    "summary" (print "Answers of the llm-pool come late" $group)
    "bad" (printf "of answers took longer than %v s" $objectives.latency.seconds))
  (dict "alert" "KonstructMessagesUnserved" "ratio" "messages_unserved" "total" "messages_servable"
    "least" $rules.minRequests "share" $objectives.messagesServed "fast" "page" "slow" "page" "gradual" "ticket"
    "summary" (print "Messages are apologised for" $release)
    "bad" "of messages that could have been answered were not")
  (dict "alert" "KonstructMessagesDelayed" "ratio" "messages_delayed" "total" "messages_claimed"
    "least" $rules.minRequests "share" $objectives.queueDelay.share "fast" "page" "slow" "ticket" "gradual" "ticket"
    "summary" (print "Messages wait long for a worker" $release)
    "bad" (printf "of messages waited longer than %v s for a worker" $objectives.queueDelay.seconds))
  (dict "alert" "KonstructConfigLag" "ratio" "agent_edits_late" "total" "agent_edits"
    "least" $rules.minEdits "share" $objectives.configLag.share "fast" "ticket" "slow" "ticket" "gradual" "ticket"
    "summary" (print "Edits of agents reach workers late" $release)
    "bad" (printf "of edits took longer than %v s to reach a worker" $objectives.configLag.seconds))
-}}
{{ $objectives | toJson }}
{{- end -}}

{{/* The alerts of every objective. */}}
{{- define "konstruct.burnRates" -}}
{{- range $objective := include "konstruct.objectives" . | fromJsonArray }}
{{- range $pace := tuple "fast" "slow" "gradual" }}
{{- $burn := get $.Values.monitoring.rules.burnRates $pace }}
{{- $budget := printf "%v * (1 - %v)" $burn.factor $objective.share }}
- alert: {{ $objective.alert }}
  expr: |-
    {{ include "konstruct.series" (list $ (printf "konstruct:%s:ratio_rate%s" $objective.ratio $burn.long) "") }} > {{ $budget }}
    and {{ include "konstruct.series" (list $ (printf "konstruct:%s:ratio_rate%s" $objective.ratio $burn.short) "") }} > {{ $budget }}
    and {{ include "konstruct.series" (list $ (printf "konstruct:%s:increase%s" $objective.total $burn.long) "") }} >= {{ $objective.least }}
  for: {{ $burn.for }}
  {{- $description := printf "{{ $value | humanizePercentage }} %s in the last %s, and not less in the last %s. The objective allows {{ %v | humanizePercentage }}; this alert begins at %v times that." $objective.bad $burn.long $burn.short (subf 1.0 $objective.share) $burn.factor }}
  {{- include "konstruct.alertTail" (list $ $objective.alert (get $objective $pace) (dict "burn_rate" $pace) $objective.summary $description) | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}
