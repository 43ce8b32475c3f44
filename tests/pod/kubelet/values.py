"""What a manifest's text comes to in this pod: fieldRefs, resourceFieldRefs, quantities, `$(VAR)`."""

import math
import os
import re
from decimal import Decimal

from .report import NotStartable, Refused


def field(manifest, sandbox, path, for_volume=False):
    """The text of a fieldRef."""
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if keyed:
        return getattr(manifest, keyed[1]).get(keyed[2], "")
    values = {
        "metadata.name": manifest.name,
        "metadata.namespace": manifest.namespace,
        "metadata.uid": manifest.uid,
    }
    if for_volume:
        values["metadata.labels"] = lines_of(manifest.labels)
        values["metadata.annotations"] = lines_of(manifest.annotations)
    else:
        values["spec.nodeName"] = manifest.spec.get("nodeName", os.uname().nodename)
        values["spec.serviceAccountName"] = manifest.spec.get("serviceAccountName", "default")
        values["status.podIP"] = sandbox.addresses[0]
        values["status.podIPs"] = ",".join(sandbox.addresses)
        values["status.hostIP"] = sandbox.host_addresses[0]
        values["status.hostIPs"] = ",".join(sandbox.host_addresses)
    if path not in values:
        raise Refused(f"fieldRef {path!r} is not supported {'in a volume' if for_volume else 'in a variable'}")
    return values[path]


def lines_of(pairs):
    """Labels or annotations as kubelet writes them into a file."""
    return "\n".join(f"{key}={quoted(value)}" for key, value in sorted(pairs.items()))


def quoted(text):
    """Go's %q: quotes, backslashes and what cannot be printed are escaped."""
    out = []
    for character in text:
        if character in GO_ESCAPES:
            out.append(GO_ESCAPES[character])
        elif character.isprintable():
            out.append(character)
        else:
            code = ord(character)
            out.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def resource(container, reference):
    """The text of a resourceFieldRef; what is not limited is as large as the machine."""
    which, _, name = reference["resource"].partition(".")
    if which not in ("limits", "requests") or name not in ("cpu", "memory"):
        raise Refused(f"{container.name}: resourceFieldRef {reference['resource']!r} is not supported")
    resources = container.spec.get("resources") or {}
    given = (resources.get(which) or {}).get(name)
    if given is None and which == "requests":
        # The API server's default.
        given = (resources.get("limits") or {}).get(name, 0)
    if given is None:
        given = os.cpu_count() if name == "cpu" else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return str(math.ceil(quantity(given) / (quantity(reference.get("divisor") or 1) or 1)))


def quantity(text):
    """A quantity of Kubernetes (128Mi, 500m, 1e3) as a number."""
    match = re.fullmatch(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)", str(text))
    if not match or match[2] not in SUFFIXES:
        raise Refused(f"{text!r} is not a quantity")
    return Decimal(match[1]) * SUFFIXES[match[2]]


def environment(manifest, sandbox, container):
    """The container's variables, in order; later ones may refer to earlier ones."""
    variables = {}
    for source in container.spec.get("envFrom") or []:
        for kind, known in (("configMapRef", manifest.config_maps), ("secretRef", manifest.secrets)):
            if kind in source:
                for key, value in referred(known, source[kind]).items():
                    variables[source.get("prefix", "") + key] = value.decode()
    for variable in container.spec.get("env") or []:
        source, value = variable.get("valueFrom"), variable.get("value")
        if source is None:
            if not isinstance(value or "", str):
                raise Refused(f"{container.name}: the value of {variable['name']} has to be a string")
            value = expand(value or "", variables)
        else:
            value = value_from(manifest, sandbox, container, source)
        if value is not None:
            variables[variable["name"]] = value
    return variables


def value_from(manifest, sandbox, container, source):
    """None for an optional reference to what is not there."""
    if "fieldRef" in source:
        return field(manifest, sandbox, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return resource(container, source["resourceFieldRef"])
    for kind, known in (("configMapKeyRef", manifest.config_maps), ("secretKeyRef", manifest.secrets)):
        if kind in source:
            reference = source[kind]
            data = referred(known, reference)
            if reference["key"] not in data and not reference.get("optional"):
                raise NotStartable(f"couldn't find key {reference['key']} in {reference['name']}")
            return data[reference["key"]].decode() if reference["key"] in data else None
    raise Refused(f"{container.name}: a variable from nothing")


def referred(known, reference, name="name"):
    """The data of a ConfigMap or Secret."""
    if reference[name] in known:
        return known[reference[name]]
    if reference.get("optional"):
        return {}
    raise NotStartable(f"{reference[name]!r} not found")


def expand(text, variables):
    """`$(VAR)` by its value, if there is such a variable; `$$` is a dollar that expands nothing."""
    return re.sub(r"\$(?:\$|\(([^()]*)\))", lambda found: "$" if found[0] == "$$" else variables.get(found[1], found[0]), text)


GO_ESCAPES = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
SUFFIXES = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}
