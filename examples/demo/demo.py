"""`make demo`: demo.py SIDETRACE [NODE_MODULES]

Makes a pod and the world around it from namespaces, runs unmodified agents in the pod beside the sidecar, and prints
their traces as a collector delivered them. Exit code 0 only if they are the traces that the calls must make.

    world                                             pod
    llm.demo, tools.demo, weather.demo, collector  <-- veth --> sidecar, planner.demo, agent.py, agent.mjs
"""
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True  # or a run as root leaves files in the tree that its owner cannot remove
HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
UID = "15100"
NEEDS = {"ip": "iproute2", "iptables": "iptables", "unshare": "util-linux", "nsenter": "util-linux",
         "setpriv": "util-linux", "mount": "mount"}
NAMESPACES = ["--net", "--mount", "--pid", "--fork", "--kill-child"]
MAPPED_ROOT = ["--user", "--map-root-user"]

WORLD, WORLD6, POD, POD6 = "10.231.0.2", "fd00:231::2", "10.231.0.1", "fd00:231::1"
IN_POD = ["nsenter", "--net=/run/netns/pod", "--"]
SCRATCH = Path("/run/demo")  # on a tmpfs that dies with the namespaces
# Nothing of the caller's environment gets in: a proxy variable or an OTEL_ name would change what is shown.
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TERM") if name in os.environ}


class Failure(Exception):
    pass


# ---- outside the namespaces


def outside(sidetrace, node_modules=PROJECT / "target/tools/node/node_modules"):
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # Debian leaves these out for ordinary users
    if missing := sorted({package for tool, package in NEEDS.items() if not shutil.which(tool)}):
        sys.exit(f"demo: first run: sudo apt-get install -y --no-install-recommends {' '.join(missing)}")
    if works("unshare", *NAMESPACES, "setpriv", "--reuid", UID, "--regid", UID, "--clear-groups", "true"):
        exempt, user = "uid", []
    elif works("unshare", *MAPPED_ROOT, *NAMESPACES, "true"):
        exempt, user = "mark", MAPPED_ROOT
    else:
        sys.exit("demo: this machine lets this user make no namespaces. Run it as root; or, on Ubuntu,\n"
                 "      sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    # A session of its own, so that Ctrl-C ends this process alone; the inside ends when its standard input does,
    # which is also what happens when this process is killed.
    inner = subprocess.Popen(
        ["unshare", *user, *NAMESPACES, sys.executable, __file__, "--inside", exempt, Path(sidetrace).resolve(),
         Path(node_modules).resolve()], stdin=subprocess.PIPE, start_new_session=True)
    try:
        sys.exit(inner.wait())
    finally:
        inner.stdin.close()
        inner.wait()


def works(*command):
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


# ---- inside: process 1 of the namespaces, in the world; when it ends, everything in them does


def inside(exempt, sidetrace, node_modules):
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(130)), daemon=True).start()
    began = time.monotonic()
    try:
        make_namespaces()
        import traces  # not at the top: the outside needs none of its packages

        receiver, collector = start_world(traces)
        sidecar = start_sidecar(exempt, sidetrace)
        agents = run_agents(Path(node_modules))
        for process in (sidecar, collector):  # each hands on what it holds
            process.send_signal(signal.SIGTERM)
            until(f"{process.name} flushes and ends after SIGTERM", 10, lambda: process.poll() is not None)
        roots = receiver.roots()
        traces.show(roots)
        print()
        if sidecar.returncode:
            raise Failure(f"the sidecar ended with {sidecar.returncode} after SIGTERM, not 0")
        if problems := traces.difference(roots, agents):
            raise Failure("\n  ".join(["these are not the traces that the calls must make:", *problems]))
    except (Failure, subprocess.SubprocessError, OSError) as problem:
        for log in sorted(SCRATCH.glob("*.log")):
            if lines := log.read_text(errors="replace").splitlines()[-15:]:
                print(f"--- {log.stem}", *lines, sep="\n")
        print(f"demo failed: {problem}")
        return 1
    print(f"{len(roots)} traces, {len(receiver.calls)} spans, as they must be, in {time.monotonic() - began:.1f} s.")
    return 0


def make_namespaces():
    # Besides making room, this hides the sockets by which name look-ups would reach the host's resolvers.
    run("mount", "-t", "tmpfs", "-o", "mode=755", "none", "/run")
    SCRATCH.mkdir()
    disabled = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    ipv6 = disabled.exists() and disabled.read_text().strip() == "0"
    run("ip", "netns", "add", "pod")
    run("ip", "link", "add", "pod0", "type", "veth", "peer", "name", "eth0", "netns", "pod")
    configure = lambda *lines: "\n".join(line for line in lines if ipv6 or ":" not in line)
    run("ip", "-batch", "-", input=configure(
        f"addr add {WORLD}/24 dev pod0", f"addr add {WORLD6}/64 dev pod0 nodad", "link set lo up", "link set pod0 up"))
    run(*IN_POD, "ip", "-batch", "-", input=configure(
        f"addr add {POD}/24 dev eth0", f"addr add {POD6}/64 dev eth0 nodad", "link set lo up", "link set eth0 up",
        f"route add default via {WORLD}", f"route add default via {WORLD6}"))

    weather = WORLD6 if ipv6 else WORLD  # by this name alone, so that IPv6 is used where it exists
    cover("/etc/hosts", f"127.0.0.1 localhost planner.demo\n{WORLD} tools.demo llm.demo\n{weather} weather.demo\n")
    cover("/etc/resolv.conf", "")


def start_world(traces):
    receiver = traces.Receiver(("127.0.0.1", 4319))
    program = Path(importlib.util.find_spec("rotel").origin).with_name("rotel-agent")
    rotel = start("collector", program, "start", "--otlp-grpc-endpoint", f"{WORLD}:4317", "--exporter", "otlp",
                  "--otlp-exporter-endpoint", "http://127.0.0.1:4319", "--otlp-exporter-protocol", "http")
    world = start("services", sys.executable, HERE / "services.py", "world")
    planner = start("planner", *IN_POD, sys.executable, HERE / "services.py", "planner")
    for process in (world, planner):
        until(f"{process.name} listens", 15, lambda: "listening" in process.log.read_text(), process)
    until("the collector listens", 15, lambda: listens(WORLD, 4317), rotel)
    say("world", "llm.demo (as OpenAI), tools.demo (HTTP, MCP), weather.demo (gRPC, IPv6 if there is any), a collector: rotel")
    say("pod", "planner.demo (HTTP), which calls tools.demo itself")
    return receiver, rotel


def start_sidecar(exempt, sidetrace):
    program = Path("/run/sidetrace")  # the project may lie where the sidecar's uid cannot read
    shutil.copy(sidetrace, program)
    program.chmod(0o755)
    by_mark = exempt == "mark"  # owner matches cannot name uids that a user namespace does not map
    run(*IN_POD, "sh", PROJECT / "iptables/init.sh", *(["--proxy-mark", UID] if by_mark else []))
    say("redirect", f"iptables/init.sh; the sidecar's own traffic is exempt by its {exempt}")
    as_proxy = [] if by_mark else ["setpriv", "--reuid", UID, "--regid", UID, "--clear-groups", "--no-new-privs", "--"]
    sidecar = start(
        "sidecar", *IN_POD, *as_proxy, program, "proxy",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{WORLD}:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_SERVICE_NAME="demo-agent", OTEL_BSP_SCHEDULE_DELAY="500", **({"SIDETRACE_MARK": UID} if by_mark else {}))
    # From the world, as a kubelet asks.
    until("the sidecar is ready", 15, lambda: answers(f"http://{POD}:15120/ready"), sidecar)
    run(*IN_POD, program, "check")
    say("sidecar", "ready; `sidetrace check`: the redirect works")
    return sidecar


def run_agents(node_modules):
    print("\nagent.py, with requests and grpcio:", flush=True)
    run(*IN_POD, sys.executable, HERE / "agent.py", capture=False)
    try:
        version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        version = ""
    if not version or int(version[1:].partition(".")[0]) < 18 or not node_modules.is_dir():
        print("\n*** NO NODE AGENT: it needs node 18 or newer, and npm. Going on with the Python one alone.")
        return ["agent.py"]
    # Node looks for packages beside the program only, and they are not kept beside its source.
    home = SCRATCH / "agent-node"
    home.mkdir()
    shutil.copy(HERE / "agent-node/agent.mjs", home)
    (home / "node_modules").symlink_to(node_modules)
    print("\nagent.mjs, with fetch and @grpc/grpc-js:", flush=True)
    run(*IN_POD, "node", "--no-warnings", home / "agent.mjs", capture=False)
    return ["agent.py", "agent.mjs"]


# ---- what the steps are made of


def run(*command, input="", capture=True):
    """Runs a step to its end; what it prints is shown if it fails, or as it comes when not captured"""
    stream = subprocess.PIPE if capture else None
    done = subprocess.run(command, input=input, text=True, stdout=stream, stderr=stream and subprocess.STDOUT, cwd="/",
                          env=ENVIRONMENT, timeout=30)
    if done.returncode:
        raise Failure(f"{' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout or ''}")


def start(name, *command, **environment):
    log = SCRATCH / f"{name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd="/",
                                   env={**ENVIRONMENT, **environment})
    process.name, process.log = name, log
    return process


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.03)
    return met


def until(what, seconds, condition, process=None):
    ended = lambda: process is not None and process.poll() is not None
    if not wait_for(lambda: ended() or condition(), seconds):
        raise Failure(f"not within {seconds} s: {what}")
    if ended():
        raise Failure(f"{process.name} ended with {process.returncode} before this: {what}")


def answers(url):
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(url, timeout=1).status == 200
    except OSError:
        return False


def listens(address, port):
    try:
        socket.create_connection((address, port), 1).close()
        return True
    except OSError:
        return False


def cover(path, text):
    """Other contents for a file of the host, seen by nobody outside"""
    if Path(path).is_file():
        ours = SCRATCH / Path(path).name
        ours.write_text(text)
        run("mount", "--bind", ours, path)


def say(what, text):
    print(f"{what:9} {text}", flush=True)


if sys.argv[1:2] == ["--inside"]:
    sys.exit(inside(*sys.argv[2:]))
outside(*sys.argv[1:])
