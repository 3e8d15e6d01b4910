#!/bin/bash
# A Ray cluster of this container alone, whose metrics are on port 8080, and `atts serve` in it.
set -euo pipefail
# Ray's ports carry pickles: with a token that nobody else knows, neighbours cannot use them.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
ray start --head --include-dashboard=false --metrics-export-port=8080 --disable-usage-stats \
    --object-store-memory=134217728
exec atts serve --address auto "$@"
