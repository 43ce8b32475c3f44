"""A container through all its starts."""

import threading
import time

from .incarnation import Incarnation
from .podman import PodmanError
from .probes import Asker, Probe


class Runner:
    """One thread that starts its container as often as the restart policy wants it."""

    def __init__(self, pod, container):
        self.container = container
        self.name = container.name
        self.code = None
        # The first start was tried, hook included: a kubelet starts the next container then.
        self.tried = False
        # It runs, and its startup probe has passed (once is enough: later starts hold nobody up).
        self.up = False
        # It will not be started again.
        self.over = False
        self.ready = False
        self._pod = pod
        self._starting = threading.Lock()
        self._current = None
        self._thread = None

    def start(self):
        self._thread = threading.Thread(target=self._live, daemon=True, name=self.name)
        self._thread.start()

    def is_started(self):
        return self._thread is not None

    def stop(self, grace, turn):
        """At the pod's end: preStop at once, the signal when it is this container's turn, with what is left of the grace period."""
        with self._starting:
            current = self._current
        if current is not None and not current.ended.is_set():
            self._stop(current, grace, turn, "pod")
        if self._thread is not None:
            self._thread.join()

    def kill(self):
        """Now."""
        with self._starting:
            current = self._current
        if current is not None and not current.ended.is_set():
            current.kill()

    def _live(self):
        pod, delay, number = self._pod, BACK_OFF_FIRST, 0
        try:
            while True:
                self.code = self._once(number)
                if pod.ending or not self._again():
                    break
                # The first restart comes at once.
                if number > 0 and pod.wait(lambda: pod.ending, timeout=delay):
                    break
                delay = min(delay * 2, BACK_OFF_LAST) if number > 0 else delay
                number += 1
        except Exception as error:  # pylint: disable=broad-except
            pod.fail(self.name, error)
        finally:
            pod.change(self, over=True, tried=True)

    def _again(self):
        """The restart policy; a native sidecar's is always Always."""
        policy = "Always" if self.container.kind == "sidecar" else self._pod.manifest.restart_policy
        if policy == "Always" and self.container.kind == "init":
            policy = "OnFailure"
        return policy == "Always" or (policy == "OnFailure" and self.code != 0)

    def _once(self, number):
        """One start, to its end; its exit code."""
        pod, report = self._pod, self._pod.report
        with self._starting:
            if pod.ending:
                return self.code
            incarnation = Incarnation(pod.sandbox, report, self.container, number)
            incarnation.create(pod.creation)
            try:
                incarnation.start()
            except PodmanError as error:
                report.event("start_failed", self.name, message=str(error))
                incarnation.remove()
                pod.change(self, tried=True)
                return CANNOT_START
            self._current = incarnation
        details = {"kind": self.container.kind, "podman": incarnation.name, "pid": incarnation.pid}
        report.event("restarted" if number else "started", self.name, **details, **({"restarts": number} if number else {}))
        incarnation.follow()
        threading.Thread(target=self._after_start, args=(incarnation,), daemon=True).start()
        code, out_of_memory = incarnation.wait()
        pod.change(self, ready=False)
        report.event("exited", self.name, code=code, killed=incarnation.killed, out_of_memory=out_of_memory)
        incarnation.remove()
        return code

    def _after_start(self, incarnation):
        try:
            self._post_start(incarnation)
            self._pod.change(self, tried=True)
            self._watch(incarnation)
        except Exception as error:  # pylint: disable=broad-except
            self._pod.fail(self.name, error)

    def _post_start(self, incarnation):
        hook = (self.container.spec.get("lifecycle") or {}).get("postStart")
        if hook is None:
            return
        wrong = Asker(self._pod.sandbox, self.container, hook).ask(incarnation, timeout=HOOK_TIMEOUT)
        if wrong is None:
            self._pod.report.event("post_start", self.name)
        elif not self._pod.ending:
            self._pod.report.event("post_start_failed", self.name, message=wrong)
            self._stop(incarnation, self._pod.manifest.grace, None, "post_start")

    def _watch(self, incarnation):
        """Probes: the others wait for startup."""
        probe = self._probe("startupProbe")
        if probe is None:
            self._on_started(incarnation)
            return

        def passed():
            self._pod.report.event("startup", self.name)
            self._on_started(incarnation)
            return True

        probe.watch(incarnation, self._pod.report, self._ending, passed, self._restart(incarnation, probe))

    def _on_started(self, incarnation):
        if incarnation.ended.is_set() or self.container.kind == "init":
            return
        self._pod.change(self, up=True)
        liveness, readiness = self._probe("livenessProbe"), self._probe("readinessProbe")
        if liveness is not None:
            liveness.watch(incarnation, self._pod.report, self._ending, lambda: False, self._restart(incarnation, liveness))
        if readiness is None:
            self._set_ready(incarnation, True)
            return
        # Asked while the pod ends, too.
        readiness.watch(
            incarnation,
            self._pod.report,
            lambda: False,
            lambda: self._set_ready(incarnation, True),
            lambda: self._set_ready(incarnation, False),
        )

    def _probe(self, kind):
        spec = self.container.spec.get(kind)
        return spec and Probe(kind.removesuffix("Probe"), spec, Asker(self._pod.sandbox, self.container, spec))

    def _ending(self):
        return self._pod.ending

    def _restart(self, incarnation, probe):
        def failed():
            self._stop(incarnation, probe.spec.get("terminationGracePeriodSeconds", self._pod.manifest.grace), None, probe.kind)
            return True

        return failed

    def _set_ready(self, incarnation, ready):
        if ready != self.ready and not incarnation.ended.is_set():
            self._pod.report.event("ready" if ready else "unready", self.name)
            self._pod.change(self, ready=ready)
        return False

    def _stop(self, incarnation, grace, turn, reason):
        """As kubelet's killContainer: the hook, then the turn, then what is left, but never less than two seconds."""
        report, began = self._pod.report, time.monotonic()
        hook = (self.container.spec.get("lifecycle") or {}).get("preStop")
        if hook is not None and grace > 0:
            wrong = Asker(self._pod.sandbox, self.container, hook).ask(incarnation, timeout=grace)
            report.event("pre_stop_failed" if wrong else "pre_stop", self.name, **({"message": wrong} if wrong else {}))
        if turn is not None:
            turn(grace - (time.monotonic() - began))
        left = max(MINIMUM_GRACE, grace - (time.monotonic() - began)) if grace > 0 else 0
        if not incarnation.ended.is_set():
            report.event("stopping", self.name, reason=reason, grace=round(left, 1))
            incarnation.stop(left)


# A kubelet's are 10 s and 300 s; tests wait for restarts.
BACK_OFF_FIRST = 0.5
BACK_OFF_LAST = 5.0
CANNOT_START = 128
HOOK_TIMEOUT = 120
MINIMUM_GRACE = 2
