#!/bin/sh
# The init image's entry point: lays the redirect (all arguments and SIDETRACE_* variables are init.sh's), then proves it.
# A pod whose redirect does not work does not start; an agent that nobody watches would look just like one at rest.
set -eu

script=/usr/local/bin/init.sh
ipv6=${SIDETRACE_REDIRECT_IPV6:-auto} option=
for word; do
    case $word in
    # Nothing is redirected afterwards, so there is nothing to prove.
    -h | --help | -n | --dry-run | --dry-run=true | --clean-up | --clean-up=true) exec "$script" "$@" ;;
    --ipv6=*) ipv6=${word#*=} ;;
    *) [ "$option" != --ipv6 ] || ipv6=$word ;;
    esac
    option=$word
done
case ${SIDETRACE_REDIRECT_DRY_RUN:-},${SIDETRACE_REDIRECT_CLEAN_UP:-} in *true*) exec "$script" "$@" ;; esac

"$script" "$@"
# The check goes to an address beyond this host; with --ipv6 loopback only ::1 is redirected.
case $ipv6 in loopback) ipv6=off ;; esac
exec /usr/local/bin/sidetrace check --ipv6 "$ipv6"
