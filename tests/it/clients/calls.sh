#!/bin/sh
# An ordinary client for the tests: `calls.sh URL` makes the eight calls of calls.py with one curl, on one connection.
# Prints the answers, heads and all.
set -eu
base=$1
exec curl -sS -i \
    "$base/plain?x=1&key=secret" \
    --next -sS -i -H 'Content-Type: application/json' --data '{"a": [1, 2, 3]}' "$base/echo" \
    --next -sS -i -H 'Transfer-Encoding: chunked' -H 'Content-Type: text/plain' --data 'first piece, second piece' "$base/echo" \
    --next -sS -i "$base/stream" \
    --next -sS -i "$base/status/404" \
    --next -sS -I "$base/plain" \
    --next -sS -i "$base/empty" \
    --next -sS -i "$base/large"
