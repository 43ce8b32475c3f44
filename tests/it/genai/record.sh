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
leave() {
    for pid in $pids; do
        kill "$pid" 2>/dev/null || :
    done
    rm -rf "$work"
}
trap leave EXIT
ip link set lo up
cd "$work"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=Root' -days 2 -keyout root.key -out root.pem \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
echo '127.0.0.1 localhost' > hosts
serve=
number=0
while IFS='=' read -r name port; do
    number=$((number + 1))
    echo "127.1.0.$number $name" >> hosts
    [ -z "$port" ] || serve="$serve $name=127.1.0.$number=$port"
    if [ "$port" = 443 ]; then
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr" 2>/dev/null
        printf 'subjectAltName=DNS:%s\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\n' "$name" > ext
        openssl x509 -req -in "$name.csr" -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile ext -out "$name.crt" 2>/dev/null
        cat "$name.key" "$name.crt" > "$name.pem"
    fi
done < "$here/names"
mount --bind hosts /etc/hosts
export RECORD PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 SSL_CERT_FILE="$work/root.pem" AWS_CA_BUNDLE="$work/root.pem" REQUESTS_CA_BUNDLE="$work/root.pem" NODE_EXTRA_CA_CERTS="$work/root.pem"
[ -n "$RECORD" ] || unset RECORD
# shellcheck disable=SC2086
"$tools/venv/bin/python" "$here/providers.py" "$work" $serve > providers.log &
pids="$pids $!"
wait_for() { until grep -q listening "$1"; do sleep 0.1; done; }
"$tools/venv/bin/python" "$here/mcp_servers.py" 8080 > mcp2.log &
pids="$pids $!"
"$tools/venv-old/bin/python" "$here/mcp_servers.py" 8081 > mcp1.log &
pids="$pids $!"
for log in providers mcp2 mcp1; do
    wait_for "$log.log"
done
if [ -n "${ONLY-}" ]; then
    eval "$ONLY"
    exit
fi
play() {
    for kind in openai anthropic gemini bedrock ollama jsonrpc mcp; do
        "$tools/venv/bin/python" "$here/${kind}_calls.py"
    done
    for kind in openai anthropic mcp; do
        "$tools/venv-old/bin/python" "$here/${kind}_calls.py"
    done
    node "$here/calls.mjs" "$tools/node-tests" openai anthropic mcp
}
play > said
cat said
[ -z "${RECORD-}" ] || "$tools/venv/bin/python" "$here/attach.py" "$RECORD" < said
