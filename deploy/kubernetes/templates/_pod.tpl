{{- define "plumbline.labels" -}}
app.kubernetes.io/name: plumbline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* By which our pods are found: KubeRay gives them names of its own under the usual keys. */}}
{{- define "plumbline.selector" -}}
plumbline/release: {{ .Release.Name }}
{{- end }}

{{- /* What Ray must find in its environment on every node: deploy/cluster.env; KubeRay sets the token's itself. */}}
{{- define "plumbline.env" -}}
- {name: RAY_SERVE_ENABLE_HA_PROXY, value: "1"}
- {name: RAY_SERVE_HAPROXY_BINARY_PATH, value: /opt/plumbline/bin/plumbline-haproxy}
- {name: RAY_SERVE_THROUGHPUT_OPTIMIZED, value: "1"}
- {name: RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH, value: "536870912"}
- name: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH
  value: plumbline_serve.deployments.http_servers.http_middlewares
{{- if .Values.keysSecret }}
- {name: PLUMBLINE_AUTH__KEYS_FILE, value: /run/plumbline/keys.yaml}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "plumbline.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* One pod of Ray; takes the chart as `root`, the container's name, its resources, and whether it answers callers. */}}
{{- define "plumbline.pod" -}}
metadata:
  labels:
    {{- include "plumbline.labels" .root | nindent 4 }}
    {{- include "plumbline.selector" .root | nindent 4 }}
    {{- if .answers }}
    plumbline/answers: "true"
    {{- end }}
spec:
  automountServiceAccountToken: {{ .root.Values.autoscaling }}
  terminationGracePeriodSeconds: 60
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .root.Values.keysSecret }}
  initContainers:
    # A Secret's files can be read by a group; a file of keys must not be.
    - name: keys
      image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag }}"
      command: [install, --mode=0600, /run/secret/keys.yaml, /run/plumbline/keys.yaml]
      securityContext:
        {{- include "plumbline.container-security" .root | nindent 8 }}
      volumeMounts:
        - {name: secret, mountPath: /run/secret, readOnly: true}
        - {name: keys, mountPath: /run/plumbline}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag }}"
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      env:
        {{- include "plumbline.env" .root | nindent 8 }}
      {{- if .answers }}
      ports:
        - {name: rest, containerPort: 8000}
        - {name: grpc, containerPort: 9000}
      # Callers come where HAProxy of this pod sends them to a gateway that is ready, whichever pod that is in.
      readinessProbe:
        exec: {command: [/opt/plumbline/bin/python, -I, -S, /opt/plumbline/is_ready.py]}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 3
      lifecycle:
        preStop: {exec: {command: [sleep, "20"]}}  # Kubernetes goes on sending callers for a while
      {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- include "plumbline.container-security" .root | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: cache, mountPath: /var/cache/plumbline}
        {{- if .root.Values.keysSecret }}
        - {name: keys, mountPath: /run/plumbline, readOnly: true}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {}}
    {{- if .root.Values.cache.claim }}
    - {name: cache, persistentVolumeClaim: {claimName: {{ .root.Values.cache.claim | quote }}}}
    {{- else }}
    - {name: cache, emptyDir: {sizeLimit: {{ .root.Values.cache.size | quote }}}}
    {{- end }}
    {{- if .root.Values.keysSecret }}
    - {name: secret, secret: {secretName: {{ .root.Values.keysSecret | quote }}}}
    - {name: keys, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
    {{- end }}
{{- end }}
