"""The pod before its containers: a podman pod with a network, addresses and a hosts file."""

import ipaddress
import pathlib
import tempfile

from .podman import inspect, podman, run
from .report import Refused


class Sandbox:
    """Made by `create`; `remove` leaves nothing of it."""

    def __init__(self, manifest):
        self.name = f"{manifest.name}-{manifest.uid[:8]}"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}."))
        # Containers' users have to get through it to their volumes.
        self.directory.chmod(0o755)
        self.hostname = manifest.spec.get("hostname", manifest.name)[:63]
        # Both are mounted into every container, as a kubelet does.
        self.hosts_file = self.directory / "hosts"
        self.resolver_file = self.directory / "resolv.conf"
        self.addresses = []
        self.host_addresses = []
        self._own_network = None

    def create(self, manifest, network, aliases):
        """The pod and its first process, which holds the network."""
        if network is None:
            network = self._own_network = self.name
            podman("network", "create", "--internal", network)
        elif inspect("network", network) is None:
            raise Refused(f"no podman network is called {network!r}")
        # A pod's containers share these; processes only if the manifest says so.
        shared = "net,ipc,uts" + (",pid" if manifest.spec.get("shareProcessNamespace") else "")
        arguments = ["--name", self.name, "--network", network, "--share", shared, "--hostname", self.hostname]
        for alias in aliases:
            arguments += ["--network-alias", alias]
        for sysctl in manifest.security.get("sysctls") or []:
            arguments += ["--sysctl", f"{sysctl['name']}={sysctl['value']}"]
        podman("pod", "create", "--no-hosts", *arguments)
        infra = inspect("pod", self.name)["InfraContainerID"]
        podman("start", infra)
        self._learn_addresses(infra, network)
        self._write_hosts(manifest)
        # The network's own name server alone: nothing of the host's, and no search list, which would ask it for more names.
        self._write(self.resolver_file, [f"nameserver {address}" for address in self.host_addresses])

    def remove(self):
        """Everything, whatever state it is in."""
        run("pod", "rm", "--force", "--time", "0", self.name)
        if self._own_network:
            run("network", "rm", "--force", self._own_network)

    def _learn_addresses(self, infra, network):
        attached = inspect("container", infra)["NetworkSettings"]["Networks"][network]
        self.addresses = [attached[key] for key in ("IPAddress", "GlobalIPv6Address") if attached.get(key)]
        if not self.addresses:
            raise Refused(f"network {network!r} gives no address")
        # The host is where the network's bridge is. An internal network has it too, though it leads nowhere.
        for subnet in inspect("network", network)["subnets"]:
            gateway = subnet.get("gateway") or str(ipaddress.ip_network(subnet["subnet"])[1])
            self.host_addresses.append(gateway)

    def _write_hosts(self, manifest):
        """As kubelet does: nothing of the host's own file."""
        lines = ["# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
        lines += [f"{address}\t{self.hostname}" for address in self.addresses]
        for alias in manifest.spec.get("hostAliases") or []:
            lines.append("\t".join([alias["ip"], *alias["hostnames"]]))
        self._write(self.hosts_file, lines)

    def _write(self, file, lines):
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o644)
