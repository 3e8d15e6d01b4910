{{/* The Serve configuration: deployment/cluster.yaml's shape, filled from the values. */}}
{{- define "atts.serveConfig" -}}
{{- $settings := include "atts.settings" . | fromJson -}}
{{- $store := merge (dict "url" (include "atts.storeUrl" .)) (default (dict) (get $settings "store")) -}}
{{- $_ := set $settings "store" $store -}}
{{- if not .Values.apiKeys.open -}}
{{- /* A Secret that is empty closes the API, it does not open it. */ -}}
{{- $_ := set $settings "access" (set (default (dict) (get $settings "access")) "required" true) -}}
{{- end -}}
proxy_location: EveryNode
http_options:
  host: 0.0.0.0
  port: 8000
applications:
  - name: atts
    route_prefix: /
    import_path: deployment.app:build
    # As JSON, which keeps every blank and newline of a setting.
    args:
      {{- toPrettyJson $settings | nindent 6 }}
    deployments:
      {{- range $pool := list "draft" "target" }}
      - name: {{ title $pool }}
        {{- include "atts.poolOptions" (dict "root" $ "pool" $pool) | nindent 8 }}
      {{- end }}
      - name: CalibrationStore
        num_replicas: 1
        ray_actor_options:
          num_cpus: {{ include "atts.storeCores" . }}
          label_selector: {atts-pool: router}
      - name: Router
        {{- include "atts.scaling" .Values.router | nindent 8 }}
        max_replicas_per_node: 1
        ray_actor_options:
          num_cpus: {{ .Values.router.cpus }}
          label_selector: {atts-pool: router}
{{- end -}}

{{- define "atts.storeUrl" -}}
{{- with .Values.store.postgres -}}
{{- if .host -}}
postgresql://{{ .user }}@{{ .host }}:{{ .port }}/{{ .database }}?sslmode={{ .sslmode }}
{{- if include "atts.rootCert" $ }}&sslrootcert=/etc/atts/postgres/root.crt{{ end }}
{{- else -}}
memory
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A model pool: on its own nodes, and tensor-parallel replicas whole on one of them. */}}
{{- define "atts.poolOptions" -}}
{{- $pool := index .root.Values .pool -}}
{{- $parallel := include "atts.tensorParallel" . | int -}}
{{ include "atts.scaling" $pool }}
{{- if gt $parallel 1 }}
ray_actor_options:
  num_cpus: {{ $pool.cpus }}
  num_gpus: 0
placement_group_strategy: STRICT_PACK
placement_group_bundle_label_selector: [{atts-pool: {{ .pool }}}]
placement_group_bundles:
  - {CPU: {{ $pool.cpus }}, GPU: 1}
  {{- range until (int (sub $parallel 1)) }}
  - {GPU: 1}
  {{- end }}
{{- else }}
ray_actor_options:
  num_cpus: {{ $pool.cpus }}
  num_gpus: {{ $pool.gpus }}
  label_selector: {atts-pool: {{ .pool }}}
{{- end }}
{{- end -}}

{{- define "atts.scaling" -}}
autoscaling_config:
  min_replicas: {{ .replicas.min }}
  max_replicas: {{ .replicas.max }}
  target_ongoing_requests: {{ .replicas.targetOngoing }}
  upscale_delay_s: {{ .replicas.upscaleDelay }}
  downscale_delay_s: {{ .replicas.downscaleDelay }}
graceful_shutdown_timeout_s: {{ .drainSeconds }}
{{- end -}}
