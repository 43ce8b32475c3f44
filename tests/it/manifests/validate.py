"""Reads manifests (YAML) from standard input and prints them as one JSON list. Each must be valid, strictly, for the named
versions of Kubernetes ("1.27"), or without any for the last four that the schemas know."""

import json
import sys

import kubernetes_validate
import yaml
from kubernetes_validate.utils import all_versions

known = list(dict.fromkeys(all_versions()))
versions = sys.argv[1:] or [".".join(version.split(".")[:2]) for version in known[-4:]]
manifests = [manifest for manifest in yaml.safe_load_all(sys.stdin) if manifest]
for manifest in manifests:
    for version in versions:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(str(key) for key in error.path)
            sys.exit(f"{manifest['kind']} {manifest['metadata']['name']}, Kubernetes {version}: {where}: {error.message}")
json.dump(manifests, sys.stdout)
