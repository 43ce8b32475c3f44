"""One start of a container: its process, its log, its end."""

import os
import select
import signal
import threading

from .podman import inspect, podman, run


class Incarnation:
    """A container that runs, or ran. Every restart is a new one with a fresh root file system, as a kubelet's is."""

    def __init__(self, sandbox, report, container, number):
        self.name = f"{sandbox.name}-{container.name}-{number}"
        self.ended = threading.Event()
        self.code = None
        self.killed = False
        self.pid = None
        self._report = report
        self._container = container
        self._pid_file = sandbox.directory / f"{container.name}.{number}.pid"
        self._log_file = sandbox.directory / f"{container.name}.{number}.log"
        self._log_read = threading.Event()
        self._pidfd = None
        self._stop_signal = None

    def create(self, creation):
        """The container, not yet its process."""
        arguments = creation.arguments(self._container, self.name)
        self._stop_signal = creation.stop_signal(self._container)
        podman("create", "--pidfile", self._pid_file, "--log-driver", "k8s-file", "--log-opt", f"path={self._log_file}", *arguments)
        self._log_file.touch()

    def start(self):
        """PodmanError if there is no such command in the image, for example."""
        podman("start", self.name)
        self.pid = int(self._pid_file.read_text())
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            # It was that quick.
            pass

    def follow(self):
        """Reports what it prints, to its end."""
        threading.Thread(target=self._follow, daemon=True).start()

    def wait(self):
        """Its end: exit code, and whether memory ran out."""
        if self._pidfd is not None:
            select.select([self._pidfd], [], [])
        self.code = int(podman("wait", "--interval", "20ms", self.name))
        state = inspect("container", self.name)["State"] if self.code == 137 else {}
        self.ended.set()
        self._log_read.wait()
        return self.code, bool(state.get("OOMKilled"))

    def signal(self, number):
        """To its first process. In a shared process namespace what that leaves behind ends with the pod."""
        if self._pidfd is not None and not self.ended.is_set():
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass

    def stop(self, grace):
        """The stop signal, then the end of all patience."""
        self.signal(self._stop_signal)
        if not self.ended.wait(grace):
            self.kill()

    def kill(self):
        self.killed = True
        self.signal(signal.SIGKILL)
        self.ended.wait()

    def remove(self):
        run("rm", "--force", "--volumes", "--time", "0", self.name)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _follow(self):
        """Reports the log line by line. Podman has written all of it before it knows of the end."""
        parts = {}
        with open(self._log_file, encoding="utf-8", errors="replace") as log:
            pending = ""
            while True:
                over = self.ended.is_set()
                pending += log.read()
                *lines, pending = pending.split("\n")
                for line in lines:
                    # TIME STREAM F|P TEXT, where P says that the line goes on.
                    _, stream, whole, text = line.split(" ", 3)
                    text = parts.pop(stream, "") + text
                    if whole == "P":
                        parts[stream] = text
                    else:
                        self._report.log(self._container.name, text)
                if over:
                    break
                self.ended.wait(LOG_INTERVAL)
        for text in parts.values():
            self._report.log(self._container.name, text)
        self._log_read.set()


LOG_INTERVAL = 0.02
