#!/bin/sh
# curl and git over HTTPS: `calls.sh FOLDER`, where it may write. Says what they showed, as calls.py does.
set -u
export HOME="$1" GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 GIT_AUTHOR_DATE=2026-01-01T00:00:00Z GIT_COMMITTER_DATE=2026-01-01T00:00:00Z
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.fsync GIT_CONFIG_VALUE_0=none

# A row of what standard input has, line by line.
row() {
    grep -vi '^date:' | tr -d '\r' | sed 's/\\/\\\\/g; s/"/\\"/g; s/\t/ /g; s/.*/"&"/' | paste -sd, | sed "s/.*/{\"row\": \"$1\", \"at\": \"client\", \"saw\": [&]}/"
}

calls() {
    name=$1 base=$2
    shift 2
    for route in plain?a=1 stream status/404 status/503 reset short-cut short-notify cut notify plain; do
        case "$name $route" in
        "curl h1 reset" | "curl h2 short"* | "curl h2 cut" | "curl h2 notify") continue ;;
        esac
        curl -sS -i -m 20 -H "x-row: $name" "$@" -w '\n%{http_version} %{ssl_verify_result} %{exitcode} %{errormsg}\n' "$base/$route" 2>&1
    done
    curl -sS -m 20 -H "x-row: $name" "$@" "$base/large" | sha256sum
    # Two calls on one connection, and a body.
    head -c 300000 /dev/zero >"$HOME/body"
    curl -sS -i -m 20 -H "x-row: $name" "$@" -w '\n%{num_connects}\n' "$base/plain?first" "$base/plain?second" 2>&1
    curl -sS -i -m 20 -H "x-row: $name" "$@" --data-binary "@$HOME/body" "$base/plain" 2>&1
}

calls "curl h1" https://http1.example | row "curl h1"
calls "curl h2" https://h2.example | row "curl h2"

mine() {
    git -c http.extraHeader="x-row: git" "$@" 2>&1
}
{
    rm -rf "$HOME/clone"
    mine clone -q https://git.example/git/a.git "$HOME/clone"
    cd "$HOME/clone" || exit 1
    git log --format=%H%s
    wc -c <large
    git checkout -q -b made
    git -c user.name=x -c user.email=x@x commit -q --allow-empty -m pushed 2>&1
    mine push -q origin HEAD:refs/heads/made && echo pushed
    mine push -q origin :refs/heads/made && echo removed
    mine ls-remote https://git.example/git/none.git
} | row git
