#!/bin/sh
# Where the list in sidetrace.json comes from: runs the program's own tests with every sidecar under strace, and prints the
# system calls that were made and how often, with a star for what the profile does not allow: clone3, on purpose.
#   deploy/seccomp/trace.sh target/debug/deps/it-HASH [TEST...]      as root, after `make test`; needs strace
set -eu
cd "$(dirname "$0")/../.."
profile=$PWD/deploy/seccomp/sidetrace.json
program=$PWD/target/debug/sidetrace
traces=$(mktemp -d)
trap 'rm -rf "$traces"' EXIT
cp "$program" "$traces/sidetrace"
cat >"$traces/traced" <<END
#!/bin/sh
[ "\$1" = proxy ] || exec $traces/sidetrace "\$@"
exec strace -D -f -qq -e signal=none -o $traces/trace.\$\$ $traces/sidetrace "\$@"
END
chmod 755 "$traces/sidetrace" "$traces/traced"
chmod 1777 "$traces"

# In a mount namespace of its own, so that nobody else's program is exchanged. Slowness may fail a test: that is no matter.
# shellcheck disable=SC2016 # the inner shell expands it
unshare -m sh -c 'mount --bind "$1" "$2" && shift 2 && exec "$@"' sh "$traces/traced" "$program" "$@" ||
    echo "Some tests failed: what they did counts all the same." >&2
python3 - "$profile" "$traces"/trace.* <<'END'
import collections, json, re, sys

allowed = {name for rule in json.load(open(sys.argv[1]))["syscalls"] for name in rule["names"]}
made = collections.Counter()
for trace in sys.argv[2:]:
    for line in open(trace, errors="replace"):
        call = re.match(r"\d+ +([a-z0-9_]+)\(", line)
        if call:
            made[call[1]] += 1
for name, count in sorted(made.items()):
    print(f"{name:20}{count:8}{'' if name in allowed else '  *'}")
END
