"""Who starts when, who stops when."""

import threading
import time

from .report import NotStartable
from .runner import Runner


class Pod:
    """One pod, from its first init container to its end."""

    def __init__(self, manifest, sandbox, creation, report):
        self.manifest = manifest
        self.sandbox = sandbox
        self.creation = creation
        self.report = report
        # No container is started any more.
        self.ending = False
        self._deleted = False
        self._forced = False
        self._failure = None
        self._changed = threading.Condition()
        self._inits = [Runner(self, container) for container in manifest.init_containers]
        self._apps = [Runner(self, container) for container in manifest.containers]
        self._was_ready = False

    def run(self):
        """To the end; True if the pod succeeded, or was deleted."""
        complete = self._initialise() and self._start_apps()
        if complete:
            self.wait(lambda: self._stopped() or all(runner.over for runner in self._apps))
        succeeded = complete and all(runner.over and runner.code == 0 for runner in self._apps)
        self._end()
        if self._failure is not None:
            name, error = self._failure
            if not isinstance(error, NotStartable):
                raise error
            self.report.event("not_startable", name, message=str(error))
            return False
        outcome = "deleted" if self._deleted else "succeeded" if succeeded else "failed"
        self.report.event(outcome, codes={runner.name: runner.code for runner in self._apps})
        return outcome != "failed"

    def delete(self):
        """Asked for once it ends in order; asked for again it ends now. Safe in a signal handler."""
        with self._changed:
            self._forced = self._deleted
            self._deleted = True
            self._changed.notify_all()

    def fail(self, name, error):
        """A thread could not go on: the pod ends."""
        with self._changed:
            self._failure = self._failure or (name, error)
            self._changed.notify_all()

    def change(self, runner, **state):
        """What is known about a container, told to all who wait."""
        with self._changed:
            for key, value in state.items():
                setattr(runner, key, value)
            ready = bool(self._apps) and all(one.ready for one in self._apps + self._sidecars())
            if ready != self._was_ready:
                self._was_ready = ready
                self.report.event("pod_ready" if ready else "pod_unready")
            self._changed.notify_all()

    def wait(self, until, timeout=None):
        """Whether it came to be in time."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not until():
                left = TICK if end is None else min(TICK, end - time.monotonic())
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _stopped(self):
        """Deleted, broken, or nobody listens any more."""
        return self._deleted or self._failure is not None or self.report.closed.is_set()

    def _sidecars(self):
        return [runner for runner in self._inits if runner.container.kind == "sidecar"]

    def _initialise(self):
        """Init containers in their order; a sidecar has had its turn when it is up. True if all went well."""
        for runner in self._inits:
            if self._stopped():
                return False
            runner.start()
            if runner.container.kind == "sidecar":
                self.wait(lambda one=runner: self._stopped() or one.up)
            else:
                self.wait(lambda one=runner: self._stopped() or one.over)
                if runner.over and runner.code != 0:
                    return False
        return not self._stopped()

    def _start_apps(self):
        """Each when the hook of the one before has returned."""
        for runner in self._apps:
            if self._stopped():
                break
            runner.start()
            self.wait(lambda one=runner: self._stopped() or one.tried)
        return True

    def _end(self):
        """Ends what still runs: apps and plain init containers at once, sidecars after all that started after them."""
        began, grace = time.monotonic(), self.manifest.grace
        with self._changed:
            self.ending = True
            self._changed.notify_all()
        living = [runner for runner in self._inits + self._apps if runner.is_started() and not runner.over]
        sidecars = self._sidecars()
        stops = []
        for runner in living:
            before = self._apps + sidecars[sidecars.index(runner) + 1 :] if runner in sidecars else []
            stops.append(threading.Thread(target=runner.stop, args=(grace, self._turn_after(before)), daemon=True))
        if living:
            self.report.event("terminating", grace=grace)
        for stop in stops:
            stop.start()
        self.wait(lambda: self._forced or self.report.closed.is_set() or all(runner.over for runner in living))
        for runner in living:
            if not runner.over:
                runner.kill()
        for stop in stops:
            stop.join()
        if living:
            self.report.event("terminated", took=round(time.monotonic() - began, 3))

    def _turn_after(self, before):
        """Waits for those, as long as there is time."""

        def turn(left):
            self.wait(lambda: self._forced or all(one.over or not one.is_started() for one in before), timeout=max(0, left))

        return turn


TICK = 1.0
