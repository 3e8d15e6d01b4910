{{- define "atts.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* KubeRay appends 16 characters to it: at most 47. */}}
{{- define "atts.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 47 | trimSuffix "-" -}}
{{- else if contains (include "atts.name" .) .Release.Name -}}
{{- .Release.Name | trunc 47 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "atts.name" .) | trunc 47 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the release's Ray pods: KubeRay keeps app.kubernetes.io/name for itself. */}}
{{- define "atts.selector" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: {{ include "atts.name" . }}
{{- end -}}

{{- define "atts.labels" -}}
{{ include "atts.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "atts.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "atts.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* (dict "root" $ "kind" "cpu"): repository@digest or repository:tag */}}
{{- define "atts.image" -}}
{{- $image := index .root.Values.images .kind -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default (printf "%s-%s" .root.Chart.AppVersion .kind) $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "atts.modelClaim" -}}
{{- default (printf "%s-models" (include "atts.fullname" .)) .Values.modelCache.existingClaim -}}
{{- end -}}

{{/* Where the certificate that PostgreSQL's must be signed by comes from; "" where none is named. */}}
{{- define "atts.rootCert" -}}
{{- with .Values.store.postgres -}}
{{- if .host -}}
{{- default .rootCert.existingConfigMap .rootCert.existingSecret -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The settings as given, or the embedded pair's: all or nothing, never a mixture of two pairs. */}}
{{- define "atts.settings" -}}
{{- .Values.settings | default (.Files.Get "files/embedded-pair.yaml" | fromYaml) | toJson -}}
{{- end -}}

{{/* GPUs that a replica of a pool ("draft", "target") shares its model between. */}}
{{- define "atts.tensorParallel" -}}
{{- $engine := index (include "atts.settings" .root | fromJson) .pool -}}
{{- int (default 1 (get $engine "tensor_parallel")) -}}
{{- end -}}

{{/* Replicas of a pool that fit one node of a group, by its CPUs and its GPUs; one router at most. */}}
{{- define "atts.replicasPerNode" -}}
{{- $pool := index .root.Values .pool -}}
{{- $fit := int (floor (divf (include "atts.cores" .group.cpu | float64) (float64 $pool.cpus))) -}}
{{- if eq .pool "router" -}}
{{- $fit = min $fit 1 -}}
{{- else if gt (float64 $pool.gpus) 0.0 -}}
{{- $fit = min $fit (int (floor (divf (float64 .group.gpus) (float64 $pool.gpus)))) -}}
{{- end -}}
{{- $fit -}}
{{- end -}}

{{/* Cores of the calibration store's replica, which runs beside a router. */}}
{{- define "atts.storeCores" -}}
0.1
{{- end -}}

{{/* A Kubernetes quantity of CPU ("2", "500m") in cores. */}}
{{- define "atts.cores" -}}
{{- $text := toString . -}}
{{- if hasSuffix "m" $text -}}
{{- divf (trimSuffix "m" $text | float64) 1000.0 -}}
{{- else -}}
{{- $text -}}
{{- end -}}
{{- end -}}

{{/* A Kubernetes quantity of memory or storage in GiB. */}}
{{- define "atts.gib" -}}
{{- $text := toString . -}}
{{- $number := regexFind "^[0-9.]+" $text | float64 -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- $factors := dict "Ti" 1024.0 "Gi" 1.0 "Mi" 0.0009765625 "T" 931.32 "G" 0.93132 "M" 0.00093132 "" 0.00000000093132 -}}
{{- mulf $number (index $factors $unit) -}}
{{- end -}}

{{- define "atts.longestDrain" -}}
{{- max .Values.draft.drainSeconds .Values.target.drainSeconds .Values.router.drainSeconds -}}
{{- end -}}

{{/* (dict "root" $ "text" TEXT): rules or a dashboard, written for 95 % within 50 s, for our objective. */}}
{{- define "atts.objective" -}}
{{- $rule := .root.Values.monitoring.prometheusRule -}}
{{- $seconds := int $rule.latencySeconds -}}
{{- $share := printf "%v" $rule.slowShare -}}
{{- $percent := printf "%v %%" (mulf $rule.slowShare 100) -}}
{{- $runbook := ternary (printf "runbook_url: %s#" $rule.runbookUrl) "runbook: docs/operations.md#" (ne $rule.runbookUrl "") -}}
{{- .text
  | replace "runbook: docs/operations.md#" $runbook
  | replace "le=~\"50(" (printf "le=~\"%d(" $seconds)
  | replace "longer than 50 s" (printf "longer than %d s" $seconds)
  | replace "above 50 s" (printf "above %d s" $seconds)
  | replace "\"value\": 50," (printf "\"value\": %d," $seconds)
  | replace "14.4 * 0.05" (printf "14.4 * %s" $share)
  | replace "6 * 0.05" (printf "6 * %s" $share)
  | replace "/ 0.05" (printf "/ %s" $share)
  | replace "(5 % of answers" (printf "(%s of answers" $percent)
  | replace "the 5 % that the objective" (printf "the %s that the objective" $percent) -}}
{{- end -}}
