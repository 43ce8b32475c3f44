"""A directory on the host for each volume of the pod."""

import os
import pathlib
import shutil
import subprocess

from . import values
from .report import NotStartable, Refused

READ_ONLY_KINDS = ("configMap", "secret", "downwardAPI", "projected")


class Volumes:
    """Made with the sandbox, removed with it."""

    def __init__(self, manifest, sandbox):
        self._manifest = manifest
        self._sandbox = sandbox
        self._root = sandbox.directory / "volumes"
        self._specs = {volume["name"]: volume for volume in manifest.spec.get("volumes") or []}
        self._tmpfs = []

    def create(self):
        self._root.mkdir()
        for name, volume in self._specs.items():
            (kind,) = volume.keys() - {"name"}
            source = volume[kind] or {}
            directory = self._root / name
            if kind == "hostPath":
                check_host_path(source)
                continue
            directory.mkdir()
            if kind == "emptyDir":
                self._empty(directory, source)
            else:
                self._files(directory, kind, source)

    def remove(self):
        for directory in self._tmpfs:
            subprocess.run(["umount", "--lazy", directory], check=False)
        shutil.rmtree(self._sandbox.directory, ignore_errors=True)

    def mount(self, container, mount, variables):
        """A volumeMount as the value of `podman create --mount`."""
        volume = self._specs[mount["name"]]
        root = pathlib.Path(volume["hostPath"]["path"]) if "hostPath" in volume else self._root / mount["name"]
        source = root
        below = mount.get("subPath") or values.expand(mount.get("subPathExpr") or "", variables)
        if below:
            source = pathlib.Path(os.path.realpath(root / below))
            if not source.is_relative_to(os.path.realpath(root)):
                raise NotStartable(f"{container.name}: subPath {below!r} leads out of the volume")
            if not source.exists():
                # kubelet makes a directory of it.
                source.mkdir(parents=True, mode=0o750)
        read_only = mount.get("readOnly") or any(kind in volume for kind in READ_ONLY_KINDS)
        return f"type=bind,source={source},destination={mount['mountPath']}" + (",readonly" if read_only else "")

    def _empty(self, directory, source):
        if source.get("medium") == "Memory":
            options = "mode=0777"
            if "sizeLimit" in source:
                options += f",size={int(values.quantity(source['sizeLimit']))}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=True)
            self._tmpfs.append(directory)
        elif "sizeLimit" in source:
            # Held by eviction, which is not here.
            self._manifest.ignored.append({"field": f"{directory.name}.emptyDir.sizeLimit", "why": "nothing is evicted"})
        directory.chmod(0o777)
        self._give_to_group(directory, 0o2777)

    def _files(self, directory, kind, source):
        """As kubelet's atomic writer leaves them: links through `..data`, so that all change at once."""
        payload = directory / "..payload"
        payload.mkdir(mode=0o755)
        sources = source.get("sources") or [] if kind == "projected" else [{kind: source}]
        default_mode = source.get("defaultMode", 0o644)
        for one in sources:
            for inner_kind, inner in one.items():
                for path, content, mode in self._contents(inner_kind, inner):
                    self._write(payload, path, content, default_mode if mode is None else mode, inner_kind)
        os.symlink("..payload", directory / "..data")
        for top in sorted(entry.name for entry in payload.iterdir()):
            os.symlink(f"..data/{top}", directory / top)
        directory.chmod(0o755)
        self._give_to_group(directory, 0o2755)
        self._give_to_group(payload, 0o2755)

    def _contents(self, kind, source):
        """Paths, contents and modes of one source."""
        if kind == "downwardAPI":
            for item in source.get("items") or []:
                yield item["path"], self._downward(item).encode(), item.get("mode")
        elif kind == "serviceAccountToken":
            token = f"stand-in.{self._manifest.uid}.{source.get('audience', 'kubernetes')}"
            yield source["path"], token.encode(), None
        else:
            known = self._manifest.config_maps if kind == "configMap" else self._manifest.secrets
            data = values.referred(known, source, "secretName" if "secretName" in source else "name")
            for item in source.get("items") or [{"key": key, "path": key} for key in data]:
                if item["key"] in data:
                    yield item["path"], data[item["key"]], item.get("mode", source.get("defaultMode"))
                elif not source.get("optional"):
                    raise NotStartable(f"{kind} references non-existent key {item['key']}")

    def _downward(self, item):
        if "fieldRef" in item:
            return values.field(self._manifest, self._sandbox, item["fieldRef"]["fieldPath"], for_volume=True)
        reference = item["resourceFieldRef"]
        for container in self._manifest.all_containers():
            if container.name == reference.get("containerName"):
                return values.resource(container, reference)
        raise Refused(f"resourceFieldRef: no container is called {reference.get('containerName')!r}")

    def _write(self, payload, path, content, mode, kind):
        file = payload / path
        if path.startswith(("/", "..")) or "/../" in path:
            raise Refused(f"volume path {path!r} leads out of the volume")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if kind == "serviceAccountToken":
            mode = self._token_mode(file, mode)
        file.chmod(mode)
        # Group of the pod: may read what the owner may.
        self._give_to_group(file, mode | 0o440)

    def _token_mode(self, file, mode):
        """Tokens are for one user where kubelet can tell who that is."""
        if "fsGroup" in self._manifest.security:
            return 0o600
        pod_user = self._manifest.security.get("runAsUser")
        users = {
            (container.spec.get("securityContext") or {}).get("runAsUser", pod_user) for container in self._manifest.all_containers()
        }
        if len(users) == 1 and None not in users:
            os.chown(file, users.pop(), -1)
            return 0o600
        return mode

    def _give_to_group(self, path, mode):
        group = self._manifest.security.get("fsGroup")
        if group is not None:
            os.chown(path, -1, group)
            path.chmod(mode)


def check_host_path(source):
    path = pathlib.Path(source["path"])
    there = {
        "": lambda: True,
        "Directory": path.is_dir,
        "File": path.is_file,
        "Socket": path.is_socket,
    }[source.get("type") or ""]
    if not there():
        raise NotStartable(f"hostPath {path} is no {source['type']}")
