#!/bin/sh
# deploy/compose.yaml as it is, by a real Docker engine of its own and docker-compose: order, TLS, fail closed, trust that
# outlives a crash of the sidecar, no span lost, no agent where the redirect fails.
#     compose.sh PROXY_IMAGE INIT_IMAGE PYTHON_IMAGE        names in podman's store; the last needs python3 and openssl
# As root; needs podman, dockerd, docker, docker-compose (Debian: docker.io containerd docker-compose). Nothing leaves the
# machine: the one network is internal. It takes a minute or two, most of them for copying the images.
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /tmp/sidetrace-compose.XXXXXX)
export DOCKER_HOST="unix://$work/docker.sock" COMPOSE_PROJECT_NAME=sidetrace-compose
export COMPOSE_FILE="$project/deploy/compose.yaml:$work/override.yaml"

end() {
    status=$?
    [ "$status" = 0 ] || { tail -3 "$work/docker.log" && docker-compose logs --tail 20 2>&1 | tail -100; } >&2 || true
    docker-compose down --volumes --timeout 2 >/dev/null 2>&1 || true
    if [ -s "$work/docker.pid" ]; then
        engine=$(cat "$work/docker.pid")
        kill "$engine"
        timeout 30 tail --pid="$engine" -f /dev/null || true
    fi
    umount "$work"/data/*/* 2>/dev/null || true
    rm -rf "$work"
    exit "$status"
}
trap end EXIT

fail() { echo "compose.sh: $*" >&2 && exit 1; }
say() { echo "compose.sh: $*"; }

# until_true WHAT COMMAND...: for 30 s
until_true() {
    what=$1 tries=0
    shift
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "waited in vain: $what"
        sleep 0.1
    done
}

container() { docker-compose ps -q "$1"; }
lines() { docker logs "$(container "$1")" 2>&1; }
count() { lines "$1" | grep -c "$2" || true; }
more_than() { [ "$(count "$1" "$2")" -gt "$3" ]; }
state() { docker inspect --format "$2" "$(container "$1")"; }
ready() { [ "$(state sidetrace '{{.State.Health.Status}}')" = healthy ]; }

engine() {
    dockerd --bridge=none --iptables=false --ip6tables=false --data-root "$work/data" --exec-root "$work/exec" \
        -H "$DOCKER_HOST" -p "$work/docker.pid" >"$work/docker.log" 2>&1 &
    until_true "the engine answers" docker version >/dev/null 2>&1
    for pair in "$1=sidetrace:0.1.0" "$2=sidetrace-init:0.1.0" "$3=compose-python"; do
        podman save "${pair%%=*}" 2>/dev/null | docker load --quiet | sed 's/.*: //' | { read -r name; docker tag "$name" "${pair#*=}"; }
    done
}

# An origin over TLS by an authority that only the sidecar knows, an agent that asks it for ever, and a collector that counts.
world() {
    cat >"$work/serve.py" <<'END'
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        print("saw", self.path, self.headers.get("traceparent"), flush=True)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    do_GET = do_POST = answer
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/world/cert.pem", "/world/key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
END
    cat >"$work/agent.py" <<'END'
import itertools, time, urllib.request
for number in itertools.count():
    try:
        urllib.request.urlopen(f"https://origin.test/{number}", timeout=30).read()
        print("answered", flush=True)
    except Exception as error:
        print("failed:", error, flush=True)
    time.sleep(0.1)
END
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout "$work/ca.key" -out "$work/ca.pem" 2>/dev/null
    openssl req -newkey rsa:2048 -nodes -subj /CN=origin.test -keyout "$work/key.pem" -out "$work/request.pem" 2>/dev/null
    printf 'subjectAltName=DNS:origin.test\nbasicConstraints=CA:FALSE\n' >"$work/extensions"
    openssl x509 -req -in "$work/request.pem" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
        -extfile "$work/extensions" -out "$work/cert.pem" 2>/dev/null
    mkdir "$work/world"
    cp "$work"/*.py "$work"/ca.pem "$work"/cert.pem "$work"/key.pem "$work/world"
    chmod 0644 "$work"/world/*
    cat >"$work/override.yaml" <<END
services:
  sidetrace:
    environment: {SIDETRACE_EXTRA_ROOTS: /world/ca.pem, OTEL_BSP_SCHEDULE_DELAY: "100"}
    volumes: ["$work/world:/world:ro"]
  agent:
    image: compose-python
    entrypoint: [python3, /world/agent.py]
    user: "1000:1000"
    volumes: ["$work/world:/world:ro"]
  collector:
    image: compose-python
    entrypoint: [python3, /world/serve.py, "4318"]
    volumes: ["$work/world:/world:ro"]
  origin:
    image: compose-python
    entrypoint: [python3, /world/serve.py, "443", tls]
    volumes: ["$work/world:/world:ro"]
    networks: {default: {aliases: [origin.test]}}
networks:
  default: {internal: true}
END
}

calls_are_traced_over_tls() {
    docker-compose up -d 2>&1 | tail -3
    until_true "the agent is answered" more_than agent '^answered' 4
    [ "$(count agent '^failed')" = 0 ] || fail "the agent failed before anything happened"
    [ "$(count origin '^saw .* None$')" = 0 ] || fail "a call without a traceparent"
    until_true "spans arrive" more_than collector '^saw /v1/traces' 0
    say "the agent's calls over TLS are traced; redirect: $(lines redirect | tail -1)"
}

a_crash_refuses_calls_and_keeps_the_trust() {
    before=$(docker exec "$(container agent)" sha256sum /run/sidetrace/trust/ca.pem)
    # By the engine: it counts as wanted, and nothing is started again.
    docker kill --signal KILL "$(container sidetrace)" >/dev/null
    until_true "calls are refused" more_than agent '^failed' 1
    seen=$(count origin '^saw') && failed=$(count agent '^failed')
    until_true "calls are refused again" more_than agent '^failed' "$((failed + 3))"
    [ "$(count origin '^saw')" = "$seen" ] || fail "a call went past a dead sidecar"
    docker start "$(container sidetrace)" >/dev/null
    until_true "the sidecar is back" ready
    answered=$(count agent '^answered')
    until_true "the agent is answered again" more_than agent '^answered' "$((answered + 2))"

    # By itself: it is started again.
    kill -9 "$(state sidetrace '{{.State.Pid}}')"
    until_true "the engine starts it again" sh -c "[ \"\$(docker inspect --format '{{.RestartCount}}' $(container sidetrace))\" = 1 ]"
    answered=$(count agent '^answered')
    until_true "the agent is answered once more" more_than agent '^answered' "$((answered + 2))"
    [ "$(docker exec "$(container agent)" sha256sum /run/sidetrace/trust/ca.pem)" = "$before" ] || fail "another authority"
    say "while the sidecar was dead calls were refused; the agent trusts it still"
}

the_key_is_the_sidecars_alone() {
    ! docker exec "$(container agent)" ls /run/sidetrace-ca >/dev/null 2>&1 || fail "the agent sees the key's folder"
    ! docker exec "$(container pod)" ls /run/sidetrace-ca >/dev/null 2>&1 || fail "the container that holds the volume can read it"
    ! docker exec -u 0 "$(container agent)" touch /run/sidetrace/trust/x 2>/dev/null || fail "the agent can write what it trusts"
    say "nobody but the sidecar reads the key"
}

a_stop_flushes() {
    docker-compose stop agent sidetrace >/dev/null 2>&1
    lines sidetrace | grep -q 'pipeline stopped .*lost=0' || fail "spans were lost: $(lines sidetrace | tail -1)"
    say "$(lines sidetrace | grep -o 'pipeline stopped.*')"
    docker-compose down --volumes --timeout 2 >/dev/null 2>&1
}

without_the_redirect_there_is_no_agent() {
    sed 's/^services:$/&\n  redirect: {command: [--ipv6, maybe]}/' "$work/override.yaml" >"$work/broken.yaml"
    ! COMPOSE_FILE="$project/deploy/compose.yaml:$work/broken.yaml" docker-compose up -d >/dev/null 2>&1 || fail "it came up"
    [ -z "$(container agent)" ] || [ "$(state agent '{{.State.Running}}')" = false ] || fail "the agent runs"
    say "no redirect, no agent"
}

[ $# = 3 ] || fail "usage: compose.sh PROXY_IMAGE INIT_IMAGE PYTHON_IMAGE"
world
engine "$@"
calls_are_traced_over_tls
a_crash_refuses_calls_and_keeps_the_trust
the_key_is_the_sidecars_alone
a_stop_flushes
without_the_redirect_there_is_no_agent
say "all well"
