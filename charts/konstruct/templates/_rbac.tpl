{{/*
Rights in the watched namespaces: one ClusterRole, or a Role in each namespace of watch.namespaces.
Call with (list root component rules).
*/}}
{{- define "konstruct.watchRoles" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $rules := index . 2 -}}
{{- $account := printf "%s-%s" (include "konstruct.fullname" $root) $component -}}
{{- range $root.Values.watch.namespaces }}
---
{{ include "konstruct.role" (list $root $component (printf "%s-%s" (include "konstruct.clusterName" $root) $component) . $rules $account) }}
{{- else }}
{{ include "konstruct.role" (list $root $component (printf "%s-%s" (include "konstruct.clusterName" $root) $component) "" $rules $account) }}
{{- end }}
{{- end -}}

{{/*
A Role and its RoleBinding to a ServiceAccount of the release; without a namespace, a ClusterRole and its
ClusterRoleBinding. Call with (list root component name namespace rules account).
*/}}
{{- define "konstruct.role" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $name := index . 2 -}}{{- $namespace := index . 3 -}}
{{- $kind := $namespace | empty | ternary "ClusterRole" "Role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ quote . }}
  {{- end }}
  labels: {{ include "konstruct.labels" (list $root $component) | nindent 4 }}
rules: {{ index . 4 | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ quote . }}
  {{- end }}
  labels: {{ include "konstruct.labels" (list $root $component) | nindent 4 }}
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: {{ $kind }}, name: {{ $name }} }
subjects:
  - { kind: ServiceAccount, name: {{ index . 5 }}, namespace: {{ $root.Release.Namespace | quote }} }
{{- end -}}
