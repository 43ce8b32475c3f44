"""Events and log lines on stdout, a line each, flushed at once."""

import json
import sys
import threading
import time


class Refused(Exception):
    """This kubelet cannot do it, or the manifest is wrong: exit code 2."""


class NotStartable(Exception):
    """A real kubelet would not start this container either (CreateContainerConfigError, ErrImageNeverPull)."""


class Report:
    """Lines of many threads, whole."""

    def __init__(self):
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self.closed = threading.Event()

    def event(self, event, container=None, **more):
        after = round(time.monotonic() - self._start, 3)
        self._line(json.dumps({"event": event, "container": container, "after": after, **more}))

    def log(self, container, line):
        self._line(f"{container}| {line}")

    def _line(self, line):
        with self._lock:
            if self.closed.is_set():
                return
            try:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
            except BrokenPipeError:
                # Nobody reads any more: whoever ran us is gone, and the pod has to go as well.
                self.closed.set()
