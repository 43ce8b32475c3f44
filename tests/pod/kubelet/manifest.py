"""The documents of a file: one pod, its ConfigMaps and Secrets. Refuses what is not understood."""

import base64
import uuid
from dataclasses import dataclass, field

import yaml

from . import schema
from .report import Refused


@dataclass
class Container:
    """A container of the manifest. `kind` is "init" (it ends), "sidecar" (an init container that stays) or "app"."""

    kind: str
    spec: dict

    @property
    def name(self):
        return self.spec["name"]

    def port(self, port):
        """A port by its number or its name."""
        if isinstance(port, int):
            return port
        if str(port).isdigit():
            return int(port)
        for known in self.spec.get("ports") or []:
            if known.get("name") == port:
                return known["containerPort"]
        raise Refused(f"{self.name}: no port is called {port!r}")


@dataclass
class Manifest:
    """A pod as the API server would hand it to a kubelet."""

    name: str
    namespace: str
    labels: dict
    annotations: dict
    spec: dict
    init_containers: list
    containers: list
    config_maps: dict
    secrets: dict
    ignored: list
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def security(self):
        return self.spec.get("securityContext") or {}

    @property
    def restart_policy(self):
        return self.spec.get("restartPolicy", "Always")

    @property
    def grace(self):
        return self.spec.get("terminationGracePeriodSeconds", 30)

    def all_containers(self):
        return self.init_containers + self.containers


def load(text):
    """The one pod of these documents."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document]
    except yaml.YAMLError as error:
        raise Refused(f"not YAML: {error}") from error
    documents = [item for document in documents for item in (document["items"] if document.get("kind") == "List" else [document])]
    workloads = [document for document in documents if document.get("kind") in ("Pod", "Deployment", "Job")]
    if len(workloads) != 1:
        raise Refused(f"one Pod, Deployment or Job is expected, found {len(workloads)}")
    ignored = [
        {"field": f"{document.get('kind')} {document['metadata']['name']}", "why": "there is no API server"}
        for document in documents
        if document.get("kind") not in ("Pod", "Deployment", "Job", "ConfigMap", "Secret")
    ]
    metadata, spec = pod_of(workloads[0], ignored)
    schema.check(metadata, schema.METADATA, "metadata", ignored)
    schema.check(spec, schema.POD_SPEC, "spec", ignored)
    manifest = Manifest(
        name=metadata["name"],
        namespace=metadata.get("namespace", "default"),
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        spec=spec,
        init_containers=[init_container(container, ignored) for container in spec.get("initContainers") or []],
        containers=[Container("app", container) for container in spec["containers"]],
        config_maps=by_name(documents, "ConfigMap", config_map_data),
        secrets=by_name(documents, "Secret", secret_data),
        ignored=ignored,
    )
    check_whole(manifest)
    return manifest


def pod_of(workload, ignored):
    """Metadata and spec of the pod that a workload's controller would make."""
    if workload["kind"] == "Pod":
        return workload["metadata"], workload["spec"]
    template = workload["spec"]["template"]
    outer = workload["metadata"]
    ignored += [
        {"field": f"{workload['kind']}.spec.{name}", "why": "one pod of the template is run"}
        for name in workload["spec"]
        if name not in ("template", "selector")
    ]
    metadata = {**(template.get("metadata") or {})}
    # A controller's pods have names of their own.
    metadata["name"] = f"{outer['name']}-{uuid.uuid4().hex[:5]}"
    metadata.setdefault("namespace", outer.get("namespace", "default"))
    spec = template["spec"]
    if workload["kind"] == "Job" and spec.get("restartPolicy") not in ("Never", "OnFailure"):
        raise Refused("a Job's restartPolicy is Never or OnFailure")
    return metadata, spec


def init_container(spec, ignored):
    path = f"spec.initContainers[{spec.get('name')}]"
    if "restartPolicy" in spec:
        schema.check(spec, schema.SIDECAR, path, ignored)
        return Container("sidecar", spec)
    schema.check(spec, schema.INIT_CONTAINER, path, ignored)
    return Container("init", spec)


def check_whole(manifest):
    """What no single field shows."""
    names = [container.name for container in manifest.all_containers()]
    if len(set(names)) != len(names):
        raise Refused("two containers of one name")
    volumes = {volume["name"]: volume for volume in manifest.spec.get("volumes") or []}
    for volume in volumes.values():
        if len(volume) != 2:
            raise Refused(f"volume {volume['name']}: one source is expected")
    for container in manifest.all_containers():
        for mount in container.spec.get("volumeMounts") or []:
            if mount["name"] not in volumes:
                raise Refused(f"{container.name}: no volume is called {mount['name']}")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            spec = container.spec.get(probe)
            if spec is None:
                continue
            handlers = schema.HANDLER.keys() & spec.keys()
            if len(handlers) != 1:
                raise Refused(f"{container.name}: {probe}: exec, httpGet or tcpSocket is expected")
            if "exec" not in handlers:
                container.port(spec[handlers.pop()]["port"])
            if probe != "readinessProbe" and spec.get("successThreshold", 1) != 1:
                raise Refused(f"{container.name}: {probe}: successThreshold has to be 1")


def by_name(documents, kind, data):
    return {document["metadata"]["name"]: data(document) for document in documents if document.get("kind") == kind}


def config_map_data(document):
    text = {key: value.encode() for key, value in (document.get("data") or {}).items()}
    return {**text, **{key: base64.b64decode(value) for key, value in (document.get("binaryData") or {}).items()}}


def secret_data(document):
    data = {key: base64.b64decode(value) for key, value in (document.get("data") or {}).items()}
    return {**data, **{key: value.encode() for key, value in (document.get("stringData") or {}).items()}}
