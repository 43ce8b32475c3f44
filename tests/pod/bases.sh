#!/bin/bash
# Makes the base images of the pod tests under their real names, out of Debian's packages and this machine's own toolchains,
# where no image registry can be reached: bases.sh [NAME...], of debian, rust, python (these without a name) and node.
# What is there already, pulled or made, stays. They stand in: enough for our Dockerfile and the tests' agents, no more.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export CONTAINERS_CONF=${CONTAINERS_CONF:-$here/containers.conf}

main() {
    local name missing=()
    [ $# -gt 0 ] || set -- debian rust python
    command -v podman >/dev/null || "$here/../../.ci/system-packages" podman
    for name; do
        podman image exists "$(image_of "$name")" || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || exit 0
    "$here/../../.ci/system-packages" mmdebstrap runc netavark catatonit
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    for name in "${missing[@]}"; do
        echo "making $(image_of "$name")" >&2
        "make_$name" "$work/$name.tar" "$(image_of "$name")"
    done
}

image_of() {
    case $1 in
    debian) echo docker.io/library/debian:bookworm-slim ;;
    rust) echo docker.io/library/rust:1.95-slim-bookworm ;;
    python) echo docker.io/library/python:3.11-slim-bookworm ;;
    node) echo docker.io/library/node:20-bookworm-slim ;;
    *) echo "there is no base called $1" >&2 && exit 2 ;;
    esac
}

make_debian() {
    debian "$1"
    import "$1" "$2" --change 'CMD ["bash"]'
}

# The host's toolchain where the official image has its own; gcc and libc's headers, as there.
make_rust() {
    local toolchain
    toolchain=$(rustc --print sysroot)
    if [ ! -x "$toolchain/bin/cargo" ] || [ "$toolchain" = /usr ]; then
        echo "the Rust base needs a toolchain of rustup's: rustup toolchain install 1.95" >&2
        exit 1
    fi
    debian "$1" ca-certificates gcc libc6-dev
    mkdir -p "$work/bin/usr/local/cargo/bin"
    for program in cargo rustc rustdoc; do
        ln -s "/usr/local/rustup/toolchains/host/bin/$program" "$work/bin/usr/local/cargo/bin/$program"
    done
    append "$1" --directory "$toolchain" --exclude ./share --transform 's,^\.,usr/local/rustup/toolchains/host,S' .
    append "$1" --directory "$work/bin" usr
    import "$1" "$2" --change 'ENV RUSTUP_HOME=/usr/local/rustup' --change 'ENV CARGO_HOME=/usr/local/cargo' \
        --change "ENV PATH=/usr/local/cargo/bin:$path" --change 'CMD ["bash"]'
}

# `python` and `pip` install into the system's Python, as the official image's do into its own.
make_python() {
    debian "$1" ca-certificates python3-minimal python3-pip python3-venv
    mkdir -p "$work/python/usr/local/bin"
    ln -s /usr/bin/python3 "$work/python/usr/local/bin/python"
    printf '[global]\nbreak-system-packages = true\n' >"$work/pip.conf"
    append "$1" --directory "$work/python" usr
    append "$1" --directory "$work" --transform 's,^,etc/,' pip.conf
    import "$1" "$2" --change 'CMD ["python3"]'
}

# The host's node if it is one program with nothing but the C++ library beside it, as upstream's is; else Debian's.
make_node() {
    local node
    node=$(readlink -f "$(command -v node || echo /)")
    if [ -f "$node" ] && ! ldd "$node" | grep -q libnode; then
        debian "$1" ca-certificates libstdc++6
        append "$1" --directory "$(dirname "$node")" --transform 's,^,usr/local/bin/,' "$(basename "$node")"
    else
        debian "$1" ca-certificates nodejs
    fi
    import "$1" "$2" --change 'CMD ["node"]'
}

# A minimal Debian with these packages, as a tar; without what the slim images leave out.
debian() {
    local tar=$1 options=()
    shift
    [ $# -eq 0 ] || options+=("--include=$(IFS=,; echo "$*")")
    for folder in man info locale groff lintian linda; do
        options+=("--dpkgopt=path-exclude=/usr/share/$folder/*")
    done
    # shellcheck disable=SC2016 # mmdebstrap's shell expands the hooks
    # The registries of this machine may be behind an authority of its own, so its roots are taken along.
    mmdebstrap --quiet --variant=minbase "${options[@]}" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook='[ ! -d "$1/etc/ssl/certs" ] || cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"' \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin' \
        bookworm "$tar"
}

append() {
    tar --append --file "$1" --owner=0 --group=0 "${@:2}"
}

import() {
    local tar=$1 image=$2
    shift 2
    podman import --quiet --change "ENV PATH=$path" "$@" "$tar" "$image" >/dev/null
    rm "$tar"
}

path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
main "$@"
