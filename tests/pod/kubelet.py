#!/usr/bin/env python3
"""A small kubelet over podman, for the tests of whole pods.

    kubelet.py [--network NAME] [--alias NAME]... [--seccomp-root FOLDER] FILE

FILE (`-`: stdin) holds one Pod, or one Deployment or Job whose template is run as one pod, with its ConfigMaps and Secrets.
It does what `podman kube play` does not: native sidecars, probes from the host's side, hooks, every fieldRef, volumes of the
pod's own, the order in which a pod ends. What it does not understand it refuses, see kubelet/schema.py.

On stdout, a line each: events as JSON ({"event": "started", "container": "agent", "after": 1.234, ...}; `after` is in seconds
since the start) and what containers print, as `NAME| line`. The event `created` has the pod's uid and addresses.

SIGTERM or SIGINT is the deletion of the pod; the second one takes no time. It ends too when the pod is done, or when nobody
reads its stdout any more. Exit code: 0 the pod succeeded or was deleted, 1 it failed, 2 this kubelet cannot run it.

It needs root, podman with netavark and aardvark-dns, and images that are on the machine. Without --network the pod gets an
internal network of its own. Differences from a kubelet that are meant: restarts wait 0.5 s to 5 s, the first probe comes 0.2 s
after its initial delay, nothing is updated while the pod runs, and tokens of service accounts are stand-ins.
"""

import argparse
import os
import pathlib
import signal
import sys

SYSTEM_PYTHON = "/usr/bin/python3"
try:
    import yaml  # noqa: F401  here so that its absence is told in one line
except ImportError:
    if sys.executable == SYSTEM_PYTHON:
        sys.exit("kubelet.py needs PyYAML: apt-get install python3-yaml")
    os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, *sys.argv])

from kubelet.creation import Creation
from kubelet.manifest import load
from kubelet.pod import Pod
from kubelet.podman import PodmanError
from kubelet.report import NotStartable, Refused, Report
from kubelet.sandbox import Sandbox
from kubelet.volumes import Volumes


def main():
    options = parse()
    report = Report()
    try:
        text = sys.stdin.read() if options.file == "-" else pathlib.Path(options.file).read_text(encoding="utf-8")
        return 0 if run(load(text), options, report) else 1
    except (Refused, PodmanError, OSError, KeyError, TypeError) as error:
        message = f"{type(error).__name__}: {error}"
        report.event("refused", message=message)
        print(f"kubelet.py: {message}", file=sys.stderr)
        return 2


def run(manifest, options, report):
    """The pod's whole life; True if it succeeded or was deleted."""
    sandbox = Sandbox(manifest)
    volumes = Volumes(manifest, sandbox)
    pod = Pod(manifest, sandbox, Creation(manifest, sandbox, volumes, options.seccomp_root), report)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: pod.delete())
    try:
        sandbox.create(manifest, options.network, options.alias)
        volumes.create()
        names = {"name": manifest.name, "namespace": manifest.namespace, "uid": manifest.uid, "podman": sandbox.name}
        report.event("created", **names, addresses=sandbox.addresses, host_addresses=sandbox.host_addresses)
        if manifest.ignored:
            report.event("ignored", fields=manifest.ignored)
        return pod.run()
    except NotStartable as error:
        report.event("not_startable", message=str(error))
        return False
    finally:
        sandbox.remove()
        volumes.remove()
        report.event("removed")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", help="a podman network that is there; else an internal one of the pod's own")
    parser.add_argument("--alias", action="append", default=[], help="a name under which others on the network find the pod")
    parser.add_argument("--seccomp-root", type=pathlib.Path, help="where localhostProfile is looked up")
    parser.add_argument("file", help="the manifest; - for stdin")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
