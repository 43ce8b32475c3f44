#!/bin/sh
# Plays the clients against the servers without us, in namespaces of its own: `record.sh FOLDER` keeps what went over the wire
# under FOLDER/<format>/, `record.sh` only prints what the clients' libraries say.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${INSIDE-}" ]; then
    RECORD=${1-} INSIDE=1 exec unshare --net --mount --propagation private sh "$0"
fi
tools=$here/../../../target/tools
work=$(mktemp -d)
pids=
trap 'for pid in $pids; do kill "$pid" 2>/dev/null || :; done; rm -rf "$work"' EXIT
ip link set lo up
cd "$work"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=Root' -days 2 -keyout root.key -out root.pem \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
echo '127.0.0.1 localhost' > hosts
serve=
number=0
for pair in $(cat "$here/names"); do
    name=${pair%=*} port=${pair#*=} number=$((number + 1))
    echo "127.1.0.$number $name" >> hosts
    serve="$serve $name=127.1.0.$number=$port"
    if [ "$port" = 443 ]; then
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr" 2>/dev/null
        printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n' "$name" > ext
        openssl x509 -req -in "$name.csr" -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile ext -out "$name.crt" 2>/dev/null
        cat "$name.key" "$name.crt" > "$name.pem"
    fi
done
mount --bind hosts /etc/hosts
export RECORD PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 SSL_CERT_FILE="$work/root.pem" AWS_CA_BUNDLE="$work/root.pem" REQUESTS_CA_BUNDLE="$work/root.pem" NODE_EXTRA_CA_CERTS="$work/root.pem"
[ -n "$RECORD" ] || unset RECORD
# shellcheck disable=SC2086
"$tools/venv/bin/python" "$here/providers.py" "$work" $serve > providers.log &
pids="$pids $!"
wait_for() { until grep -q listening "$1"; do sleep 0.1; done; }
wait_for providers.log
if [ -n "${ONLY-}" ]; then
    eval "$ONLY"
    exit
fi
"$tools/venv/bin/python" "$here/openai_calls.py"
"$tools/venv-old/bin/python" "$here/openai_calls.py"
for kind in anthropic gemini bedrock ollama jsonrpc; do
    "$tools/venv/bin/python" "$here/${kind}_calls.py"
done
"$tools/venv-old/bin/python" "$here/anthropic_calls.py"
