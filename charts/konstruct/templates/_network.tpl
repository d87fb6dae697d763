{{/* Parts of network-policies.yaml. */}}

{{/* A policy of one component's pods, up to its rules: call with (list root component). */}}
{{- define "konstruct.policyHead" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "konstruct.fullname" $root }}-{{ $component }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels: {{ include "konstruct.labels" (list $root $component) | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{ include "konstruct.selectorLabels" (list $root $component) | nindent 6 }}
  policyTypes: [Ingress, Egress]
{{- end -}}

{{/* Ingress of components of this release and of further peers: call with (list root components peers port). */}}
{{- define "konstruct.policyFrom" -}}
{{- $root := index . 0 -}}
- from:
    {{- range index . 1 }}
    - podSelector:
        matchLabels: {{ include "konstruct.selectorLabels" (list $root .) | nindent 10 }}
    {{- end }}
    {{- with index . 2 }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports: [{ protocol: TCP, port: {{ index . 3 }} }]
{{- end -}}

{{/* Ingress of whoever scrapes: call with (list root port). Without any, nothing. */}}
{{- define "konstruct.policyMetrics" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.networkPolicy.metricsFrom -}}
- from: {{ toYaml . | nindent 4 }}
  ports: [{ protocol: TCP, port: {{ index $ 1 }} }]
{{- end -}}
{{- end -}}

{{/*
Egress to a component of this release, to peers, or (neither) anywhere, always to named ports:
call with (list root (dict component to ports protocols)).
*/}}
{{- define "konstruct.policyTo" -}}
{{- $root := index . 0 -}}{{- $rule := index . 1 -}}
- ports:
    {{- range $port := $rule.ports }}
    {{- range default (list "TCP") $rule.protocols }}
    - { protocol: {{ . }}, port: {{ int $port }} }
    {{- end }}
    {{- end }}
  {{- if $rule.component }}
  to:
    - podSelector:
        matchLabels: {{ include "konstruct.selectorLabels" (list $root $rule.component) | nindent 10 }}
  {{- else if $rule.to }}
  to: {{ toYaml $rule.to | nindent 4 }}
  {{- end }}
{{- end -}}
