#!/bin/sh
# Collects an image's root file system, in a stage of the Dockerfile: image-root.sh ROOT FILE...
# Each FILE with the links on its way, the libraries and the loader that it needs, at their own paths; what the resolver of
# glibc reads; and for scanners dpkg's entry and the copyright of every package that something came from.
# Nothing in it names an architecture: paths are what ldd and dpkg say.
set -eu
root=$1
shift
packages=

main() {
    mkdir -p "$root/etc" "$root/var/lib/dpkg/status.d"
    # What container runtimes mount over, and they cannot make it where the root is read-only.
    mkdir "$root/dev" "$root/proc" "$root/run" "$root/sys"
    for file; do
        take "$file"
        # No library for a script or a library's own: ldd fails then, or says what is taken already.
        for needed in $(ldd "$file" 2>/dev/null | tr '[:blank:]' '\n' | grep '^/'); do
            take "$needed"
        done
    done
    resolver
    printf 'root:x:0:0:root:/:/sbin/nologin\nsidetrace:x:15100:15100:sidetrace:/:/sbin/nologin\n' >"$root/etc/passwd"
    printf 'root:x:0:\nsidetrace:x:15100:\n' >"$root/etc/group"
    describe
    # The same bytes from the same sources: times are the commit's.
    find "$root" -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH:-0}" {} +
}

# A file as it is; a link, then what it leads to.
take() {
    [ ! -e "$root$1" ] && [ ! -L "$root$1" ] || return 0
    mkdir -p "$root$(dirname "$1")"
    cp --no-dereference --preserve=mode "$1" "$root$1"
    if [ -L "$1" ]; then
        target=$(readlink "$1")
        case $target in /*) ;; *) target=$(dirname "$1")/$target ;; esac
        take "$target"
    else
        owner "$1"
    fi
}

# The package of a file. Where /lib is a link to /usr/lib dpkg may know it under either name. Our own have none.
owner() {
    case $1 in
    /usr/local/*) return 0 ;;
    # Made when it was installed.
    /etc/ssl/certs/ca-certificates.crt) packages="$packages ca-certificates" && return 0 ;;
    esac
    found=$(dpkg-query --search "$1" "/usr$1" "${1#/usr}" 2>/dev/null | grep -v '^diversion' | head -n 1)
    [ -n "$found" ] || {
        echo "no package has $1" >&2
        exit 1
    }
    found=${found%%: *}
    packages="$packages ${found%%:*}"
}

# Name resolution: since 2.34 glibc has `files` and `dns` in libc itself, and loads nothing for them.
resolver() {
    libc=$(find "$root" -name 'libc.so.6')
    grep -q _nss_dns_gethostbyname4_r "$libc" || {
        echo "this base's glibc is older than 2.34: its resolver needs files that are not collected" >&2
        exit 1
    }
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
}

# Who made what: a scanner takes the system from os-release and the packages from status.d.
describe() {
    cp -L /etc/os-release "$root/etc/os-release"
    # shellcheck disable=SC2086 # one word per package
    for package in $(printf '%s\n' $packages base-files | sort -u); do
        dpkg-query --status "$package" >"$root/var/lib/dpkg/status.d/$package"
        mkdir -p "$root/usr/share/doc/$package"
        cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/"
    done
    chmod -R u=rwX,go=rX "$root"
}

main "$@"
