{{/* What Prometheus is asked of this release's servers. Triton's metrics count by model: an ensemble's requests
     are the photos, and the requests of its parts would count each of them four times. */}}

{{- define "ssd.series" -}}
namespace="{{ .Release.Namespace }}",service="{{ include "ssd.servers" . }}"
{{- end }}

{{/* Requests under way in all servers together, by Little's law: their seconds a second. */}}
{{- define "ssd.query.underWay" -}}
sum(rate(nv_inference_request_duration_us{ {{- include "ssd.series" . }},model=~"{{ .Values.autoscaling.models }}"}[1m])) / 1e6
{{- end }}

{{/* Seconds that a photo waits, in the queues of all models that it goes through. */}}
{{- define "ssd.query.queue" -}}
sum(rate(nv_inference_queue_duration_us{ {{- include "ssd.series" . }}}[1m])) / 1e6 / clamp_min(sum(rate(nv_inference_request_success{ {{- include "ssd.series" . }},model=~"{{ .Values.autoscaling.models }}"}[1m])), 1e-9)
{{- end }}
