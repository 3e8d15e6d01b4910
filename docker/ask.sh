#!/bin/bash
# Asks $QUESTION of $ATTS_SERVER and looks for $EXPECT in the answer: the chart's test.
set -euo pipefail
: "${ATTS_SERVER:?where the server is}" "${QUESTION:?what to ask}"
# One key of several.
keys=${ATTS_API_KEYS:-}
export ATTS_API_KEY="${keys%%,*}"
answer=$(atts ask --json "$QUESTION")
echo "$answer"
if [[ "$answer" != *"${EXPECT:-}"* ]]; then
    echo "the answer does not hold ${EXPECT@Q}" >&2
    exit 1
fi
