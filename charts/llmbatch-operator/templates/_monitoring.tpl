{{/* Metadata of an object that Prometheus' or Grafana's side reads: called with a list of the root and its values. */}}
{{- define "llmbatch-operator.monitoringMetadata" -}}
{{- $root := first . }}
{{- with last . -}}
{{- $namespace := .namespace | default $root.Release.Namespace -}}
name: {{ print (include "llmbatch-operator.fullname" $root) (include "llmbatch-operator.origin" (list $root $namespace)) | quote }}
namespace: {{ $namespace | quote }}
labels:
  {{- include "llmbatch-operator.labels" (list $root .labels) | nindent 2 }}
{{- end }}
{{- end }}

{{/* How a monitor scrapes a port, as a YAML list of one: called with the monitor's values. */}}
{{- define "llmbatch-operator.scrapes" -}}
- port: metrics
  interval: {{ .interval }}
  {{- with .scrapeTimeout }}
  scrapeTimeout: {{ . }}
  {{- end }}
  {{- with .relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Which objects of the release's namespace a monitor is about: called with the root. */}}
{{- define "llmbatch-operator.monitored" -}}
namespaceSelector:
  matchNames: [{{ .Release.Namespace | quote }}]
selector:
  matchLabels:
    {{- include "llmbatch-operator.selectorLabels" . | nindent 4 }}
{{- end }}
