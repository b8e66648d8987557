"""What the API server refuses of a pod beyond its schema: names, references, duplicates, choices.

Source: kubernetes/pkg/apis/core/validation/validation.go of 1.35; compared with a real server case by case
(tests/cluster/test_agreement.py). What only admission can know (quotas, service accounts) is not looked at here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from mpikit.fields import DNS_SUBDOMAIN, LABEL_MAX, SUBDOMAIN_MAX
from mpikit.kubeschema import Found
from mpikit.objects import at
from mpikit.podresources import resource_faults

Object = Mapping[str, Any]

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")  # DNS-1123; may start with a digit, unlike DNS-1035
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")  # of a label's key, and its value
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?")  # IANA service name, at most 15
_ENV_NAME = re.compile(r"[ -<>-~]+")  # printable ASCII without =, since Kubernetes 1.30
# Source: kubernetes/pkg/apis/core/v1/conversion.go and validEnvDownwardAPIFieldPathExpressions.
_FIELD_PATH = re.compile(
    r"metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['[^']+'\]"
    r"|spec\.(nodeName|serviceAccountName)|status\.(hostIP|hostIPs|podIP|podIPs)"
)
PORT_MAX = 65535
MODE_MAX = 0o777
ANNOTATIONS_MAX = 256 << 10
_PORTS = range(1, PORT_MAX + 1)
_EFFECTS = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_HOST_PATH_TYPES = (
    "",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
    "CharDevice",
    "BlockDevice",
)
# Path below a pod's spec: what may stand there.
_POD_CHOICES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("dnsPolicy",): ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None", ""),
    ("preemptionPolicy",): ("PreemptLowerPriority", "Never"),
    ("os", "name"): ("linux", "windows"),
    ("securityContext", "fsGroupChangePolicy"): ("OnRootMismatch", "Always"),
    ("securityContext", "seccompProfile", "type"): ("RuntimeDefault", "Unconfined", "Localhost"),
    ("securityContext", "appArmorProfile", "type"): ("RuntimeDefault", "Unconfined", "Localhost"),
}
_CONTAINER_CHOICES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("imagePullPolicy",): ("Always", "IfNotPresent", "Never", ""),
    ("terminationMessagePolicy",): ("File", "FallbackToLogsOnError", ""),
    ("securityContext", "seccompProfile", "type"): ("RuntimeDefault", "Unconfined", "Localhost"),
    ("securityContext", "procMount"): ("Default", "Unmasked"),
}
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
_PROBE_COUNTS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
# A volume's source: the field that names what is mounted, and that must not be empty.
_SOURCE_NAMES = {"configMap": "name", "secret": "secretName", "persistentVolumeClaim": "claimName", "hostPath": "path"}
_NO_SOURCES = ("name",)


def template_faults(template: Any, key: str) -> Found:
    """Every fault of a pod template that is seen from the template alone."""
    yield from metadata_faults(at(template, "metadata"), f"{key}.metadata")
    spec = at(template, "spec")
    if isinstance(spec, dict):
        yield from _spec_faults(spec, f"{key}.spec")


def metadata_faults(metadata: Any, key: str) -> Found:
    """Labels and annotations that break the server's syntax."""
    for name, value in _map(at(metadata, "labels")).items():
        yield from _qualified(str(name), f"{key}.labels.{name}")
        if isinstance(value, str) and value and (not _NAME.fullmatch(value) or len(value) > LABEL_MAX):
            message = f"{value!r} is no label value"
            yield f"{key}.labels.{name}", message, f"A-Z, a-z, 0-9, -, _ and ., at most {LABEL_MAX}", "fault"
    annotations = _map(at(metadata, "annotations"))
    for name in annotations:
        yield from _qualified(str(name).lower(), f"{key}.annotations.{name}")
    if sum(len(str(name).encode()) + len(str(value).encode()) for name, value in annotations.items()) > ANNOTATIONS_MAX:
        yield f"{key}.annotations", "are longer than 256 KiB together", "put less into annotations", "fault"


def _spec_faults(spec: Object, key: str) -> Found:
    yield from _choice_faults(spec, _POD_CHOICES, key)
    for name in ("serviceAccountName", "priorityClassName", "runtimeClassName", "nodeName"):
        yield from _subdomain(spec.get(name), f"{key}.{name}")
    for name in ("hostname", "subdomain"):
        yield from _label(spec.get(name), f"{key}.{name}")
    deadline = spec.get("activeDeadlineSeconds")
    if _is_int(deadline) and not 1 <= deadline < 1 << 31:
        yield f"{key}.activeDeadlineSeconds", f"{deadline} is out of range", "1 or more", "fault"
    for number, alias in _numbered(spec.get("hostAliases")):
        if not _is_address(alias.get("ip")):
            yield f"{key}.hostAliases[{number}].ip", f"{alias.get('ip')!r} is no address", "such as 10.0.0.1", "fault"
    for name, value in _map(spec.get("nodeSelector")).items():
        yield from metadata_faults({"labels": {name: value}}, f"{key}.nodeSelector")
    for number, toleration in _numbered(spec.get("tolerations")):
        yield from _toleration_faults(toleration, f"{key}.tolerations[{number}]")
    yield from _affinity_faults(spec.get("affinity"), f"{key}.affinity")
    yield from _security_faults(spec.get("securityContext"), f"{key}.securityContext")
    yield from _volumes_faults(spec, key)
    yield from _containers_faults(spec, key)


def _choice_faults(part: Object, choices: Mapping[tuple[str, ...], tuple[str, ...]], key: str) -> Found:
    for path, allowed in choices.items():
        value = at(part, *path)
        if isinstance(value, str) and value not in allowed:
            known = ", ".join(choice for choice in allowed if choice)
            yield ".".join((key, *path)), f"{value!r} is not known", f"one of {known}", "fault"


def _toleration_faults(toleration: Object, key: str) -> Found:
    operator, value = toleration.get("operator") or "Equal", toleration.get("value")
    if toleration.get("key"):
        yield from _qualified(toleration["key"], f"{key}.key")
    elif operator != "Exists":
        yield f"{key}.operator", "must be Exists where there is no key", "give a key, or operator: Exists", "fault"
    if operator not in ("Equal", "Exists"):
        yield f"{key}.operator", f"{operator!r} is not known", "one of Equal, Exists", "fault"
    if operator == "Exists" and value:
        yield f"{key}.value", "must be empty with operator Exists", "take it out, or set operator: Equal", "fault"
    elif isinstance(value, str) and value and (not _NAME.fullmatch(value) or len(value) > LABEL_MAX):
        yield f"{key}.value", f"{value!r} is no label value", "A-Z, a-z, 0-9, -, _ and .", "fault"
    if (toleration.get("effect") or "") not in _EFFECTS:
        yield f"{key}.effect", f"{toleration['effect']!r} is not known", f"one of {', '.join(_EFFECTS[1:])}", "fault"
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        yield f"{key}.effect", "must be NoExecute with tolerationSeconds", "take tolerationSeconds out", "fault"


def _affinity_faults(affinity: Any, key: str) -> Found:
    """Rules about nodes and pods: operators with the values that they need, weights, topology keys."""
    for path, part in _walk(affinity, key):
        weight = part.get("weight")
        if _is_int(weight) and not 1 <= weight <= 100:
            yield f"{path}.weight", f"{weight} is out of range", "1 to 100", "fault"
        if "topologyKey" in part and not part["topologyKey"]:
            yield f"{path}.topologyKey", "is empty", "give a node label, such as kubernetes.io/hostname", "fault"
        if "nodeSelectorTerms" in part and not part["nodeSelectorTerms"]:
            yield f"{path}.nodeSelectorTerms", "is empty", "give one term", "fault"
        if isinstance(part.get("key"), str) and "operator" in part:
            yield from _expression_faults(part, path)


def _expression_faults(rule: Object, key: str) -> Found:
    operator, values = rule["operator"], rule.get("values") or []
    known = ("In", "NotIn", "Exists", "DoesNotExist", *(() if "labelSelector" in key.lower() else ("Gt", "Lt")))
    if operator not in known:
        yield f"{key}.operator", f"{operator!r} is not known", f"one of {', '.join(known)}", "fault"
    elif operator in ("In", "NotIn") and not values:
        yield f"{key}.values", f"is empty, and {operator} needs one", "give a value", "fault"
    elif operator in ("Exists", "DoesNotExist") and values:
        yield f"{key}.values", f"must be empty with {operator}", "take it out", "fault"
    elif operator in ("Gt", "Lt") and len(values) != 1:
        yield f"{key}.values", f"must be one number with {operator}", "give one", "fault"
    yield from _qualified(rule["key"], f"{key}.key")


def _security_faults(context: Any, key: str) -> Found:
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        value = at(context, name)
        if _is_int(value) and not 0 <= value < 1 << 31:
            yield f"{key}.{name}", f"{value} is no user or group number", "0 to 2147483647", "fault"
    if at(context, "privileged") is True and at(context, "allowPrivilegeEscalation") is False:
        yield f"{key}.allowPrivilegeEscalation", "cannot be false when privileged", "take one of them out", "fault"
    profile = at(context, "seccompProfile")
    if isinstance(profile, dict) and (profile.get("type") == "Localhost") != bool(profile.get("localhostProfile")):
        yield f"{key}.seccompProfile", "localhostProfile and type Localhost go together", "give both or none", "fault"


def _volumes_faults(spec: Object, key: str) -> Found:
    seen: set[str] = set()
    for number, volume in _numbered(spec.get("volumes")):
        here = f"{key}.volumes[{number}]"
        yield from _own_name(volume.get("name"), here, seen)
        sources = [name for name, value in volume.items() if name not in _NO_SOURCES and value is not None]
        if len(sources) > 1:
            yield here, f"has several sources: {', '.join(sources)}", "keep one", "fault"
        for source in sources:
            yield from _source_faults(source, volume[source], f"{here}.{source}")


def _source_faults(source: str, value: Any, key: str) -> Found:
    needed = _SOURCE_NAMES.get(source)
    if needed and isinstance(value, dict) and not value.get(needed):
        yield f"{key}.{needed}", "is empty", "name what is to be mounted", "fault"
    if source == "persistentVolumeClaim":
        yield from _subdomain(at(value, "claimName"), f"{key}.claimName")
    if source == "hostPath":
        kind, path = at(value, "type"), at(value, "path")
        if isinstance(kind, str) and kind not in _HOST_PATH_TYPES:
            yield f"{key}.type", f"{kind!r} is not known", f"one of {', '.join(_HOST_PATH_TYPES[1:])}", "fault"
        if isinstance(path, str) and ".." in path.split("/"):
            yield f"{key}.path", f"{path!r} holds ..", "write the path without ..", "fault"
    mode = at(value, "defaultMode")
    if _is_int(mode) and not 0 <= mode <= MODE_MAX:
        yield f"{key}.defaultMode", f"{mode} is out of range", "0 to 511, which is 0777 in octal", "fault"
    size = at(value, "sizeLimit") if source == "emptyDir" else None
    if size is not None and str(size).startswith("-"):
        yield f"{key}.sizeLimit", f"{size} is negative", "0 or more", "fault"


def _containers_faults(spec: Object, key: str) -> Found:
    volumes = {volume.get("name") for _, volume in _numbered(spec.get("volumes"))}
    names: set[str] = set()
    for field in ("initContainers", "containers"):
        for number, container in _numbered(spec.get(field)):
            here = f"{key}.{field}[{number}]"
            yield from _own_name(container.get("name"), here, names)
            yield from _container_faults(container, here, volumes)


def _container_faults(container: Object, key: str, volumes: set[Any]) -> Found:
    image = container.get("image")
    if not image:
        yield f"{key}.image", "is missing", "give the container an image", "fault"
    elif isinstance(image, str) and image != image.strip():
        yield f"{key}.image", f"{image!r} begins or ends with a space", "take the space out", "fault"
    yield from _choice_faults(container, _CONTAINER_CHOICES, key)
    yield from _env_faults(container, key)
    yield from _mount_faults(container, key, volumes)
    yield from _port_faults(container, key)
    yield from _security_faults(container.get("securityContext"), f"{key}.securityContext")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        yield from _probe_faults(container.get(name), f"{key}.{name}", once=name != "readinessProbe")
    for name, hook in _map(container.get("lifecycle")).items():
        if isinstance(hook, dict):
            yield from _handler_faults(hook, f"{key}.lifecycle.{name}", _HOOKS)
    yield from resource_faults(container.get("resources"), f"{key}.resources")


def _env_faults(container: Object, key: str) -> Found:
    for number, variable in _numbered(container.get("env")):
        here, name = f"{key}.env[{number}]", variable.get("name")
        if isinstance(name, str) and not _ENV_NAME.fullmatch(name):
            yield f"{here}.name", f"{name!r} is no name of a variable", "A-Z, a-z, 0-9 and _", "fault"
        source = variable.get("valueFrom")
        if isinstance(source, dict):
            if variable.get("value"):
                yield here, "has both value and valueFrom", "keep one", "fault"
            if len(source) != 1:
                yield f"{here}.valueFrom", f"has {len(source)} sources", "give one", "fault"
            path = at(source, "fieldRef", "fieldPath")
            if isinstance(path, str) and not _FIELD_PATH.fullmatch(path):
                known = "metadata.name, metadata.labels['KEY'], spec.nodeName, status.podIP, ..."
                yield f"{here}.valueFrom.fieldRef.fieldPath", f"{path!r} is no field of a pod", known, "fault"
            for kind in ("configMapKeyRef", "secretKeyRef"):
                if isinstance(source.get(kind), dict) and not source[kind].get("key"):
                    yield f"{here}.valueFrom.{kind}.key", "is empty", "name the key", "fault"
    for number, source in _numbered(container.get("envFrom")):
        given = [kind for kind in ("configMapRef", "secretRef") if isinstance(source.get(kind), dict)]
        if len(given) != 1 or not source[given[0]].get("name"):
            yield f"{key}.envFrom[{number}]", "names no ConfigMap or Secret", "give configMapRef or secretRef", "fault"


def _mount_faults(container: Object, key: str, volumes: set[Any]) -> Found:
    paths: set[str] = set()
    for number, mount in _numbered(container.get("volumeMounts")):
        here, name, path = f"{key}.volumeMounts[{number}]", mount.get("name"), mount.get("mountPath")
        if name not in volumes:
            known = ", ".join(sorted(map(str, volumes))) or "no volume"
            yield f"{here}.name", f"there is no volume {name!r}", f"the pod has {known}", "fault"
        if path == "":
            yield f"{here}.mountPath", "is empty", "give the folder in the container", "fault"
        if path in paths:
            yield f"{here}.mountPath", f"{path} is mounted twice", "take one out", "fault"
        paths.add(str(path))
        for field in ("subPath", "subPathExpr"):
            value = mount.get(field)
            if isinstance(value, str) and (value.startswith("/") or ".." in value.split("/")):
                yield f"{here}.{field}", f"{value!r} must be a folder below the volume's", "no / first, no ..", "fault"
        if mount.get("subPath") and mount.get("subPathExpr"):
            yield f"{here}.subPathExpr", "stands beside subPath", "keep one", "fault"
        if mount.get("mountPropagation") not in (None, "None", "HostToContainer", "Bidirectional"):
            yield f"{here}.mountPropagation", f"{mount['mountPropagation']!r} is not known", "leave it out", "fault"


def _port_faults(container: Object, key: str) -> Found:
    names: set[str] = set()
    for number, port in _numbered(container.get("ports")):
        here, name = f"{key}.ports[{number}]", port.get("name")
        if _is_int(port.get("containerPort")) and port["containerPort"] not in _PORTS:
            yield f"{here}.containerPort", f"{port['containerPort']} is no port", f"1 to {PORT_MAX}", "fault"
        if _is_int(port.get("hostPort")) and port["hostPort"] not in (0, *_PORTS):
            yield f"{here}.hostPort", f"{port['hostPort']} is no port", f"1 to {PORT_MAX}", "fault"
        if isinstance(port.get("protocol"), str) and port["protocol"] not in ("", *_PROTOCOLS):
            yield f"{here}.protocol", f"{port['protocol']!r} is not known", f"one of {', '.join(_PROTOCOLS)}", "fault"
        if isinstance(name, str) and name:
            if not _PORT_NAME.fullmatch(name) or len(name) > 15:
                yield f"{here}.name", f"{name!r} is no name of a port", "a-z, 0-9 and -, at most 15", "fault"
            if name in names:
                yield f"{here}.name", f"{name!r} is there already", "give another name", "fault"
            names.add(name)


def _probe_faults(probe: Any, key: str, *, once: bool) -> Found:
    if not isinstance(probe, dict):
        return
    yield from _handler_faults(probe, key, _HANDLERS)
    for name in _PROBE_COUNTS:
        if _is_int(probe.get(name)) and probe[name] < 0:
            yield f"{key}.{name}", f"{probe[name]} is negative", "0 or more", "fault"
    if once and _is_int(probe.get("successThreshold")) and probe["successThreshold"] > 1:
        yield f"{key}.successThreshold", "must be 1 here", "set 1", "fault"
    grace = probe.get("terminationGracePeriodSeconds")
    if _is_int(grace) and (grace < 1 or key.endswith("readinessProbe")):
        yield f"{key}.terminationGracePeriodSeconds", "is refused here", "take it out", "fault"


def _handler_faults(handler: Object, key: str, known: Sequence[str]) -> Found:
    given = [name for name in known if isinstance(handler.get(name), dict)]
    if len(given) != 1:
        yield key, "has several handlers" if given else "has no handler", f"give one of {', '.join(known)}", "fault"
    for name in given:
        port = handler[name].get("port")
        if _is_int(port) and port not in _PORTS:
            yield f"{key}.{name}.port", f"{port} is no port", f"1 to {PORT_MAX}", "fault"
        elif isinstance(port, str) and (not _PORT_NAME.fullmatch(port) or len(port) > 15):
            yield f"{key}.{name}.port", f"{port!r} is no name of a port", "give a number, or a port's name", "fault"
        if name == "exec" and not handler[name].get("command"):
            yield f"{key}.exec.command", "is empty", "give a command", "fault"


def _own_name(name: Any, key: str, seen: set[str]) -> Found:
    """A DNS label that nothing else of its kind has."""
    if name is None or not isinstance(name, str):
        return  # the schema says so
    if not _DNS_LABEL.fullmatch(name) or len(name) > LABEL_MAX:
        yield f"{key}.name", f"{name!r} is no DNS label", f"a-z, 0-9 and -, at most {LABEL_MAX}", "fault"
    if name in seen:
        yield f"{key}.name", f"{name!r} is there already", "give another name", "fault"
    seen.add(name)


def _label(value: Any, key: str) -> Found:
    if isinstance(value, str) and value and (not _DNS_LABEL.fullmatch(value) or len(value) > LABEL_MAX):
        yield key, f"{value!r} is no DNS label", f"a-z, 0-9 and -, at most {LABEL_MAX}", "fault"


def _subdomain(value: Any, key: str) -> Found:
    if isinstance(value, str) and value and (not DNS_SUBDOMAIN.fullmatch(value) or len(value) > SUBDOMAIN_MAX):
        yield key, f"{value!r} is no name of an object", "a-z, 0-9, - and .", "fault"


def _qualified(name: str, key: str) -> Found:
    """A label's key: a name, with or without a domain before it."""
    domain, slash, own = name.rpartition("/")
    good = _NAME.fullmatch(own) and len(own) <= LABEL_MAX
    if not good or (slash and (not DNS_SUBDOMAIN.fullmatch(domain) or len(domain) > SUBDOMAIN_MAX)):
        yield key, f"{name!r} is no key of a label", "A-Z, a-z, 0-9, -, _ and ., after a domain/ or alone", "fault"


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_address(value: Any) -> bool:
    try:
        return bool(ipaddress.ip_address(str(value)))
    except ValueError:
        return False


def _map(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _numbered(value: Any) -> list[tuple[int, dict[str, Any]]]:
    """The maps of a list with their places."""
    return [pair for pair in enumerate(value) if isinstance(pair[1], dict)] if isinstance(value, list) else []


def _walk(value: Any, key: str) -> Iterator[tuple[str, Object]]:
    """Every map in a tree, with its key."""
    if isinstance(value, dict):
        yield key, value
        for name, item in value.items():
            yield from _walk(item, f"{key}.{name}")
    for number, item in enumerate(value if isinstance(value, list) else ()):
        yield from _walk(item, f"{key}[{number}]")
