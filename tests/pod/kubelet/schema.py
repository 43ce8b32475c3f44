"""Every field of a manifest that is understood here, and those that are ignored, with the reason.

A field is USED, an Ignored, a Only (the values that are understood), a dict (an object), a list of one (a list of such), or
an Each (a map of such). What is in none of them stops everything: nothing is ignored in silence.
"""

from dataclasses import dataclass

from .report import Refused

USED = object()


@dataclass(frozen=True)
class Ignored:
    """A field without effect here."""

    why: str


@dataclass(frozen=True)
class Only:
    """A field of which only these values are understood."""

    values: tuple


def check(value, schema, path, ignored):
    """Raises Refused for what is not understood; adds to `ignored` what has no effect."""
    if value is None or schema is USED:
        return
    if isinstance(schema, Ignored):
        ignored.append({"field": path, "why": schema.why})
    elif isinstance(schema, Only):
        if value not in schema.values:
            raise Refused(f"{path}: {value!r} is not supported, only {', '.join(map(repr, schema.values))}")
    elif isinstance(schema, list):
        if not isinstance(value, list):
            raise Refused(f"{path}: not a list")
        for at, item in enumerate(value):
            name = item.get("name", at) if isinstance(item, dict) else at
            check(item, schema[0], f"{path}[{name}]", ignored)
    else:
        if not isinstance(value, dict):
            raise Refused(f"{path}: not an object")
        for field, inner in value.items():
            if field not in schema:
                raise Refused(f"{path}.{field}: not supported")
            check(inner, schema[field], f"{path}.{field}", ignored)


SCHEDULING = Ignored("there is one node")
NO_API = Ignored("there is no API server")
NO_APPARMOR = Ignored("AppArmor is not set up")

METADATA = {
    "name": USED,
    "generateName": USED,
    "namespace": USED,
    "labels": USED,
    "annotations": USED,
    "creationTimestamp": NO_API,
    "finalizers": NO_API,
}

KEYS = {"name": USED, "secretName": USED, "optional": USED, "defaultMode": USED, "items": [{"key": USED, "path": USED, "mode": USED}]}
FIELD_REF = {"apiVersion": Only(("v1",)), "fieldPath": USED}
RESOURCE_FIELD_REF = {"containerName": USED, "resource": USED, "divisor": USED}
DOWNWARD_ITEMS = [{"path": USED, "mode": USED, "fieldRef": FIELD_REF, "resourceFieldRef": RESOURCE_FIELD_REF}]

VOLUME = {
    "name": USED,
    "emptyDir": {"medium": Only(("", "Memory")), "sizeLimit": USED},
    "configMap": KEYS,
    "secret": KEYS,
    "downwardAPI": {"defaultMode": USED, "items": DOWNWARD_ITEMS},
    "projected": {
        "defaultMode": USED,
        "sources": [
            {
                "configMap": KEYS,
                "secret": KEYS,
                "downwardAPI": {"items": DOWNWARD_ITEMS},
                "serviceAccountToken": {"path": USED, "audience": USED, "expirationSeconds": Ignored("the stand-in does not expire")},
            }
        ],
    },
    "hostPath": {"path": USED, "type": Only(("", "Directory", "File", "Socket"))},
}

KEY_REF = {"name": USED, "key": USED, "optional": USED}
ENV = {
    "name": USED,
    "value": USED,
    "valueFrom": {"fieldRef": FIELD_REF, "resourceFieldRef": RESOURCE_FIELD_REF, "configMapKeyRef": KEY_REF, "secretKeyRef": KEY_REF},
}
ENV_FROM = {"prefix": USED, "configMapRef": {"name": USED, "optional": USED}, "secretRef": {"name": USED, "optional": USED}}

HTTP_GET = {"path": USED, "port": USED, "host": USED, "scheme": Only(("HTTP", "HTTPS")), "httpHeaders": [{"name": USED, "value": USED}]}
HANDLER = {"exec": {"command": USED}, "httpGet": HTTP_GET, "tcpSocket": {"port": USED, "host": USED}}
PROBE = {
    **HANDLER,
    "initialDelaySeconds": USED,
    "periodSeconds": USED,
    "timeoutSeconds": USED,
    "successThreshold": USED,
    "failureThreshold": USED,
    "terminationGracePeriodSeconds": USED,
}
HOOK = {"exec": {"command": USED}, "httpGet": HTTP_GET, "sleep": {"seconds": USED}}

SECCOMP = {"type": Only(("RuntimeDefault", "Unconfined", "Localhost")), "localhostProfile": USED}
SHARED_SECURITY = {
    "runAsUser": USED,
    "runAsGroup": USED,
    "runAsNonRoot": USED,
    "seccompProfile": SECCOMP,
    "appArmorProfile": NO_APPARMOR,
}
CONTAINER_SECURITY = {
    **SHARED_SECURITY,
    "capabilities": {"add": USED, "drop": USED},
    "readOnlyRootFilesystem": USED,
    "allowPrivilegeEscalation": USED,
    "privileged": Only((False,)),
}
POD_SECURITY = {
    **SHARED_SECURITY,
    "fsGroup": USED,
    "fsGroupChangePolicy": Ignored("volumes are new: every owner is set"),
    "supplementalGroups": USED,
    "sysctls": [{"name": USED, "value": USED}],
}

CONTAINER = {
    "name": USED,
    "image": USED,
    "imagePullPolicy": Ignored("nothing is pulled: images are on the machine"),
    "command": USED,
    "args": USED,
    "workingDir": USED,
    "env": [ENV],
    "envFrom": [ENV_FROM],
    "ports": [{"name": USED, "containerPort": USED, "protocol": USED}],
    "resources": {
        "limits": {"cpu": USED, "memory": USED, "ephemeral-storage": Ignored("nothing is evicted")},
        "requests": {"cpu": USED, "memory": USED, "ephemeral-storage": SCHEDULING},
    },
    "volumeMounts": [
        {"name": USED, "mountPath": USED, "subPath": USED, "subPathExpr": USED, "readOnly": USED, "mountPropagation": Only(("None",))}
    ],
    "securityContext": CONTAINER_SECURITY,
    "lifecycle": {"postStart": HOOK, "preStop": HOOK},
    "startupProbe": PROBE,
    "livenessProbe": PROBE,
    "readinessProbe": PROBE,
    "terminationMessagePath": Ignored("there is no status to show it in"),
    "terminationMessagePolicy": Ignored("there is no status to show it in"),
    "stdin": Only((False,)),
    "tty": Only((False,)),
}
# kubelet refuses hooks and probes of init containers that end.
INIT_CONTAINER = {field: inner for field, inner in CONTAINER.items() if field != "lifecycle" and not field.endswith("Probe")}
SIDECAR = {**CONTAINER, "restartPolicy": Only(("Always",))}

POD_SPEC = {
    # Checked one by one, by what they are.
    "initContainers": USED,
    "containers": [CONTAINER],
    "volumes": [VOLUME],
    "restartPolicy": Only(("Always", "OnFailure", "Never")),
    "terminationGracePeriodSeconds": USED,
    "securityContext": POD_SECURITY,
    "hostname": USED,
    "hostAliases": [{"ip": USED, "hostnames": USED}],
    "shareProcessNamespace": USED,
    "serviceAccountName": USED,
    "serviceAccount": USED,
    "automountServiceAccountToken": NO_API,
    "nodeName": USED,
    "os": {"name": Only(("linux",))},
    "dnsPolicy": Only(("ClusterFirst", "Default")),
    "hostNetwork": Only((False,)),
    "hostPID": Only((False,)),
    "hostIPC": Only((False,)),
    "enableServiceLinks": NO_API,
    "nodeSelector": SCHEDULING,
    "affinity": SCHEDULING,
    "tolerations": SCHEDULING,
    "topologySpreadConstraints": SCHEDULING,
    "priorityClassName": SCHEDULING,
    "schedulerName": SCHEDULING,
    "imagePullSecrets": Ignored("nothing is pulled: images are on the machine"),
}
