"""A container of a manifest as arguments of `podman create`."""

import functools
import json
import pathlib
import signal
from dataclasses import dataclass

from . import values
from .podman import inspect
from .report import NotStartable, Refused


@dataclass(frozen=True)
class Creation:
    """What every container of a pod is made from."""

    manifest: object
    sandbox: object
    volumes: object
    seccomp_root: pathlib.Path | None

    def arguments(self, container, name):
        """Options, image and command; NotStartable where a kubelet would not start it."""
        image = image_of(container.spec["image"])
        variables = values.environment(self.manifest, self.sandbox, container)
        options = ["--pod", self.sandbox.name, "--name", name, "--pull", "never", "--no-healthcheck"]
        for key, value in variables.items():
            options += ["--env", f"{key}={value}"]
        options += self._security(container, image["Config"])
        options += limits(container)
        for file in (self.sandbox.hosts_file, self.sandbox.resolver_file):
            options += ["--mount", f"type=bind,source={file},destination=/etc/{file.name}"]
        for mount in container.spec.get("volumeMounts") or []:
            options += ["--mount", self.volumes.mount(container, mount, variables)]
        if "workingDir" in container.spec:
            options += ["--workdir", container.spec["workingDir"]]
        command = [values.expand(str(word), variables) for word in container.spec.get("command") or []]
        arguments = [values.expand(str(word), variables) for word in container.spec.get("args") or []]
        if command:
            options += ["--entrypoint", json.dumps(command)]
        return [*options, image["Id"], *arguments]

    def stop_signal(self, container):
        """What the image wants to be told with."""
        name = image_of(container.spec["image"])["Config"].get("StopSignal") or "SIGTERM"
        return signal.Signals(int(name)) if name.isdigit() else signal.Signals[name]

    def _security(self, container, image):
        pod, own = self.manifest.security, container.spec.get("securityContext") or {}
        context = {**pod, **own}
        options, root = user(container, context, image)
        groups = list(pod.get("supplementalGroups") or [])
        if "fsGroup" in pod:
            groups.append(pod["fsGroup"])
        for group in groups:
            options += ["--group-add", group]
        options += capabilities(container, own.get("capabilities") or {}, root)
        if own.get("readOnlyRootFilesystem"):
            options += ["--read-only", "--read-only-tmpfs=false"]
        if own.get("allowPrivilegeEscalation") is False:
            options += ["--security-opt", "no-new-privileges"]
        return options + self._seccomp(container, context.get("seccompProfile") or {})

    def _seccomp(self, container, profile):
        # With nothing said a kubelet confines nothing, unless its own seccompDefault is on.
        kind = profile.get("type", "Unconfined")
        if kind == "RuntimeDefault":
            return []
        if kind == "Unconfined":
            return ["--security-opt", "seccomp=unconfined"]
        if self.seccomp_root is None:
            raise Refused(f"{container.name}: a Localhost seccomp profile needs --seccomp-root")
        file = self.seccomp_root / profile["localhostProfile"]
        if not file.is_file():
            raise NotStartable(f"{container.name}: cannot load seccomp profile {profile['localhostProfile']!r}")
        return ["--security-opt", f"seccomp={file}"]


@functools.cache
def image_of(name):
    """What podman knows of it; nothing is pulled."""
    image = inspect("image", name)
    if image is None:
        raise NotStartable(f"ErrImageNeverPull: image {name!r} is not on this machine")
    return image


def user(container, context, image):
    """The user's options, and whether it is root. Kubelet's own check of runAsNonRoot."""
    of_image = (image.get("User") or "0").split(":")[0]
    uid = context.get("runAsUser")
    if uid is None and of_image.isdigit():
        uid = int(of_image)
    if uid is None and of_image == "root":
        uid = 0
    if context.get("runAsNonRoot"):
        if uid is None:
            raise NotStartable(
                f"CreateContainerConfigError: container {container.name} has runAsNonRoot and image has non-numeric user "
                f"({of_image}), cannot verify user is non-root"
            )
        if uid == 0:
            raise NotStartable(f"CreateContainerConfigError: container {container.name} has runAsNonRoot and would run as root")
    options = []
    if "runAsGroup" in context:
        if uid is None:
            raise NotStartable(f"{container.name}: runAsGroup is specified without a user")
        options = ["--user", f"{uid}:{context['runAsGroup']}"]
    elif "runAsUser" in context:
        options = ["--user", str(uid)]
    return options, uid == 0


def capabilities(container, asked, root):
    """Exactly what containerd gives. To others than root it gives a bounding set only; podman would make added ones ambient."""
    drop = {name.upper().removeprefix("CAP_") for name in asked.get("drop") or []}
    add = {name.upper().removeprefix("CAP_") for name in asked.get("add") or []}
    if "ALL" in add:
        raise Refused(f"{container.name}: adding all capabilities is not supported")
    kept = (set() if "ALL" in drop else DEFAULT_CAPABILITIES - drop) | add
    if root:
        return [word for name in sorted(kept) for word in ("--cap-add", name)] + ["--cap-drop", "ALL"]
    if kept - DEFAULT_CAPABILITIES:
        added = ", ".join(sorted(kept - DEFAULT_CAPABILITIES))
        raise Refused(f"{container.name}: {added} for a user who is not root is not supported")
    if not kept:
        return ["--cap-drop", "ALL"]
    return [word for name in sorted(DEFAULT_CAPABILITIES - kept) for word in ("--cap-drop", name)]


def limits(container):
    """Memory and processor; requests only weigh."""
    resources = container.spec.get("resources") or {}
    limit, request = resources.get("limits") or {}, resources.get("requests") or {}
    options = []
    if "memory" in limit:
        memory = int(values.quantity(limit["memory"]))
        options += ["--memory", memory, "--memory-swap", memory]
    if "cpu" in limit:
        options += ["--cpus", f"{values.quantity(limit['cpu']):f}"]
    cpu = request.get("cpu", limit.get("cpu"))
    if cpu is not None:
        options += ["--cpu-shares", max(2, int(values.quantity(cpu) * 1024))]
    return options


DEFAULT_CAPABILITIES = {
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
}
