"""The one place that runs podman."""

import json
import os
import pathlib
import subprocess

CONTAINERS_CONF = pathlib.Path(__file__).resolve().parent.parent / "containers.conf"


class PodmanError(Exception):
    """A podman command failed; its own words."""


def podman(*arguments, timeout=120):
    """Standard output of a podman command that has to succeed."""
    done = run(*arguments, timeout=timeout)
    if done.returncode != 0:
        raise PodmanError(f"podman {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def run(*arguments, timeout=120):
    """A podman command, however it ends."""
    os.environ.setdefault("CONTAINERS_CONF", str(CONTAINERS_CONF))
    # In a session of its own: a signal to our process group is about the pod, not about this command.
    return subprocess.run(
        ["podman", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=timeout,
        start_new_session=True,
    )


def inspect(kind, name):
    """What podman knows about an image, a container, a network or a pod; None if it does not know it."""
    done = run(kind, "inspect", name)
    if done.returncode != 0:
        return None
    found = json.loads(done.stdout)
    return found[0] if isinstance(found, list) else found
