#!/bin/sh
# Redirects the TCP of this network namespace to Sidetrace: outbound to 15101, inbound to 15106 where asked for.
# It stands before everything else on the path: the init container runs it, so do `sidetrace run` and the tests.
# Needs CAP_NET_ADMIN and iptables-restore with its twin iptables-save, nft or legacy; all else is the shell itself,
# and nothing is written to disk, so a read-only root will do.
# shellcheck disable=SC2034,SC2154 # the variables of the option table are assigned through eval
set -fu
PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
nl='
'

# ---- What is asked for -----------------------------------------------------------------------------------------------

# variable|,spellings,|name after SIDETRACE_|kind|default|meaning. Names are Istio's where the meaning is, with Istio's
# own spelling beside ours. Kinds: one value, a list, any (a list, or * for all), a choice of words.
options='
outbound_port|,-p,--outbound-port,--envoy-port,|OUTBOUND_PORT|one port|15101|where outbound TCP goes
inbound_port|,-z,--inbound-capture-port,--inbound-port,|INBOUND_PORT|one port|15106|where inbound TCP goes
mark|,--proxy-mark,|MARK|one mark|none|exempt what carries this mark; then no owners are exempt unless named
uids|,-u,--proxy-uid,|UID|list id|15100|exempt the traffic of these users
gids|,-g,--proxy-gid,|GID|list id|15100|exempt the traffic of these groups
mesh_uids|,--mesh-uid,|REDIRECT_MESH_UID|list id|1337,2102|exempt the proxies of a mesh beside us
owner_gids|,--outbound-owner-groups,--owner-gids,|REDIRECT_OUTBOUND_OWNER_GROUPS|any id|none|redirect what processes with these primary groups send, besides --outbound-owner-users
owner_uids|,--outbound-owner-users,--owner-uids,|REDIRECT_OUTBOUND_OWNER_USERS|any id|*|redirect what these users send (numeric ids); none by default with --outbound-owner-groups
outbound_ports|,-q,--outbound-ports,--istio-outbound-ports,|REDIRECT_OUTBOUND_PORTS|any ports|none|redirect these ports, besides --service-cidr and wherever they lead
outbound_cidrs|,-i,--service-cidr,--istio-service-cidr,|REDIRECT_SERVICE_CIDR|any cidr|*|redirect these destinations, loopback only if it is among them; none by default with --outbound-ports
outbound_not_ports|,-o,--local-outbound-ports-exclude,--istio-local-outbound-ports-exclude,|REDIRECT_LOCAL_OUTBOUND_PORTS_EXCLUDE|list ports|none|but not these ports
outbound_not_cidrs|,-x,--service-exclude-cidr,--istio-service-exclude-cidr,|REDIRECT_SERVICE_EXCLUDE_CIDR|list cidr|none|but not these destinations
loopback|,--loopback,|REDIRECT_LOOPBACK|choice on off|on|off: leave 127.0.0.0/8 and ::1 alone (also --no-loopback)
quic|,--quic,|REDIRECT_QUIC|choice refuse allow|refuse|refuse UDP 443 wherever TCP 443 is redirected (also --allow-quic)
inbound_ports|,-b,--inbound-ports,--istio-inbound-ports,|REDIRECT_INBOUND_PORTS|any ports|none|redirect what comes in for these ports
inbound_cidrs|,--inbound-cidr,|REDIRECT_INBOUND_CIDR|any cidr|*|if it comes from these sources
inbound_not_ports|,-d,--local-exclude-ports,--istio-local-exclude-ports,|REDIRECT_LOCAL_EXCLUDE_PORTS|list ports|none|but not these ports
inbound_not_cidrs|,--inbound-exclude-cidr,|REDIRECT_INBOUND_EXCLUDE_CIDR|list cidr|none|but not from these sources
interfaces|,--include-interfaces,|REDIRECT_INCLUDE_INTERFACES|any interface|*|redirect on these interfaces only, in both directions
not_interfaces|,-c,--exclude-interfaces,--istio-exclude-interfaces,|REDIRECT_EXCLUDE_INTERFACES|list interface|none|not on these interfaces, in both directions
own_ports|,--own-ports,|REDIRECT_OWN_PORTS|list ports|15100,15107,15120|our other listeners, never redirected at addresses of this namespace
otlp_ports|,--otlp-ports,|REDIRECT_OTLP_PORTS|list ports|4317,4318|our listeners on loopback, never redirected there
ipv6|,--ipv6,|REDIRECT_IPV6|choice auto on loopback off|auto|auto: on with a route beyond this host, loopback with no more than ::1, off without IPv6
iptables|,--iptables,|REDIRECT_IPTABLES|choice auto nft legacy plain|auto|which iptables; auto: the one in use here, or the first that works
wait|,--wait,|REDIRECT_WAIT|one seconds|10|seconds to wait for the xtables lock
dry_run|,-n,--dry-run,|REDIRECT_DRY_RUN|choice true false|false|print what a fresh namespace would be given, do nothing
clean_up|,--clean-up,|REDIRECT_CLEAN_UP|choice true false|false|take away all that an earlier run laid, and nothing else
'

help() {
    printf '%s\n' 'usage: init.sh [OPTION]...' \
        'Redirects the TCP of this network namespace to Sidetrace. A later run replaces what an earlier one laid.' \
        'The command line wins over the environment. Lists are comma separated; ports may be ranges, 8000-8100 or 8000:8100;' \
        'an IPv6 CIDR concerns IPv6 only; none is the empty list. What is excluded stays so whatever includes it.' ''
    for_each_option help_one
    printf '\n%s\n' 'Exit code: 0 done, 1 refused by the kernel or iptables (nothing of ours is left then), 2 bad usage.'
}

help_one() {
    spellings=${2#,}
    printf '  %s  [SIDETRACE_%s=%s]\n      %s\n' "${spellings%,}" "$3" "$5" "$6"
}

# Calls $1 with the columns of each row.
for_each_option() {
    IFS=$nl
    for row in $options; do
        IFS='|'
        # shellcheck disable=SC2086 # the splitting is the point
        set -- "$1" $row
        unset IFS
        "$@"
        IFS=$nl
    done
    unset IFS
}

forget() { unset -v "$1"; }

parse() {
    # Of the environment only SIDETRACE_* counts.
    for_each_option forget
    while [ $# -gt 0 ]; do
        case $1 in
        -h | --help) help && exit ;;
        -n | --dry-run) dry_run=true ;;
        --clean-up) clean_up=true ;;
        --no-loopback) loopback=off ;;
        --allow-quic) quic=allow ;;
        --*=*) assign "${1%%=*}" "${1#*=}" ;;
        *) assign "$@" && shift ;;
        esac
        shift
    done
}

# assign SPELLING VALUE. An empty value is the empty list, as in Istio; an empty environment variable is an unset one.
assign() {
    case $1 in *,* | [!-]*) row=$options ;; *) row=${options%%",$1,"*} ;; esac
    [ "$row" != "$options" ] || { problem "$1" 'there is no such option; --help lists them' && return 1; }
    [ $# -gt 1 ] || { problem "$1" 'a value must follow' && return 1; }
    row=${row##*"$nl"}
    eval "${row%%|*}=\${2:-none}"
}

# Every value is checked, so that all problems show at once and nothing but clean words reaches iptables-restore.
resolve() {
    for_each_option resolve_one
    for name in $(set | unknown_names); do problem "$name" 'there is no such variable; --help lists them'; done
    [ -z "$outbound_port" ] || [ "$outbound_port" != "$inbound_port" ] ||
        problem "--inbound-capture-port (SIDETRACE_INBOUND_PORT) '$inbound_port'" 'accepted is any port but --outbound-port'
    # Sidetrace would otherwise be redirected to itself, until it is out of file descriptors.
    [ -n "$uids$gids$mark" ] ||
        problem "--proxy-uid (SIDETRACE_UID) 'none'" 'accepted only with --proxy-gid or --proxy-mark, to exempt Sidetrace itself'
    [ -z "$problems" ] || { printf '%s' "$problems" >&2 && exit 2; }
    uids="$uids$mesh_uids"
    own_ports="$outbound_port $inbound_port $own_ports"
    [ "$ipv6" != auto ] || ipv6=$(ipv6_extent /proc/net)
}

resolve_one() {
    default=$5
    case $1 in
    # A user namespace cannot match owners, so a mark stands for all of them that were not asked for by name.
    uids | gids | mesh_uids) [ -z "$mark" ] || default=none ;;
    owner_uids) [ -z "$owner_gids" ] || default=none ;;
    outbound_cidrs) [ -z "$outbound_ports" ] || default=none ;;
    esac
    option=${2#*,--}
    eval "said=\${SIDETRACE_$3:-}"
    # What Kubernetes adds for a Service called sidetrace-outbound, tcp://ADDRESS:PORT, says nothing. Nor to the sidecar.
    case $3,$said in *_PORT,*://*) said= ;; esac
    eval "given=\${$1:-\${said:-\$default}}"
    where="--${option%%,*} (SIDETRACE_$3)"
    # shellcheck disable=SC2086 # the kind is words
    check $4
    eval "$1=\$value"
}

# check one KIND | list KIND | any KIND | choice WORD...: $given into its clean form, $value
check() {
    how=$1 value=
    shift
    case $how,$given in
    any,'*') value='*' ;;
    list,none | any,none) ;;
    choice,*)
        value=$given
        for word; do [ "$given" != "$word" ] || return 0; done
        refuse "$given" "one of $*"
        ;;
    one,*) value=$("$1" "$given") || refuse "$given" "$(accepted "$1")" ;;
    *)
        for item in $(words "$given"); do
            value="$value$("$1" "$item") " || refuse "$item" "$(accepted "$1")"
        done
        ;;
    esac
}

problems=
problem() { problems="${problems}sidetrace-init: $1: $2$nl"; }
refuse() { problem "$where '$1'" "accepted is $2"; }
say() { printf 'sidetrace-init: %s\n' "$*" >&2; }

# A mistyped name would silently redirect what was to be left alone.
unknown_names() {
    while IFS='=' read -r name _; do
        case $name in SIDETRACE_REDIRECT_*) ;; *) continue ;; esac
        # What Kubernetes adds for a Service called sidetrace-redirect.
        case $name in *_SERVICE_HOST | *_SERVICE_PORT* | *_PORT | *_PORT_*) continue ;; esac
        case $options in *"|${name#SIDETRACE_}|"*) ;; *) echo "$name" ;; esac
    done
}

accepted() {
    case $1 in
    port) echo 'a port from 1 to 65535' ;;
    ports) echo 'ports from 1 to 65535 and ranges such as 8000-8100' ;;
    id) echo 'numeric ids' ;;
    mark) echo 'a mark from 1 to 0xffffffff with an optional /mask, neither of them 0' ;;
    cidr) echo 'addresses and CIDRs such as 10.0.0.0/8 and fd00::/8' ;;
    interface) echo 'interface names such as eth0 and eth+' ;;
    seconds) echo 'a number of seconds from 0 to 86400' ;;
    esac
}

words() (
    IFS=", $nl"
    # shellcheck disable=SC2086
    set -- $1
    unset IFS
    echo "$*"
)

# number VALUE LOW HIGH. No leading zeros: iptables would take them for octal.
number() {
    case $1 in 0) ;; '' | 0* | *[!0-9]* | ???????????*) return 1 ;; esac
    [ "$1" -ge "$2" ] && [ "$1" -le "$3" ] && printf '%s' "$1"
}

port() { number "$1" 1 65535; }
id() { number "$1" 0 4294967294; }
seconds() { number "$1" 0 86400; }

ports() {
    case $1 in
    *[-:]*) port "${1%%[-:]*}" >/dev/null && printf '%s:' "${1%%[-:]*}" && number "${1#*[-:]}" "${1%%[-:]*}" 65535 ;;
    *) port "$1" ;;
    esac
}

mark() {
    [ "$1" = none ] && return
    case $1 in */*) bits "${1#*/}" || return ;; esac
    bits "${1%%/*}" && printf '%s' "$1"
}

# 0 would be the mark of all traffic that has none.
bits() {
    case $1 in
    0x*[!0-9a-fA-F]* | 0x?????????*) return 1 ;;
    0x*[1-9a-fA-F]*) ;;
    *) number "$1" 1 4294967295 >/dev/null ;;
    esac
}

interface() {
    case $1 in '' | + | [!A-Za-z0-9_]* | *[!A-Za-z0-9_.:+-]* | *+?* | ????????????????*) return 1 ;; esac
    printf '%s' "$1"
}

cidr() {
    case $1 in *:*) length=128 ;; *) length=32 ;; esac
    case $1 in */*) number "${1#*/}" 0 $length >/dev/null || return ;; esac
    case $1 in *:*) address6 "${1%%/*}" ;; *) address4 "${1%%/*}" ;; esac && printf '%s' "$1"
}

address4() (
    case $1 in *. | .* | *..*) return 1 ;; esac
    IFS=.
    # shellcheck disable=SC2086
    set -- $1
    [ $# -eq 4 ] || return
    for octet; do number "$octet" 0 255 >/dev/null || return; done
)

address6() (
    case $1 in *[!0-9a-fA-F:]* | *:::* | *::*::* | *[!:]: | :[!:]*) return 1 ;; esac
    address=$1
    IFS=:
    # shellcheck disable=SC2086
    set -- $1
    groups=0
    for group; do
        case $group in '') continue ;; ?????*) return 1 ;; esac
        groups=$((groups + 1))
    done
    case $address in *::*) [ $groups -le 7 ] ;; *) [ $groups -eq 8 ] ;; esac
)

# ---- The rules -------------------------------------------------------------------------------------------------------
# All of these print lines for iptables-restore. $1 is 4 or 6.

# rule CHAIN TARGET [MATCH VALUE]...: a value of * matches everything and so needs no match
rule() {
    line="-A $1" target=$2
    shift 2
    while [ $# -gt 0 ]; do
        [ "$2" = '*' ] || line="$line $1 $2"
        shift 2
    done
    printf '%s -j %s\n' "$line" "$target"
}

# Where our jumps stand beside a mesh's (Istio's and Linkerd's append theirs, and a REDIRECT ends the walk):
# outbound first, so that we see plaintext; what we then send on is exempt here and RETURNs into the mesh's rules.
# Inbound last, so that the mesh keeps its ciphertext; ahead of it we would hand mutual TLS to the agent.
nat_rules() {
    printf ':SIDETRACE_OUTPUT - [0:0]\n-I OUTPUT 1 -p tcp -j SIDETRACE_OUTPUT\n'
    [ -z "$inbound_ports" ] || printf ':SIDETRACE_INBOUND - [0:0]\n-A PREROUTING -p tcp -j SIDETRACE_INBOUND\n'
    untouched SIDETRACE_OUTPUT "$1"
    for port in $own_ports; do
        rule SIDETRACE_OUTPUT RETURN -p tcp --dport "$port" '-m addrtype' '--dst-type LOCAL'
    done
    for port in $otlp_ports; do rule SIDETRACE_OUTPUT RETURN -d "$(loopback_cidr "$1")" '-p tcp' "--dport $port"; done
    for port in $outbound_not_ports; do rule SIDETRACE_OUTPUT RETURN -p tcp --dport "$port"; done
    for interface in $interfaces; do
        outbound_matches "$1" | while read -r match value; do
            rule SIDETRACE_OUTPUT "REDIRECT --to-ports $outbound_port" -o "$interface" -p tcp "$match" "$value"
        done
    done
    [ -z "$inbound_ports" ] || inbound_rules "$1"
}

inbound_rules() {
    # What is only forwarded here would be refused at 15106.
    rule SIDETRACE_INBOUND RETURN '-m addrtype' '! --dst-type LOCAL'
    for interface in $not_interfaces; do rule SIDETRACE_INBOUND RETURN -i "$interface"; done
    for cidr in $(of_family "$1" "$inbound_not_cidrs"); do rule SIDETRACE_INBOUND RETURN -s "$cidr"; done
    for port in $own_ports $otlp_ports $inbound_not_ports; do rule SIDETRACE_INBOUND RETURN -p tcp --dport "$port"; done
    for interface in $interfaces; do
        for cidr in $(of_family "$1" "$inbound_cidrs"); do
            for port in $inbound_ports; do
                rule SIDETRACE_INBOUND "REDIRECT --to-ports $inbound_port" -s "$cidr" -i "$interface" -p tcp --dport "$port"
            done
        done
    done
}

# UDP 443 is refused exactly where TCP 443 would be redirected, loopback included: elsewhere there is nothing to
# gain from it. The program's send fails at once with EPERM and, on a connected socket, ECONNREFUSED follows.
filter_rules() {
    refuses_quic || return 0
    printf ':SIDETRACE_QUIC - [0:0]\n-I OUTPUT 1 -p udp --dport 443 -j SIDETRACE_QUIC\n'
    untouched SIDETRACE_QUIC "$1"
    case $1 in 4) reject=icmp-port-unreachable ;; 6) reject=icmp6-port-unreachable ;; esac
    for interface in $interfaces; do
        outbound_matches "$1" | while read -r match value; do
            [ "$match" = -d ] || { has_port 443 "$value" && match=-d value='*'; } || continue
            rule SIDETRACE_QUIC "REJECT --reject-with $reject" -o "$interface" -p udp "$match" "$value"
        done
    done
}

# Sidetrace's own traffic and a mesh's, that of owners who were not asked for, and destinations that are not to be touched.
untouched() {
    for uid in $uids; do rule "$1" RETURN -m owner --uid-owner "$uid"; done
    for gid in $gids; do rule "$1" RETURN -m owner --gid-owner "$gid"; done
    [ -z "$mark" ] || rule "$1" RETURN -m mark --mark "$mark"
    everybody || printf '%s\n' "-A $1$(others) -j RETURN"
    [ "$2$ipv6" != 6loopback ] || rule "$1" RETURN '! -d' ::1/128
    [ "$loopback" = on ] || rule "$1" RETURN -d "$(loopback_cidr "$2")"
    for interface in $not_interfaces; do rule "$1" RETURN -o "$interface"; done
    for cidr in $(of_family "$2" "$outbound_not_cidrs"); do rule "$1" RETURN -d "$cidr"; done
}

# Whether it matters who sends.
everybody() { case "$owner_uids $owner_gids" in *'*'*) ;; *) return 1 ;; esac }

# The matches for whoever is none of the owners asked for, the kernel and forwarded traffic included.
others() {
    for uid in $owner_uids; do printf ' -m owner ! --uid-owner %s' "$uid"; done
    for gid in $owner_gids; do printf ' -m owner ! --gid-owner %s' "$gid"; done
}

# A line "MATCH VALUE" for each rule that is to redirect. As in Istio the lists add up.
outbound_matches() {
    case "$outbound_cidrs $outbound_ports" in *'*'*) echo '-d *' && return ;; esac
    for port in $outbound_ports; do echo "--dport $port"; done
    for cidr in $(of_family "$1" "$outbound_cidrs"); do echo "-d $cidr"; done
}

refuses_quic() {
    [ "$quic" = refuse ] || return
    for port in $outbound_not_ports; do has_port 443 "$port" && return 1; done
    return 0
}

# has_port PORT RANGE
has_port() { [ "$1" -ge "${2%:*}" ] && [ "$1" -le "${2#*:}" ]; }

loopback_cidr() { case $1 in 4) echo 127.0.0.0/8 ;; 6) echo ::1/128 ;; esac }

of_family() {
    for cidr in $2; do
        case $1$cidr in 4*:*) ;; 4* | 6*:* | 6'*') printf '%s ' "$cidr" ;; esac
    done
}

# ---- Laying them -----------------------------------------------------------------------------------------------------
# Everything for one family goes through one iptables-restore --noflush, a transaction for each table: at no moment is
# the redirect missing or doubled. What was there of ours is read first, so a re-run ends where a first run would.

# tool FAMILY FLAVOUR restore|save
tool() {
    case $1 in 4) tool=iptables ;; 6) tool=ip6tables ;; esac
    case $2 in plain) echo "$tool-$3" ;; *) echo "$tool-$2-$3" ;; esac
}

has() { command -v "$(tool "$1" "$2" restore)" && command -v "$(tool "$1" "$2" save)"; } >/dev/null

restore() { "$(tool "$1" "$2" restore)" --wait="$wait" --noflush; }

# Without -t, because legacy would make a table in order to print it.
saved() { has "$1" "$2" && "$(tool "$1" "$2" save)" 2>/dev/null; }

# With -t, for what is about to be written, because a user namespace may not list the legacy tables there are.
saved_tables() {
    none=1
    for table in nat filter; do "$(tool "$1" "$2" save)" -t $table 2>/dev/null && none=0; done
    return $none
}

# transaction TABLE RULES: what turns the state on standard input into one that has RULES of ours and nothing else
transaction() {
    table='' jumps='' chains='' stale=''
    while read -r line; do
        case $line in \**) table=${line#\*} ;; esac
        [ "$table" = "$1" ] || continue
        case $line in
        :SIDETRACE_*)
            chain=${line#:} chain=${chain%% *}
            case $2 in *":$chain "*) ;; *) chains="$chains:$chain - [0:0]$nl" stale="$stale-X $chain$nl" ;; esac
            ;;
        '-A SIDETRACE_'* | '-A '*' -j SIDETRACE_'*[!A-Z_]*) ;;
        '-A '*' -j SIDETRACE_'*) jumps="$jumps-D ${line#-A }$nl" ;;
        esac
    done
    [ -z "$jumps$chains$2" ] || printf '*%s\n%s%s%s%sCOMMIT\n' "$1" "$chains" "$jumps" "${2:+$2$nl}" "$stale"
}

# lay FAMILY FLAVOUR
lay() {
    error=$(rules "$1" "$(saved_tables "$1" "$2")" | restore "$1" "$2" 2>&1) && return
    say "$(tool "$1" "$2" restore) failed: $error"
    diagnose "$1" "$2"
    return 1
}

# rules FAMILY STATE
rules() {
    printf '%s\n' "$2" | transaction nat "$(nat_rules "$1")"
    printf '%s\n' "$2" | transaction filter "$(filter_rules "$1")"
}

# clean FAMILY FLAVOUR STATE
clean() {
    commands=$(for table in nat filter; do printf '%s\n' "$3" | transaction $table ''; done)
    [ -n "$commands" ] || return 0
    if [ "$dry_run" = true ]; then
        printf '# %s --noflush\n%s\n' "$(tool "$1" "$2" restore)" "$commands"
    else
        printf '%s\n' "$commands" | restore "$1" "$2"
    fi
}

# Whichever flavour an earlier run used, whichever it is that goes by the plain name.
clean_up() {
    none=1 status=0
    for flavour in nft legacy plain; do
        for family in 4 6; do
            has $family $flavour || continue
            if state=$(saved $family $flavour) || state=$(saved_tables $family $flavour); then
                clean $family $flavour "$state" || status=1
                none=0
            elif forbidden $family $flavour; then
                status=1
            fi
        done
    done
    [ $none$status = 00 ]
}

# To restore, legacy does not say why it may not; to save, it does.
forbidden() {
    case $("$(tool "$1" "$2" save)" -t nat 2>&1 >/dev/null) in *ermission* | *'not permitted'*) ;; *) return 1 ;; esac
}

roll_back() {
    if clean_up; then say 'so nothing is redirected now, and what there was of ours is gone'; else unreadable; fi
    exit 1
}

unreadable() { say 'the rules of this namespace cannot be read or changed'; }

# probe FAMILY FLAVOUR TABLE [RULE]: does the kernel take this rule? In a chain that is hooked up, for some checks are
# made only then, but behind a protocol that nobody speaks. Left for the next transaction to remove, as all of ours.
probe() {
    printf '*%s\n:SIDETRACE_PROBE - [0:0]\n-I OUTPUT -p 253 -j SIDETRACE_PROBE\n%sCOMMIT\n' "$3" "${4+-A SIDETRACE_PROBE $4$nl}" |
        restore "$1" "$2" 2>&1
}

# The flavour that others already use in this namespace, since nft's and legacy's rules have no order among them;
# else the first that works. What is only installed need not work: that depends on the kernel.
choose_flavour() {
    case $iptables in
    auto) if [ "$(foreign legacy)" -gt "$(foreign nft)" ]; then set -- legacy nft plain; else set -- nft legacy plain; fi ;;
    *) set -- "$iptables" ;;
    esac
    tried=
    for flavour; do
        if ! has 4 "$flavour"; then
            error='not in PATH'
        elif error=$(probe 4 "$flavour" nat '-p tcp -j REDIRECT --to-ports 1'); then
            return
        fi
        tried="$tried$nl  $(tool 4 "$flavour" restore): $error"
    done
    say "no iptables here can redirect:$tried"
    for flavour; do
        has 4 "$flavour" || continue
        diagnose 4 "$flavour"
        break
    done
    roll_back
}

# How many rules and chains that are not ours a flavour holds.
foreign() {
    count=0
    for family in 4 6; do saved $family "$1"; done | {
        while read -r line; do
            case $line in *SIDETRACE_*) ;; -A* | :*' - ['*) count=$((count + 1)) ;; esac
        done
        echo $count
    }
}

# Which piece is missing, and what to do without it.
diagnose() {
    if forbidden "$1" "$2"; then say 'this needs CAP_NET_ADMIN (legacy also CAP_NET_RAW) here' && return; fi
    case $error in *'xtables lock'*) say '--wait SECONDS (SIDETRACE_REDIRECT_WAIT) waits longer' && return ;; esac
    modules='on the node, or try another --iptables'
    case $1 in 4) instead="load iptable_nat or nft_chain_nat $modules" ;; 6) instead='--ipv6 off leaves IPv6 alone' ;; esac
    need nat 'the nat table' "$instead" "$@" || return
    need nat 'the REDIRECT target' "load xt_REDIRECT $modules" "$@" '-p tcp -j REDIRECT --to-ports 1'
    instead='--proxy-mark exempts by mark instead (a user namespace cannot match ids that it does not map)'
    for uid in $uids; do need nat "the owner match for uid $uid" "$instead" "$@" "-m owner --uid-owner $uid" || break; done
    for gid in $gids; do need nat "the owner match for gid $gid" "$instead" "$@" "-m owner --gid-owner $gid" || break; done
    everybody || need_owners "$@"
    [ -z "$mark" ] || need nat 'the mark match' '-u or -g exempt by owner instead' "$@" "-m mark --mark $mark"
    need nat 'the addrtype match' "load xt_addrtype $modules" "$@" '-m addrtype --dst-type LOCAL'
    refuses_quic || return
    need filter 'the filter table' '--allow-quic does without' "$@" || return
    need filter 'the REJECT target' '--allow-quic does without' "$@" '-p udp -j REJECT'
}

need_owners() {
    instead="without --outbound-owner-users and --outbound-owner-groups everybody's traffic is redirected"
    for uid in $owner_uids; do need nat "the owner match for uid $uid" "$instead" "$@" "-m owner ! --uid-owner $uid" || return; done
    for gid in $owner_gids; do need nat "the owner match for gid $gid" "$instead" "$@" "-m owner ! --gid-owner $gid" || return; done
}

# need TABLE PIECE ALTERNATIVE FAMILY FLAVOUR [RULE]
need() {
    probe "$4" "$5" "$1" ${6+"$6"} >/dev/null && return
    say "IPv$4 lacks $2 here: $3"
    return 1
}

# ---- From start to end -----------------------------------------------------------------------------------------------

# Without a route beyond this host only ::1 is redirected: accepting for a family that leads nowhere would make clients
# which try both (happy eyeballs) settle on the dead one.
ipv6_extent() {
    { read -r _ <"$1/if_inet6"; } 2>/dev/null || { echo off && return; }
    while read -r destination _ _ _ _ metric _ _ flags _; do
        # The kernel's null route; local addresses (RTF_LOCAL); ::1, link-local, multicast.
        case $metric in ffffffff) continue ;; esac
        case $flags in [89a-f]*) continue ;; esac
        case $destination in 00000000000000000000000000000001 | fe[89ab]* | ff*) continue ;; esac
        echo on
        return
    done <"$1/ipv6_route"
    echo loopback
}

print_rules() {
    echo '# iptables-restore --noflush'
    rules 4 ''
    echo '# ip6tables-restore --noflush'
    [ "$ipv6" = off ] || rules 6 ''
}

# Legacy iptables wants to create its lock file. Any file will do that flock(2) takes, and this one is always there.
lock_file() { [ -w /run/xtables.lock ] || [ -w /run ] || export XTABLES_LOCKFILE="${XTABLES_LOCKFILE:-/dev/null}"; }

# What earlier runs laid elsewhere: through the other flavour, or for IPv6 when that is off now.
leave_only() {
    for other in nft legacy "$1"; do
        for family in 4 6; do
            case $1 in "$other" | plain) [ "$family$ipv6" = 6off ] || continue ;; esac
            clean $family "$other" "$(saved $family "$other")" || return
        done
    done
}

summary() {
    case $ipv6 in on) families='IPv4, IPv6' ;; loopback) families='IPv4, ::1' ;; off) families=IPv4 ;; esac
    inbound="inbound TCP to $inbound_port (ports $inbound_ports)"
    owners=
    everybody || owners="of uid ${owner_uids:-none }gid ${owner_gids:-none }"
    say "by iptables ($flavour; $families): outbound TCP ${owners}to $outbound_port; ${inbound_ports:+$inbound; }UDP 443: $quic"
    say "exempt: uid ${uids:-none }gid ${gids:-none }mark ${mark:-none}"
}

main() {
    parse "$@"
    resolve
    lock_file
    if [ "$clean_up" = true ]; then
        clean_up || { unreadable && exit 1; }
        [ "$dry_run" = true ] || say 'nothing of ours is left'
    elif [ "$dry_run" = true ]; then
        print_rules
    else
        choose_flavour
        lay 4 "$flavour" || roll_back
        if [ "$ipv6" != off ]; then
            has 6 "$flavour" || { say "no $(tool 6 "$flavour" restore) in PATH: --ipv6 off leaves IPv6 alone" && roll_back; }
            lay 6 "$flavour" || roll_back
        fi
        leave_only "$flavour" || roll_back
        summary
    fi
}

main "$@"
