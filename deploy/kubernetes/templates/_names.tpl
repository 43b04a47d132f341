{{/* What several files share. `ssd.labels` and `ssd.selector` take a list: the component, and the root. */}}

{{- define "ssd.selector" -}}
app.kubernetes.io/name: ssd-on-triton
app.kubernetes.io/instance: {{ (last .).Release.Name }}
app.kubernetes.io/component: {{ first . }}
{{- end }}

{{- define "ssd.labels" -}}
{{ include "ssd.selector" . }}
app.kubernetes.io/version: {{ (last .).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (last .).Release.Service }}
helm.sh/chart: {{ (last .).Chart.Name }}-{{ (last .).Chart.Version }}
{{- end }}

{{- define "ssd.servers" -}}
{{ .Release.Name }}-triton
{{- end }}

{{- define "ssd.serviceAccount" -}}
{{ .Values.serviceAccount.name | default .Release.Name }}
{{- end }}

{{/* How many servers there may be at most. */}}
{{- define "ssd.replicas" -}}
{{ ternary .Values.autoscaling.maxReplicas .Values.triton.replicas .Values.autoscaling.enabled }}
{{- end }}

{{/* What every pod says of itself. The kubelet can tell that user 1000 is not root. */}}
{{- define "ssd.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "ssd.container" -}}
imagePullPolicy: IfNotPresent
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* A node that takes no pods, because it died, is none to spread over. */}}
{{- define "ssd.spread" -}}
topologySpreadConstraints:
{{- range (last .).Values.spread.over }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: {{ ternary "DoNotSchedule" "ScheduleAnyway" (last $).Values.spread.required }}
  nodeTaintsPolicy: Honor
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels: {{- include "ssd.selector" $ | nindent 6 }}
{{- end }}
{{- end }}

{{/* Their address: of a folder in the volume, for releases write beside it, too. */}}
{{- define "ssd.repository" -}}
{{ ternary "/repository/models" (.Values.repository.address | default "/models") (ne .Values.repository.claim "") }}
{{- end }}

{{/* Where the models lie, for a container that reads or changes them: Triton's and serving's variables. */}}
{{- define "ssd.repository.env" -}}
{{- with .Values.repository }}
{{- if .region }}
- {name: AWS_DEFAULT_REGION, value: {{ .region | quote }}}
- {name: AWS_REGION, value: {{ .region | quote }}}
{{- end }}
{{- if .credentialsSecret }}
- name: {{ ternary "GOOGLE_APPLICATION_CREDENTIALS" "AWS_SHARED_CREDENTIALS_FILE" (hasPrefix "gs://" .address) }}
  value: /etc/ssd/bucket/credentials
{{- end }}
{{- end }}
{{- end }}

{{- define "ssd.repository.mounts" -}}
{{- if .Values.repository.credentialsSecret }}
- {name: bucket, mountPath: /etc/ssd/bucket, readOnly: true}
{{- end }}
{{- end }}

{{- define "ssd.repository.volumes" -}}
{{- with .Values.repository }}
{{- if .claim }}
- name: models
  persistentVolumeClaim: {claimName: {{ .claim }}}
{{- end }}
{{- if .credentialsSecret }}
- name: bucket
  secret: {secretName: {{ .credentialsSecret }}, defaultMode: 0440, items: [{key: credentials, path: credentials}]}
{{- end }}
{{- end }}
{{- end }}

{{/* Envoy's own file: that of deploy/gateway/docker, with this release's servers and places for requests.
     `python -m serving gateway-files --servers NAME --replicas N` writes the same; a test compares them. */}}
{{- define "ssd.bootstrap" -}}
{{- $servers := include "ssd.replicas" . | int }}
{{- .Files.Get "files/gateway/envoy.yaml"
    | replace "address: \"triton\"" (printf "address: %q" (include "ssd.servers" .))
    | replace ": 48" ": INTERACTIVE" | replace ": 12\n" ": BULK\n" | replace ": 12}" ": BULK}"
    | replace "INTERACTIVE" (mul .Values.gateway.interactiveRequests $servers | toString)
    | replace "BULK" (mul .Values.gateway.bulkRequests $servers | toString) }}
{{- end }}

{{/* Names are asked of the cluster's own DNS, or of a cache on the node. */}}
{{- define "ssd.dns" -}}
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
  - ipBlock: {cidr: 169.254.20.10/32}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end }}

{{- define "ssd.bucket" -}}
- ports:
  {{- range .Values.networkPolicy.bucketPorts }}
  - {port: {{ . }}, protocol: TCP}
  {{- end }}
# Where clouds tell a pod who it is.
- to:
  - ipBlock: {cidr: 169.254.0.0/16}
  ports: [{port: 80, protocol: TCP}, {port: 988, protocol: TCP}]
{{- end }}

{{/* This release's own clients: the page, and `helm test`. */}}
{{- define "ssd.own" -}}
{{- range list "page" "doctor" }}
- podSelector:
    matchLabels: {{- include "ssd.selector" (list . $) | nindent 6 }}
{{- end }}
{{- end }}
