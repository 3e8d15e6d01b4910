{{/*
A pod of the cluster: (dict "root" $ "pool" "head|draft|target|router" "spec" GROUP-OR-HEAD "gpus" N "drain" SECONDS)
KubeRay injects the probes, the ray start command, Ray's token and /dev/shm.
*/}}
{{- define "atts.pod" -}}
{{- $values := .root.Values -}}
{{- $models := has .pool (list "draft" "target") -}}
{{- /* Routers' nodes have the store too, which speaks to PostgreSQL. */ -}}
{{- $certificate := and (eq .pool "router") (include "atts.rootCert" .root) -}}
metadata:
  labels:
    {{- include "atts.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .pool }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    cluster-autoscaler.kubernetes.io/safe-to-evict: {{ default false .spec.spot | toString | quote }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if eq .pool "head" }}
  serviceAccountName: {{ include "atts.serviceAccount" .root }}
  # Ray's autoscaler, beside the head, asks the Kubernetes API for nodes.
  automountServiceAccountToken: true
  {{- else }}
  serviceAccountName: {{ include "atts.serviceAccount" .root }}
  automountServiceAccountToken: false
  {{- end }}
  # Time for the slowest replica to end what it does, for its successor to start, for Ray to stop.
  terminationGracePeriodSeconds: {{ add .drain 90 }}
  enableServiceLinks: false
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if and $values.runtimeClassName (gt (int .gpus) 0) }}
  runtimeClassName: {{ $values.runtimeClassName }}
  {{- end }}
  {{- with $values.images.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- with .spec.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .spec.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if ne .pool "head" }}
  # One node of Ray a machine where there are enough: a lost machine takes one of them.
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "atts.selector" .root | nindent 10 }}
          app.kubernetes.io/component: {{ .pool }}
  {{- end }}
  containers:
    - name: ray-{{ eq .pool "head" | ternary "head" "worker" }}
      image: {{ include "atts.image" (dict "root" .root "kind" (gt (int .gpus) 0 | ternary "cuda" "cpu")) }}
      imagePullPolicy: {{ $values.images.pullPolicy }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: {{ $values.readOnlyRootFilesystem }}
        capabilities: {drop: [ALL]}
      {{- if ne .pool "head" }}
      lifecycle:
        preStop:
          # Serve moves the node's replicas elsewhere, each when its work is done; then Ray stops.
          exec:
            command: [python, -m, services.drain, {{ add .drain 60 | quote }}]
      {{- end }}
      ports:
        {{- if eq .pool "head" }}
        - {name: gcs-server, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        - {name: as-metrics, containerPort: 44217}
        - {name: dash-metrics, containerPort: 44227}
        {{- end }}
        - {name: metrics, containerPort: 8080}
        - {name: serve, containerPort: 8000}
      env:
        # Serve's proxy takes from a request what no client may send.
        - {name: RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH, value: "services.proxy:middlewares"}
        - {name: RAY_USAGE_STATS_ENABLED, value: "0"}
        {{- if eq .pool "head" }}
        # A node that vanishes without a word is given up after 5 × (3 + 3) s, not 5 × (3 + 10): its
        # calls wait so long before they are made anew elsewhere.
        - {name: RAY_health_check_timeout_ms, value: "3000"}
        {{- end }}
        {{- if eq .pool "router" }}
        {{- if $values.apiKeys.existingSecret.name }}
        - name: ATTS_API_KEYS
          valueFrom:
            secretKeyRef: {name: {{ $values.apiKeys.existingSecret.name }}, key: {{ $values.apiKeys.existingSecret.key }}}
        {{- end }}
        {{- if $values.store.postgres.host }}
        - name: PGPASSWORD
          valueFrom:
            secretKeyRef: {name: {{ $values.store.postgres.passwordSecret.name }}, key: {{ $values.store.postgres.passwordSecret.key }}}
        {{- end }}
        {{- end }}
        {{- if and $models $values.modelCache.enabled }}
        - {name: HF_HOME, value: /models}
        {{- end }}
        {{- if and $models $values.hubToken.existingSecret.name }}
        - name: HF_TOKEN
          valueFrom:
            secretKeyRef: {name: {{ $values.hubToken.existingSecret.name }}, key: {{ $values.hubToken.existingSecret.key }}}
        {{- end }}
        {{- with $values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      resources:
        # Requests equal limits: what Ray schedules by is what the kernel grants.
        requests:
          cpu: {{ .spec.cpu | quote }}
          memory: {{ .spec.memory }}
          {{- if gt (int .gpus) 0 }}
          nvidia.com/gpu: {{ .gpus | quote }}
          {{- end }}
        limits:
          cpu: {{ .spec.cpu | quote }}
          memory: {{ .spec.memory }}
          {{- if gt (int .gpus) 0 }}
          nvidia.com/gpu: {{ .gpus | quote }}
          {{- end }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: ray-logs, mountPath: /tmp/ray}
        - {name: home, mountPath: /home/atts}
        {{- if and $models $values.modelCache.enabled }}
        - {name: models, mountPath: /models}
        {{- end }}
        {{- if $certificate }}
        - {name: postgres-root, mountPath: /etc/atts/postgres, readOnly: true}
        {{- end }}
  volumes:
    - {name: ray-logs, emptyDir: {}}
    - {name: tmp, emptyDir: {}}
    - {name: home, emptyDir: {}}
    {{- if and $models $values.modelCache.enabled }}
    - name: models
      persistentVolumeClaim: {claimName: {{ include "atts.modelClaim" .root }}}
    {{- end }}
    {{- if $certificate }}
    - name: postgres-root
      {{- with $values.store.postgres.rootCert }}
      {{- if .existingSecret }}
      secret:
        secretName: {{ .existingSecret }}
      {{- else }}
      configMap:
        name: {{ .existingConfigMap }}
      {{- end }}
        items: [{key: {{ .key }}, path: root.crt}]
      {{- end }}
    {{- end }}
{{- end -}}
