{{/* Alerts on states, beside those on the objectives. */}}
{{- define "konstruct.alerts" -}}
{{- $alerts := .Values.monitoring.rules.alerts -}}
{{- $release := "{{ $labels.namespace }}/{{ $labels.release }}" -}}
{{- $worker := "{{ or $labels.pod $labels.instance }}" -}}
{{- with $alerts.noProvider }}
- alert: KonstructNoProvider
  expr: |-
    sum by (namespace, release, requested_group) (
      increase({{ include "konstruct.series" (list $ "konstruct_llm_requests_total" `outcome="ok"`) }}[{{ .window }}])
    ) == 0
    and sum by (namespace, release, requested_group) (
      increase({{ include "konstruct.series" (list $ "konstruct_llm_requests_total" `outcome!="cancelled",requested_group!="_unknown"`) }}[{{ .window }}])
    ) >= {{ .minRequests }}
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructNoProvider" "page" dict (print "No model answers requests for group {{ $labels.requested_group }} (" $release ")") (printf "There were requests for group {{ $labels.requested_group }} in the last %s, and not one of them got an answer, from this group or from another." .window)) | nindent 2 }}
{{- end }}
{{- with $alerts.deploymentCooling }}
- alert: KonstructDeploymentCooling
  expr: |-
    avg by (namespace, release, deployment) (
      avg_over_time({{ include "konstruct.series" (list $ "konstruct_llm_deployment_cooling" "") }}[{{ .window }}])
    ) > {{ .share }}
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructDeploymentCooling" "ticket" dict (print "Deployment {{ $labels.deployment }} is cooling down all the time (" $release ")") (printf "It was left alone after failures for {{ $value | humanizePercentage }} of the last %s." .window)) | nindent 2 }}
{{- end }}
{{- range $kind, $words := dict "tokens" (list "KonstructTokensUnusual" "konstruct:llm_tokens" "tokens") "cost" (list "KonstructCostUnusual" "konstruct:llm_cost_usd" "US dollars") }}
{{- with get $alerts $kind }}
{{- $now := include "konstruct.series" (list $ (printf "%s:increase%s" (index $words 1) .window) "") }}
- alert: {{ index $words 0 }}
  expr: |-
    {{ $now }} > {{ .factor }} * avg_over_time({{ $now }}[{{ .baseline }}] offset {{ .window }})
    and {{ $now }} >= {{ eq (floor .minimum) (float64 .minimum) | ternary (int64 .minimum) .minimum }}
    and last_over_time({{ $now }}[{{ .window }}] offset {{ .baseline }})
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ (index $words 0) "ticket" dict (printf "Group {{ $labels.group }} uses unusually many %s (%s)" (index $words 2) $release) (printf "{{ $value | humanize }} %s in the last %s: more than %v times the average of the %s before." (index $words 2) .window .factor .baseline)) | nindent 2 }}
{{- end }}
{{- end }}
{{- with $alerts.queueGrowing }}
{{- $backlog := include "konstruct.series" (list $ "konstruct:backlog_messages:max" "") }}
- alert: KonstructQueueGrowing
  expr: |-
    min_over_time({{ $backlog }}[{{ .window }}]) >= {{ .minWaiting }}
    and avg_over_time({{ $backlog }}[{{ .window }}]) > avg_over_time({{ $backlog }}[{{ .window }}] offset {{ .window }})
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructQueueGrowing" "page" dict (print "The queue grows (" $release ")") (printf "At least {{ $value }} messages waited all through the last %s, more than before: workers do not keep up." .window)) | nindent 2 }}
{{- end }}
{{- with $alerts.backlogNearLimit }}
- alert: KonstructBacklogNearLimit
  expr: |-
    max by (namespace, release) ({{ include "konstruct.series" (list $ "konstruct_tenant_backlog_messages" "") }})
    / min by (namespace, release) ({{ include "konstruct.series" (list $ "konstruct_tenant_backlog_limit" "") }}) > {{ .share }}
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructBacklogNearLimit" "page" dict (print "Messages of a tenant are refused, or soon will be (" $release ")") "The line of the tenant that has most messages waiting is {{ $value | humanizePercentage }} of what may wait: at 100% its senders are refused.") | nindent 2 }}
{{- end }}
{{- with $alerts.deliveriesUnsigned }}
- alert: KonstructDeliveriesUnsigned
  expr: |-
    sum by (namespace, release) (
      increase({{ include "konstruct.series" (list $ "konstruct_deliveries_refused_total" `reason="not_signed"`) }}[{{ .window }}])
    ) > 0
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructDeliveriesUnsigned" "page" dict (print "Deliveries without a valid signature are refused (" $release ")") (printf "About {{ $value | humanize }} in the last %s. Somebody without the key writes to Redis, or a sender has none or an old one, and what it queued is gone." .window)) | nindent 2 }}
{{- end }}
{{- with $alerts.messagesParked }}
- alert: KonstructMessagesParked
  expr: max by (namespace, release) ({{ include "konstruct.series" (list $ "konstruct_parked_messages" "") }}) > 0
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructMessagesParked" "ticket" dict (print "Messages are parked (" $release ")") "{{ $value }} in all: processes died of them, and they stay unanswered until a person decides.") | nindent 2 }}
{{- end }}
{{- with $alerts.messagesStranded }}
- alert: KonstructMessagesStranded
  expr: |-
    sum by (namespace, release) (
      increase({{ include "konstruct.series" (list $ "konstruct_messages_stranded_total" "") }}[{{ .window }}])
    ) > 0
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructMessagesStranded" "ticket" dict (print "Messages would have waited for ever (" $release ")") (printf "About {{ $value | humanize }} in the last %s: nothing would have worked on them. They are back in line, and what stranded them is still to be found." .window)) | nindent 2 }}
{{- end }}
{{- $consuming := include "konstruct.series" (list $ "konstruct_worker_consuming" "") }}
{{- with $alerts.noWorkerConsuming }}
- alert: KonstructNoWorkerConsuming
  expr: sum by (namespace, release) ({{ $consuming }}) == 0
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructNoWorkerConsuming" "page" dict (print "No worker takes messages (" $release ")") "Workers run, and none of them takes messages from the queue: nothing is answered.") | nindent 2 }}
{{- end }}
{{- with $alerts.workerNotConsuming }}
- alert: KonstructWorkerNotConsuming
  expr: {{ $consuming }} == 0
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructWorkerNotConsuming" "ticket" dict (printf "Worker %s takes no messages (%s)" $worker $release) "It is alive, and takes no messages from the queue: it does not hear Redis, or does not know that its agents are up to date.") | nindent 2 }}
{{- end }}
{{- with $alerts.watchDisconnected }}
- alert: KonstructWatchDisconnected
  expr: {{ include "konstruct.series" (list $ "konstruct_watch_connected" "") }} == 0
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructWatchDisconnected" "ticket" dict (printf "Worker %s does not follow changes of agents (%s)" $worker $release) "It has no watch on Agents, so edits do not reach it; when its Lease runs out it takes no new messages.") | nindent 2 }}
{{- end }}
{{- with $alerts.agentNotSynced }}
- alert: KonstructAgentNotSynced
  expr: max by (namespace, release) ({{ include "konstruct.series" (list $ "konstruct_operator_unsynced_agents" "") }}) > 0
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructAgentNotSynced" "ticket" dict (print "Agents are not in effect on every worker (" $release ")") (printf "For %s there were Agents ({{ $value }} now) whose active revision is not proved to be in effect on every worker." .for)) | nindent 2 }}
{{- end }}
{{- with $alerts.operatorFailing }}
{{- $failed := printf "sum by (namespace, release) (increase(%s[%s]))" (include "konstruct.series" (list $ "konstruct_operator_reconciles_total" `outcome=~"failed|retried"`)) .window }}
- alert: KonstructOperatorFailing
  expr: |-
    {{ $failed }}
    / sum by (namespace, release) (increase({{ include "konstruct.series" (list $ "konstruct_operator_reconciles_total" "") }}[{{ .window }}])) > {{ .share }}
    and {{ $failed }} >= {{ .minFailures }}
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructOperatorFailing" "ticket" dict (print "The operator fails (" $release ")") (printf "{{ $value | humanizePercentage }} of its looks at Agents failed in the last %s: edits may not take effect." .window)) | nindent 2 }}
{{- end }}
{{- with $alerts.namespaceUnreadable }}
- alert: KonstructNamespaceUnreadable
  expr: max by (namespace, release) ({{ include "konstruct.series" (list $ "konstruct_operator_unreadable_namespaces" "") }}) > 0
  for: {{ .for }}
  {{- include "konstruct.alertTail" (list $ "KonstructNamespaceUnreadable" "ticket" dict (print "The operator may not read namespaces (" $release ")") (printf "For %s it lacked a right in listed namespaces ({{ $value }} now): edits of Agents there do not take effect." .for)) | nindent 2 }}
{{- end }}
{{- $whose := ternary (printf " (%s)" $release) "" .Values.monitoring.rules.ownSeriesOnly }}
{{- range $component, $severity := dict "llm-pool" "page" "worker" "page" "operator" "ticket" }}
- alert: KonstructMetricsAbsent
  expr: absent({{ include "konstruct.series" (list $ "konstruct_build_info" (printf "component=%q" $component)) }})
  for: {{ $alerts.metricsAbsent.for }}
  {{- include "konstruct.alertTail" (list $ "KonstructMetricsAbsent" $severity (dict "component" $component) (printf "There are no metrics of %s%s" $component $whose) "No pod of it is scraped: none runs, or Prometheus does not reach it. The other alerts on it are blind.") | nindent 2 }}
{{- end }}
{{- end -}}
