#!/bin/sh
# curl with an authority of its own choice: `attempts.sh URL AUTHORITY`, three times. Says what came of each.
for attempt in 1 2 3; do
    code=$(curl -sS --cacert "$2" -m 20 -o /dev/null -w '%{http_code}' -H "x-row: curl $attempt" "$1" 2>&1) && echo "$code" && continue
    case $code in
    *"SSL certificate problem"*) echo refused ;;
    *) echo "$code" ;;
    esac
done
