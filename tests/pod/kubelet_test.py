#!/usr/bin/env python3
"""Tests of kubelet.py itself: `make test-pod` runs them first. They need root, podman and the Debian and Python bases."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

HERE = pathlib.Path(__file__).resolve().parent
GUARD = 60
os.environ.setdefault("CONTAINERS_CONF", str(HERE / "containers.conf"))


class Kubelet:
    """kubelet.py with a manifest, and what it has said so far."""

    def __init__(self, manifest, *options):
        self.process = subprocess.Popen(
            [sys.executable, HERE / "kubelet.py", *options, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.events, self.logs = [], []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.process.stdin.write(json.dumps(manifest))
        self.process.stdin.close()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                if line.startswith("{"):
                    self.events.append(json.loads(line))
                else:
                    self.logs.append(line.rstrip("\n"))
                self._changed.notify_all()

    def wait_for(self, event, container=None, count=1):
        """The count-th such event."""

        def found():
            return [one for one in self.events if one["event"] == event and container in (None, one["container"])]

        with self._changed:
            if not self._changed.wait_for(lambda: len(found()) >= count, GUARD):
                raise AssertionError(f"no {event} of {container}\n{self.said()}")
            return found()[count - 1]

    def end(self):
        """Its exit code, once everything is read."""
        code = self.process.wait(GUARD)
        self._reader.join(GUARD)
        self.process.stdout.close()
        return code

    def order(self, *names):
        """Events by name and container, those asked for only."""
        pairs = [f"{one['event']} {one['container']}" for one in self.events]
        return [pair for pair in pairs if pair in names]

    def said(self):
        return "\n".join(map(str, self.events + self.logs))


def container(name, script, **more):
    return {"name": name, "image": "debian:bookworm-slim", "command": ["sh", "-c", script], **more}


def sidecar(name, **more):
    return container(name, f"trap 'echo {name} ends; exit 0' TERM; while :; do sleep 0.1; done", restartPolicy="Always", **more)


def pod(*containers, init=(), policy="Never", metadata=None, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kubelet-test", **(metadata or {})},
        "spec": {"restartPolicy": policy, "initContainers": list(init), "containers": list(containers), **spec},
    }


class ALifeOfAPod(unittest.TestCase):
    def run_to_end(self, manifest, code=0, *options):
        kubelet = Kubelet(manifest, *options)
        self.addCleanup(kubelet.process.kill)
        self.assertEqual(kubelet.end(), code, kubelet.said())
        return kubelet

    def delete(self, kubelet, code=0):
        kubelet.process.send_signal(signal.SIGTERM)
        self.assertEqual(kubelet.end(), code, kubelet.said())

    def test_init_containers_run_in_their_order_and_sidecars_outlive_the_app(self):
        hooks = {
            "postStart": {"exec": {"command": ["touch", "/shared/hooked"]}},
            "preStop": {"exec": {"command": ["touch", "/shared/stopping"]}},
        }
        probe = {"exec": {"command": ["test", "-e", "/shared/hooked"]}, "periodSeconds": 1}
        shared = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
        manifest = pod(
            container("app", "ls /shared", **shared),
            init=[
                container("first", "touch /shared/first", **shared),
                sidecar("one", lifecycle=hooks, startupProbe=probe, **shared),
                container("between", "touch /shared/between", **shared),
                sidecar("two"),
            ],
            volumes=[{"name": "shared", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
        )
        kubelet = self.run_to_end(manifest)
        starts = ["exited first", "post_start one", "startup one", "exited between", "started two", "started app", "exited app"]
        self.assertEqual(kubelet.order(*starts), starts)
        self.assertEqual(kubelet.order("exited two", "exited one"), ["exited two", "exited one"])
        self.assertEqual([line for line in kubelet.logs if line.startswith("app")], ["app| between", "app| first", "app| hooked"])
        self.assertIn("one| one ends", kubelet.logs)

    def test_a_deleted_pod_stops_its_apps_first(self):
        app = container("app", "trap 'sleep 0.5; exit 0' TERM; while :; do sleep 0.1; done")
        kubelet = Kubelet(pod(app, init=[sidecar("one"), sidecar("two")], policy="Always"))
        kubelet.wait_for("pod_ready")
        self.delete(kubelet)
        stops = [f"{event} {name}" for name in ("app", "two", "one") for event in ("stopping", "exited")]
        self.assertEqual(kubelet.order(*stops), stops)
        self.assertFalse(any(event["killed"] for event in kubelet.events if event["event"] == "exited"))

    def test_an_app_that_does_not_listen_is_killed_and_its_sidecar_has_two_seconds(self):
        kubelet = Kubelet(pod(container("app", "sleep 600"), init=[sidecar("side")], terminationGracePeriodSeconds=1))
        kubelet.wait_for("pod_ready")
        self.delete(kubelet)
        self.assertTrue(kubelet.wait_for("exited", "app")["killed"])
        self.assertEqual(kubelet.wait_for("stopping", "side")["grace"], 2)
        self.assertEqual(kubelet.wait_for("exited", "side")["code"], 0)

    def test_a_sidecar_that_dies_comes_back_while_the_app_runs(self):
        kubelet = Kubelet(pod(container("app", "trap 'exit 0' TERM; while :; do sleep 0.1; done"), init=[sidecar("side")]))
        kubelet.wait_for("started", "app")
        os.kill(kubelet.wait_for("started", "side")["pid"], signal.SIGKILL)
        self.assertEqual(kubelet.wait_for("restarted", "side")["restarts"], 1)
        self.assertEqual(kubelet.wait_for("exited", "side")["code"], 137)
        self.delete(kubelet)
        self.assertEqual(len(kubelet.order("started app", "restarted app")), 1)

    def test_liveness_and_startup_restart_and_readiness_only_tells(self):
        false = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
        quick = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
        kubelet = Kubelet(
            pod(
                container("lives", quick, livenessProbe=false),
                container("starts", quick, startupProbe=false, livenessProbe={"exec": {"command": ["true"]}}),
                container("reads", quick, readinessProbe={"exec": {"command": ["test", "-e", "/ready"]}, "periodSeconds": 1}),
                policy="OnFailure",
            )
        )
        kubelet.wait_for("stopping", "lives")
        kubelet.wait_for("stopping", "starts")
        kubelet.wait_for("probe_failed", "reads")
        name = kubelet.wait_for("started", "reads")["podman"]
        subprocess.run(["podman", "exec", name, "touch", "/ready"], check=True)
        kubelet.wait_for("ready", "reads")
        subprocess.run(["podman", "exec", name, "rm", "/ready"], check=True)
        kubelet.wait_for("unready", "reads")
        # Both ended with 0 when told, which OnFailure takes for success.
        self.assertEqual(kubelet.order("restarted lives", "restarted starts", "ready starts", "exited reads"), [])
        self.delete(kubelet)

    def test_a_job_tries_again_until_it_succeeds(self):
        script = "[ -e /state/tried ] && exit 0; touch /state/tried; exit 3"
        job = pod(
            container("app", script, volumeMounts=[{"name": "state", "mountPath": "/state"}]),
            init=[sidecar("side")],
            policy="OnFailure",
            volumes=[{"name": "state", "emptyDir": {}}],
        )
        template = {"metadata": {"labels": {"app": "x"}}, "spec": job["spec"]}
        metadata = {"name": "kubelet-test"}
        kubelet = self.run_to_end({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}})
        self.assertEqual(kubelet.wait_for("exited", "app")["code"], 3)
        self.assertEqual(kubelet.order("restarted app", "exited side"), ["restarted app", "exited side"])

    def test_a_pod_that_fails_says_so(self):
        kubelet = self.run_to_end(pod(container("app", "exit 7"), init=[sidecar("side")]), 1)
        self.assertEqual(kubelet.wait_for("failed")["codes"], {"app": 7})

    def test_an_init_container_that_fails_keeps_the_app_from_starting(self):
        kubelet = self.run_to_end(pod(container("app", "true"), init=[container("first", "exit 4")]), 1)
        self.assertEqual(kubelet.order("started app"), [])

    def test_nothing_is_left_behind(self):
        kubelet = self.run_to_end(pod(container("app", "true"), volumes=[{"name": "memory", "emptyDir": {"medium": "Memory"}}]))
        name = kubelet.wait_for("created")["podman"]
        for kind in ("pod", "network"):
            self.assertNotEqual(subprocess.run(["podman", kind, "exists", name], check=False).returncode, 0)
        self.assertNotIn(name, pathlib.Path("/proc/mounts").read_text())


class WhatAContainerSees(unittest.TestCase):
    def lines(self, script, documents=(), metadata=None, options=(), pod_more=None, **more):
        """What the script prints in a pod's only container."""
        manifest = pod(container("app", script, **more), metadata=metadata, **(pod_more or {}))
        kubelet = Kubelet({"kind": "List", "items": [manifest, *documents]}, *options)
        self.addCleanup(kubelet.process.kill)
        self.assertEqual(kubelet.end(), 0, kubelet.said())
        return [line.removeprefix("app| ") for line in kubelet.logs], kubelet.wait_for("created")

    def test_variables_from_everywhere(self):
        def field(name, path):
            return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

        lines, created = self.lines(
            "env | grep ^T_ | sort; echo $0",
            metadata={"labels": {"app": "blue"}, "annotations": {"a/b": 'say "hi"'}},
            documents=[
                {"kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"ONE": "1", "TWO": "2"}},
                {"kind": "Secret", "metadata": {"name": "key"}, "data": {"word": "c2VjcmV0"}},
            ],
            env=[
                field("T_IP", "status.podIP"),
                field("T_HOST", "status.hostIP"),
                field("T_UID", "metadata.uid"),
                field("T_LABEL", "metadata.labels['app']"),
                field("T_NOTE", "metadata.annotations['a/b']"),
                {"name": "T_KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "word"}}},
                {"name": "T_ALL", "value": "$(T_LABEL)-$(T_ONE)-$$(T_ONE)-$(T_NONE)"},
                {"name": "T_MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "T_NOT", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "no", "optional": True}}},
            ],
            envFrom=[{"configMapRef": {"name": "map"}, "prefix": "T_"}],
            args=["$(T_KEY)"],
            resources={"limits": {"memory": "64Mi", "cpu": "500m"}},
        )
        self.assertEqual(
            lines,
            [
                "T_ALL=blue-1-$(T_ONE)-$(T_NONE)",
                f"T_HOST={created['host_addresses'][0]}",
                f"T_IP={created['addresses'][0]}",
                "T_KEY=secret",
                "T_LABEL=blue",
                "T_MEMORY=64",
                'T_NOTE=say "hi"',
                "T_ONE=1",
                "T_TWO=2",
                f"T_UID={created['uid']}",
                "secret",
            ],
        )

    def test_files_of_every_kind(self):
        token = {"serviceAccountToken": {"path": "token", "audience": "collector"}}
        lines, _ = self.lines(
            "stat -c '%a %u:%g' /empty; cat /info/notes; echo; stat -L -c %a /map/file /projected/token; cat /one; echo; "
            "ls /projected; touch /map/x 2>&1 || true",
            metadata={"annotations": {"b": "2", "a": 'x"y'}},
            documents=[{"kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"file": "text", "other": "more"}}],
            pod_more={
                "securityContext": {"fsGroup": 2000, "runAsUser": 1000},
                "volumes": [
                    {"name": "empty", "emptyDir": {}},
                    {"name": "info", "downwardAPI": {"items": [{"path": "notes", "fieldRef": {"fieldPath": "metadata.annotations"}}]}},
                    {"name": "map", "configMap": {"name": "map", "defaultMode": 0o400, "items": [{"key": "file", "path": "file"}]}},
                    {"name": "projected", "projected": {"sources": [token, {"configMap": {"name": "map"}}]}},
                ],
            },
            volumeMounts=[{"name": name, "mountPath": f"/{name}"} for name in ("empty", "info", "map", "projected")]
            + [{"name": "map", "mountPath": "/one", "subPath": "file"}],
        )
        self.assertEqual(lines[:9], ["2777 0:2000", 'a="x\\"y"', 'b="2"', "440", "640", "text", "file", "other", "token"])
        self.assertIn("Read-only file system", lines[9])

    def test_rights(self):
        script = "grep -h -e ^CapEff -e ^CapBnd -e ^NoNewPrivs -e ^Seccomp: /proc/self/status | tr -d '\\t'; touch /x 2>&1; id -u"
        lines, _ = self.lines(
            script,
            securityContext={
                "runAsUser": 0,
                "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        )
        rights = f"{1 << 12 | 1 << 13:016x}"
        self.assertEqual(lines[:4], [f"CapEff:{rights}", f"CapBnd:{rights}", "NoNewPrivs:1", "Seccomp:2"])
        self.assertIn("Read-only file system", lines[4])
        lines, _ = self.lines(script, securityContext={"runAsUser": 1000, "runAsNonRoot": True})
        self.assertEqual((lines[0], lines[2], lines[3], lines[-1]), ("CapEff:0000000000000000", "NoNewPrivs:0", "Seccomp:0", "1000"))

    def test_a_seccomp_profile_from_the_node(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
        (folder / "profiles").mkdir()
        (folder / "profiles/no-mkdir.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
        lines, _ = self.lines(
            "mkdir /x 2>&1 || true",
            options=["--seccomp-root", str(folder)],
            securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/no-mkdir.json"}},
        )
        self.assertIn("Operation not permitted", lines[0])

    def test_names_and_both_families(self):
        name = f"kubelet-test-{os.getpid()}"
        subnets = ["--ipv6", "--subnet", "fd00:97::/64", "--subnet", "10.97.0.0/24"]
        subprocess.run(["podman", "network", "create", "--internal", *subnets, name], check=True, stdout=subprocess.DEVNULL)
        self.addCleanup(subprocess.run, ["podman", "network", "rm", "--force", name], stdout=subprocess.DEVNULL)
        server = pod(
            {
                "name": "server",
                "image": "python:3.11-slim-bookworm",
                "command": ["python3", "-m", "http.server", "--bind", "::", "8080"],
                "ports": [{"name": "web", "containerPort": 8080}],
                "startupProbe": {"httpGet": {"port": "web"}, "periodSeconds": 1, "failureThreshold": 30},
                "livenessProbe": {"tcpSocket": {"port": 8080}},
            },
            policy="Always",
            terminationGracePeriodSeconds=0,
        )
        kubelet = Kubelet(server, "--network", name, "--alias", "api.example.com")
        self.addCleanup(kubelet.process.kill)
        kubelet.wait_for("pod_ready")
        addresses = kubelet.wait_for("created")["addresses"]
        self.assertEqual(len(addresses), 2)
        lines, _ = self.lines(
            "getent ahosts api.example.com | awk '/STREAM/ {print $1}' | sort; getent hosts one.alias",
            options=["--network", name],
            pod_more={"hostAliases": [{"ip": "10.97.0.99", "hostnames": ["one.alias"]}]},
        )
        self.assertEqual(lines[:2], sorted(addresses))
        self.assertEqual(lines[2].split(), ["10.97.0.99", "one.alias"])
        kubelet.process.send_signal(signal.SIGTERM)
        self.assertEqual(kubelet.end(), 0, kubelet.said())


class WhatIsRefused(unittest.TestCase):
    def refused(self, manifest, event, code, part):
        kubelet = Kubelet(manifest)
        self.addCleanup(kubelet.process.kill)
        self.assertEqual(kubelet.end(), code, kubelet.said())
        self.assertIn(part, kubelet.wait_for(event)["message"])

    def test_what_is_not_understood(self):
        app = container("app", "true")
        for manifest, part in (
            (pod({**app, "securityContext": {"privileged": True}}), "privileged"),
            (pod({**app, "livenessProbe": {"grpc": {"port": 1}}}), "grpc"),
            (pod(app, volumes=[{"name": "x", "persistentVolumeClaim": {"claimName": "x"}}]), "persistentVolumeClaim"),
            (pod(app, hostNetwork=True), "hostNetwork"),
            (pod({**app, "readinessProbe": {"httpGet": {"port": "web"}}}), "no port is called"),
            (pod(app, init=[container("i", "true", lifecycle={})]), "lifecycle"),
            (pod({**app, "volumeMounts": [{"name": "x", "mountPath": "/x"}]}), "no volume is called x"),
        ):
            with self.subTest(part):
                self.refused(manifest, "refused", 2, part)

    def test_what_a_kubelet_would_not_start(self):
        app = container("app", "true")
        for manifest, part in (
            (pod({**app, "securityContext": {"runAsNonRoot": True}}), "runAsNonRoot"),
            (pod({**app, "image": "no.such/image:1"}), "ErrImageNeverPull"),
            (pod({**app, "envFrom": [{"configMapRef": {"name": "none"}}]}), "not found"),
        ):
            with self.subTest(part):
                self.refused(manifest, "not_startable", 1, part)


if __name__ == "__main__":
    unittest.main()
