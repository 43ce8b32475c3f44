"""Reads manifests (YAML) from standard input and prints them as one JSON list. Each must be valid, strictly, for the named
versions of Kubernetes ("1.27"), or without any for the last four that the schemas know. Beside the schemas it holds containers to
what the API server says of them: each has an image, and no variable two values."""

import json
import sys

import kubernetes_validate
import yaml
from kubernetes_validate.utils import all_versions



def containers(part):
    """Every container of a manifest, wherever its pod is."""
    if isinstance(part, list):
        for item in part:
            yield from containers(item)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key in ("containers", "initContainers") and isinstance(value, list):
                yield from value
            yield from containers(value)


known = list(dict.fromkeys(all_versions()))
versions = sys.argv[1:] or [".".join(version.split(".")[:2]) for version in known[-4:]]
manifests = [manifest for manifest in yaml.safe_load_all(sys.stdin) if manifest]
for manifest in manifests:
    for container in containers(manifest):
        if not container.get("image"):
            sys.exit(f"{manifest['kind']} {manifest['metadata']['name']}: {container['name']} has no image")
        for variable in container.get("env") or []:
            if "value" in variable and "valueFrom" in variable:
                sys.exit(f"{manifest['kind']} {manifest['metadata']['name']}: {variable['name']} has value and valueFrom")
    for version in versions:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(key) for key in error.path)
            sys.exit(f"{manifest['kind']} {manifest['metadata']['name']}, Kubernetes {version}: {where}: {error.message}")
json.dump(manifests, sys.stdout)
