# SPDX-License-Identifier: Apache-2.0
"""What the API server refuses of a pod's volumes and of the mounts of its containers."""

from __future__ import annotations

from typing import Any

from mpikit.diagnostics import Found, fault, warning
from mpikit.text.nested import Object, at, numbered
from mpikit.text.units import without_unit
from mpikit.validation.field_checks import below_faults, mode_faults, object_name_faults, own_name

# A volume's source: the fields that name what is mounted, and that must not be empty.
_NEEDED: dict[str, tuple[str, ...]] = {
    "configMap": ("name",),
    "secret": ("secretName",),
    "persistentVolumeClaim": ("claimName",),
    "hostPath": ("path",),
    "nfs": ("server", "path"),
}
HOST_PATH_TYPES = (
    *("", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket", "CharDevice", "BlockDevice"),
)
_NO_SOURCES = ("name",)
_PROPAGATIONS = (None, "None", "HostToContainer", "Bidirectional")


def volumes_faults(spec: Object, key: str) -> Found:
    """Names, sources and what each source needs."""
    seen: set[str] = set()
    for number, volume in numbered(spec.get("volumes")):
        here = f"{key}.volumes[{number}]"
        yield from own_name(volume.get("name"), here, seen)
        sources = [name for name, value in volume.items() if name not in _NO_SOURCES and value is not None]
        if len(sources) > 1:
            yield fault(here, f"has several sources: {', '.join(sources)}", "keep one")
        for source in sources:
            yield from _source_faults(source, volume[source], f"{here}.{source}")


def _source_faults(source: str, value: Any, key: str) -> Found:
    for needed in _NEEDED.get(source, ()) if isinstance(value, dict) else ():
        if not value.get(needed):
            yield fault(f"{key}.{needed}", "is empty", "name what is to be mounted")
    yield from mode_faults(at(value, "defaultMode"), f"{key}.defaultMode")
    for number, item in numbered(at(value, "items")) if source in ("configMap", "secret") else ():
        yield from _item_faults(item, f"{key}.items[{number}]")
    match source:
        case "persistentVolumeClaim":
            yield from object_name_faults(at(value, "claimName"), f"{key}.claimName")
        case "hostPath":
            yield from _host_path_faults(value, key)
        case "nfs" if not str(at(value, "path") or "/").startswith("/"):
            yield fault(f"{key}.path", f"{value['path']!r} must begin with /", "write the whole path")
        case "emptyDir" if str(at(value, "sizeLimit") or "").startswith("-"):
            yield fault(f"{key}.sizeLimit", f"{value['sizeLimit']} is negative", "0 or more")
        case "emptyDir" if said := without_unit(at(value, "sizeLimit")):
            yield warning(f"{key}.sizeLimit", *said)


def _host_path_faults(value: Any, key: str) -> Found:
    kind, path = at(value, "type"), at(value, "path")
    if isinstance(kind, str) and kind not in HOST_PATH_TYPES:
        yield fault(f"{key}.type", f"{kind!r} is not known", f"one of {', '.join(HOST_PATH_TYPES[1:])}")
    if isinstance(path, str) and ".." in path.split("/"):
        yield fault(f"{key}.path", f"{path!r} contains ..", "write the path without ..")


def _item_faults(item: Object, key: str) -> Found:
    """One key of a ConfigMap or Secret that is mounted as a file."""
    path = item.get("path")
    if not item.get("key"):
        yield fault(f"{key}.key", "is empty", "name the key")
    if path == "":
        yield fault(f"{key}.path", "is empty", "name the file")
    elif isinstance(path, str) and (path.startswith(("/", "..")) or ".." in path.split("/")):
        yield fault(f"{key}.path", f"{path!r} must be a file below the volume's", "no / and no .. first")
    yield from mode_faults(item.get("mode"), f"{key}.mode")


def mounts_faults(container: Object, key: str, volumes: set[Any]) -> Found:
    """Mounts of volumes that are not there, or of two at one place."""
    paths: set[str] = set()
    for number, mount in numbered(container.get("volumeMounts")):
        here, name, path = f"{key}.volumeMounts[{number}]", mount.get("name"), mount.get("mountPath")
        if name is not None and name not in volumes:
            known = ", ".join(sorted(f"{one!r}" for one in volumes if one is not None)) or "no volume"
            yield fault(f"{here}.name", f"there is no volume {name!r}", f"the pod has {known}")
        if path == "":
            yield fault(f"{here}.mountPath", "is empty", "give the folder in the container")
        if path in paths:
            yield fault(f"{here}.mountPath", f"{path} is mounted twice", "take one out")
        paths.add(str(path))
        for field in ("subPath", "subPathExpr"):
            yield from below_faults(mount.get(field), f"{here}.{field}")
        if mount.get("subPath") and mount.get("subPathExpr"):
            yield fault(f"{here}.subPathExpr", "stands beside subPath", "keep one")
        if mount.get("mountPropagation") not in _PROPAGATIONS:
            yield fault(f"{here}.mountPropagation", f"{mount['mountPropagation']!r} is not known", "leave it out")
