{{/* What the in-chart PostgreSQL and Redis have in common. */}}

{{/* The Service of a server: call with (list root component portName port). */}}
{{- define "konstruct.serverService" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "konstruct.fullname" $root }}-{{ $component }}
  namespace: {{ $root.Release.Namespace }}
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
  emptyDir: { sizeLimit: {{ .size }} }
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
      storageClassName: {{ . }}
      {{- end }}
      resources:
        requests: { storage: {{ .size }} }
{{- end -}}
{{- end -}}
