{{/* What the in-chart PostgreSQL and Redis have in common. */}}

{{/* The Service of a server: call with (list root component portName port). */}}
{{- define "konstruct.serverService" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "konstruct.fullname" $root }}-{{ $component }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels: {{ include "konstruct.labels" (list $root $component) | nindent 4 }}
spec:
  selector: {{ include "konstruct.selectorLabels" (list $root $component) | nindent 4 }}
  ports:
    - { name: {{ index . 2 }}, port: {{ index . 3 }}, targetPort: {{ index . 2 }} }
{{- end -}}

{{/* Its data without persistence: gone with the pod. Call with the persistence values. */}}
{{- define "konstruct.dataVolume" -}}
{{- if not .enabled -}}
- name: data
  emptyDir: { sizeLimit: {{ .size | quote }} }
{{- end -}}
{{- end -}}

{{/* Its data with persistence: a claim that stays when the release is uninstalled. */}}
{{- define "konstruct.dataClaim" -}}
{{- if .enabled -}}
persistentVolumeClaimRetentionPolicy: { whenDeleted: Retain, whenScaled: Retain }
volumeClaimTemplates:
  - metadata:
      name: data
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .storageClass }}
      storageClassName: {{ quote . }}
      {{- end }}
      resources:
        requests: { storage: {{ .size | quote }} }
{{- end -}}
{{- end -}}

{{/*
Its requests and limits: call with the server's values. Without persistence its data is ephemeral storage too, and the
limit has to allow for it, or the kubelet would evict the pod long before the volume is full.
*/}}
{{- define "konstruct.serverResources" -}}
{{- $resources := deepCopy .resources -}}
{{- if not .persistence.enabled -}}
{{- $size := .persistence.size -}}
{{- $_ := set $resources "limits" (mergeOverwrite (default dict $resources.limits) (dict "ephemeral-storage" $size)) -}}
{{- with $resources.requests -}}
{{- if gt (include "konstruct.quantity" (index . "ephemeral-storage") | float64) (include "konstruct.quantity" $size | float64) -}}
{{- $_ := set . "ephemeral-storage" $size -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{ toYaml $resources }}
{{- end -}}

{{/* A quantity of Kubernetes as a plain number; nothing is 0. */}}
{{- define "konstruct.quantity" -}}
{{- $text := . | default 0 | toString -}}
{{- $unit := regexFind "(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)$" $text -}}
{{- $units := dict "" 1.0 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{ mulf (trimSuffix $unit $text | float64) (get $units $unit) }}
{{- end -}}
