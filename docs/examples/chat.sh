#!/bin/sh
# Asks the box. Needs ALLERAC_URL (http://allerac.local) and ALLERAC_KEY. With "stream": true the answer comes as
# server-sent events while it is made.
set -eu

curl --silent --show-error --fail-with-body "$ALLERAC_URL/v1/chat/completions" \
    --header "Authorization: Bearer $ALLERAC_KEY" --header "Content-Type: application/json" --data @- <<JSON
{
    "model": "${ALLERAC_MODEL:-smollm2-135m-instruct}",
    "messages": [{"role": "user", "content": "Name a color."}],
    "max_tokens": 32
}
JSON
