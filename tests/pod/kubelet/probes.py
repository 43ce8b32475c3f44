"""Asking a container from the host's side, as a kubelet does: what enters the pod meets its inbound redirect. And hooks."""

import http.client
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass

from .podman import run


class Asker:
    """One way to ask, of a probe or a hook; `ask` returns None if all is well, else what is wrong."""

    def __init__(self, sandbox, container, handler):
        self._address = sandbox.addresses[0]
        self.container = container
        self._handler = handler

    def ask(self, incarnation, timeout):
        handler = self._handler
        try:
            if "exec" in handler:
                return self._exec(incarnation, handler["exec"]["command"], timeout)
            if "httpGet" in handler:
                return self._http(handler["httpGet"], timeout)
            if "tcpSocket" in handler:
                where = handler["tcpSocket"]
                address = (where.get("host") or self._address, self.container.port(where["port"]))
                socket.create_connection(address, timeout).close()
                return None
            # A hook may just wait.
            incarnation.ended.wait(handler["sleep"]["seconds"])
            return None
        except (OSError, http.client.HTTPException) as error:
            return str(error) or type(error).__name__

    def _exec(self, incarnation, command, timeout):
        try:
            done = run("exec", incarnation.name, *command, timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"no end within {timeout} s"
        if done.returncode == 0:
            return None
        return f"exit code {done.returncode}: {(done.stdout + done.stderr).strip()[-500:]}"

    def _http(self, request, timeout):
        host, port = request.get("host") or self._address, self.container.port(request["port"])
        if request.get("scheme") == "HTTPS":
            # Kubelet does not verify either.
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl._create_unverified_context())
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        headers = {"User-Agent": "kube-probe/1.33", "Accept": "*/*", "Connection": "close"}
        headers.update({header["name"]: header["value"] for header in request.get("httpHeaders") or []})
        try:
            connection.request("GET", request.get("path") or "/", headers=headers)
            answer = connection.getresponse()
            body = answer.read(1024)
        finally:
            connection.close()
        if 200 <= answer.status < 400:
            return None
        return f"HTTP {answer.status}: {body[:200].decode(errors='replace')}"


@dataclass
class Probe:
    """A probe of one incarnation, on a thread of its own until that ends."""

    kind: str
    spec: dict
    asker: Asker

    def watch(self, incarnation, report, stop, passed, failed):
        """Calls `passed` and `failed` each time that the threshold is reached anew; they return True to be asked no more."""
        threading.Thread(target=self._watch, args=(incarnation, report, stop, passed, failed), daemon=True, name=self.kind).start()

    def _watch(self, incarnation, report, stop, passed, failed):
        spec, name = self.spec, self.asker.container.name
        period, timeout = spec.get("periodSeconds", 10), spec.get("timeoutSeconds", 1)
        row, last = 0, None
        due = time.monotonic() + spec.get("initialDelaySeconds", 0) + FIRST_AFTER
        while True:
            while (left := due - time.monotonic()) > 0:
                if incarnation.ended.wait(min(left, TICK)) or stop():
                    return
            due += period
            wrong = self.asker.ask(incarnation, timeout)
            if incarnation.ended.is_set() or stop():
                return
            if wrong:
                report.event("probe_failed", name, probe=self.kind, message=wrong)
            good = wrong is None
            row = row + 1 if good == last else 1
            last = good
            if good and row == spec.get("successThreshold", 1) and passed():
                return
            if not good and row >= spec.get("failureThreshold", 3) and failed():
                return


# A kubelet's first question comes somewhere in the first period. Ours comes early, for tests wait for it.
FIRST_AFTER = 0.2
TICK = 0.1
