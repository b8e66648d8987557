"""Values -> Job: every fault of the values at once, each with its place and the way to put it right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from mpikit.errors import Fault, ValuesError
from mpikit.fields import ENV_NAME, LABEL_MAX, FieldError, amount
from mpikit.job import Job
from mpikit.profiles import OLDEST_SYNAPSE, SYNAPSE, release_named, version_key
from mpikit.quoting import shown
from mpikit.reader import Document, Key, dotted
from mpikit.values import LOGIN, USER_FILE, Layer, Values, fill_placeholders, merge, without

# Variables that mpirun or the kit's own scripts set for each rank.
RESERVED_ENV = ("MASTER_ADDR", "MASTER_PORT", "PYTHONPATH", "PYTHONSAFEPATH", "RANK", "WORLD_SIZE", "LOCAL_RANK")
RESERVED_PREFIXES = ("OMPI_COMM_WORLD_", "PMIX_", "MPIKIT_")

# PodSpec fields that the template prints itself, and the key of the values to use instead.
PRINTED_FIELDS = {
    "containers": "resources, env, worker.volumeMounts",
    "volumes": "worker.volumes or launcher.volumes",
    "nodeSelector": "worker.nodeSelector or launcher.nodeSelector",
    "tolerations": "worker.tolerations or launcher.tolerations",
    "affinity": "worker.affinity or launcher.affinity",
    "serviceAccountName": "serviceAccountName",
    "hostIPC": "hostIPC",
    "imagePullSecrets": "imagePullSecrets",
    "terminationGracePeriodSeconds": "terminationGracePeriodSeconds",
    "restartPolicy": "runPolicy.backoffLimit; the operator sets it from the replica",
}


def load_job(values: Values) -> tuple[Job, list[Fault]]:
    """The job that the values describe and the warnings about it; ValuesError with every fault otherwise.

    A value that cannot be read is reported, then taken out, so that the rules across values are still checked with
    what the layers below say.
    """
    faults: dict[str, Fault] = {}  # the first of each key: what follows from a fault is not told as one of its own
    job: Job | None = None
    while job is None:
        job, found = _validate(values)
        fresh = {fault.key: fault for fault in reversed(found) if fault.key not in faults}
        faults |= fresh
        if job is None and not fresh:
            break
    if job is not None:
        faults = {fault.key: fault for fault in check_rules(job, values)} | faults
    told = [*values.faults, *faults.values()]
    if job is None or any(fault.severity == "fault" for fault in told):
        raise ValuesError(sorted(told, key=lambda fault: (fault.severity, _place(fault.where))))
    return job, told


def _place(where: str) -> tuple[str, int]:
    source, _, line = where.partition(":")
    number = line.split(":")[0]
    return source, int(number) if number.isdigit() else 0


def _validate(values: Values) -> tuple[Job | None, list[Fault]]:
    """One try at the model; on failure the values at fault are taken out of `values`."""
    if values.data.get("user") == "root" and values.where(("user",)) == LOGIN:
        _stand_in(values)
        return None, [_login_fault("root")]
    fill_placeholders(values)
    try:
        return Job.model_validate(values.data), []
    except ValidationError as error:
        details = [detail for detail in error.errors(include_url=False) if not _other_member(detail)]
    wrong_user = [detail for detail in details if detail["loc"] == ("user",)]
    if wrong_user:  # names and paths follow from it: one fault, not five
        faults = [_model_fault(values, detail) for detail in wrong_user]
        _stand_in(values)
        return None, faults
    if any(detail["loc"] == ("device",) for detail in details):  # what an unknown device would give is not missing
        details = [detail for detail in details if detail["type"] != "missing"]
    faults = [_model_fault(values, detail) for detail in details]
    for detail in details:
        reduced = without(values, _written_key(values, detail["loc"]))
        values.data, values.origins = reduced.data, reduced.origins
    return None, faults


def _other_member(detail: Any) -> bool:
    """Whether an error is only about the member of a union that was not meant: a claim for a path, or the reverse."""
    given, kind, member = detail["input"], detail["type"], str(detail["loc"][-1])
    if isinstance(given, str):
        return kind == "model_type" and member == "Claim"
    return isinstance(given, dict) and kind == "string_type" and member.startswith("function-")


def _stand_in(values: Values) -> None:
    """Put some user in the place of one that was reported, so that the other values are still checked."""
    for layer in values.layers:
        if isinstance(layer.document.data, dict):
            layer.document.data.pop("user", None)
    values.layers.insert(1, Layer("stand-in", Document({"user": "someone"}, {})))
    merged = merge(values.layers)
    values.data, values.origins = merged.data, merged.origins


def _written_key(values: Values, loc: Key) -> Key:
    """The part of an error's place that the user wrote; pydantic adds the names of union members and of dict keys."""
    end = max((end for end in range(1, len(loc) + 1) if loc[:end] in values.origins), default=1)
    return loc[:end]


def _model_fault(values: Values, detail: Any) -> Fault:
    loc: Key = detail["loc"]
    key = _written_key(values, loc)
    origin = values.origin(key)
    where = str(origin or "")
    match detail["type"]:
        case "extra_forbidden":
            return Fault(dotted(loc), where, "no such key", _nearest(loc))
        case "missing":
            chooser, why = values.reset.get(str(loc[0]), (str(loc[0]), "it has no value"))
            fix = f"set {dotted(loc)}, or use the values file of the device (values/gaudi2.yaml, ...)"
            if USER_FILE in values.where((chooser,)):
                fix = f"set {dotted(loc)}, or leave your own file out with --no-user-file"
            return Fault(dotted(loc), values.where((chooser,)), f"is missing: {why}", fix)
    if key == ("user",) and where == LOGIN:
        return _login_fault(str(detail["input"]))
    if origin and origin.plain and detail["type"] == "string_type" and not isinstance(detail["input"], (dict, list)):
        kind = "boolean" if isinstance(detail["input"], bool) else "number"
        return Fault(
            dotted(key), where, f"YAML reads {origin.raw} as a {kind}, and text is wanted", f'write "{origin.raw}"'
        )
    return Fault(dotted(key), where, _said(detail), _fix_for(detail))


def _login_fault(login: str) -> Fault:
    found = f'"{login}"' if login else "not known"
    return Fault(
        "user", "", f"your login name is {found}, which names nobody's job", "--set user=NAME (a-z, 0-9 and -)"
    )


def _said(detail: Any) -> str:
    """What pydantic found, in our words."""
    given = detail["input"]
    value = shown(given) if isinstance(given, str) else repr(given)
    message = str(detail["msg"])
    match detail["type"]:
        case "int_parsing" | "int_type" | "int_from_float":
            return f"{value} is no whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return f"{value} is no number"
        case "bool_parsing" | "bool_type":
            return f"{value} is neither true nor false"
        case "greater_than_equal":
            return f"{value} is too small"
        case "literal_error":
            return f"{value} is not one of the choices"
        case "value_error":
            return message.removeprefix("Value error, ")
        case "model_type" | "dict_type" | "list_type" | "string_type":
            return f"{value} is not of the right kind"
        case _:
            return f"{value}: {message[0].lower()}{message[1:]}"


def _fix_for(detail: Any) -> str:
    error = detail.get("ctx", {}).get("error")
    match detail["type"]:
        case "value_error" if isinstance(error, FieldError):
            return error.fix
        case "int_parsing" | "int_type" | "int_from_float":
            return "write a whole number, such as 8"
        case "float_parsing" | "float_type" | "finite_number":
            return "write a number, such as 0.03"
        case "bool_parsing" | "bool_type":
            return "write true or false"
        case "greater_than_equal":
            return f"write {detail['ctx']['ge']} or more"
        case "literal_error":
            return f"one of {detail['ctx']['expected']}"
        case kind:
            return f"write {_KINDS.get(kind, 'a value as values/default.yaml explains it')}"


_KINDS = {
    "model_type": "a map of KEY: VALUE lines",
    "dict_type": "a map of KEY: VALUE lines",
    "list_type": "a list, one item a line after -",
    "string_type": "text in quotes",
}


def _nearest(loc: Key) -> str:
    """The nearest known key at the place of an unknown one."""
    names = _names_at(loc[:-1])
    word = str(loc[-1])
    near = difflib.get_close_matches(word.lower(), [name.lower() for name in names], n=1, cutoff=0.5)
    nearest = next((name for name in names if near and name.lower() == near[0]), None)
    if nearest:
        return f"did you mean {dotted((*loc[:-1], nearest))}?"
    elsewhere = [dotted((*prefix, word)) for prefix in _SECTIONS if word in _names_at(prefix) and prefix != loc[:-1]]
    return f"did you mean {elsewhere[0]}?" if elsewhere else f"known here: {', '.join(sorted(names))}"


_SECTIONS: tuple[Key, ...] = ((), ("train",), ("launcher",), ("worker",), ("runPolicy",))


def _names_at(prefix: Key) -> list[str]:
    """The keys that the model knows below `prefix`."""
    model: type[BaseModel] = Job
    for part in prefix:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if part not in fields:
            continue  # an index, or the name of a union's member
        inner = fields[str(part)].annotation
        model = next((item for item in (inner, *_members(inner)) if _is_model(item)), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _members(annotation: Any) -> Iterator[Any]:
    for item in get_args(annotation):
        yield item
        yield from _members(item)


def _is_model(item: Any) -> bool:
    return isinstance(item, type) and issubclass(item, BaseModel)


def check_rules(job: Job, values: Values) -> list[Fault]:
    """Faults and warnings across values."""
    rules = (_synapse_rules, _card_rules, _name_rules, _batch_rules, _folder_rules, _resource_rules, _pod_rules)
    return [
        Fault(key, values.where(_path(key)), message, fix, severity)
        for rule in rules
        for key, message, fix, severity in rule(job)
    ]


def _path(key: str) -> Key:
    return tuple(int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", key))


Found = Iterator[tuple[str, str, str, Any]]


def _synapse_rules(job: Job) -> Found:
    gaudi = job.profile.trainer == "hpu"
    severity = "warning" if job.image else "fault"
    if not gaudi:
        if not job.image:
            yield "image", f"is missing: device {job.device} has no SynapseAI image", "set image: NAME:TAG", "fault"
        return
    if not job.synapse:
        if not job.image:
            usable = [name for name, item in SYNAPSE.items() if item.build and job.os in item.systems]
            newest = max(usable or SYNAPSE, key=version_key)
            yield "synapse", "is missing, and no image is set", f'set synapse: "{newest}", or image: NAME:TAG', "fault"
        return
    if job.release is None:
        yield "synapse", f'"{job.synapse}" is no known release', f"known: {_known_releases(job)}", severity
        return
    release = SYNAPSE[job.release]
    if job.device == "gaudi" and not release.first_generation:
        last = max((name for name, item in SYNAPSE.items() if item.first_generation), key=version_key)
        message = f'"{job.synapse}" has no first-generation Gaudi (last: {last}), but device is gaudi'
        yield "synapse", message, f'set synapse: "{last}", or device: gaudi2', severity
    if version_key(job.release) < version_key(OLDEST_SYNAPSE):
        message = f'"{job.synapse}" is older than {OLDEST_SYNAPSE}, whose Python 3.10 and torch 2.2 the trainer needs'
        yield "synapse", message, 'set synapse: "1.15.1" or newer, or image: NAME:TAG', severity
    elif release.build is None:
        near = release_named(job.release.rpartition(".")[0])
        message = f'"{job.synapse}" has no build number that this kit knows, so no image can be pinned'
        yield "synapse", message, f'set synapse: "{near}", or image: NAME:TAG', severity
    if job.os not in release.systems:
        message = f'"{job.os}" has no image of SynapseAI {job.release}'
        yield "os", message, f"set os: {' or '.join(release.systems)}", severity


def _known_releases(job: Job) -> str:
    first = job.device == "gaudi"
    oldest = version_key(OLDEST_SYNAPSE)
    names = [name for name, item in SYNAPSE.items() if item.build and (item.first_generation or not first)]
    return ", ".join(name for name in names if version_key(name) >= oldest)


def _card_rules(job: Job) -> Found:
    most = job.profile.most_cards
    if most and job.cards > most:
        fix = f"set cards: {most} and more nodes: nodes x cards is the number of ranks"
        yield "cards", f"{job.cards} are more than a node of {job.profile.generation} cards has ({most})", fix, "fault"


def _name_rules(job: Job) -> Found:
    key = "name" if job.name else "user"
    label = f"{job.job_name}-worker-{job.nodes - 1}"
    if len(label) > LABEL_MAX:
        message = f"the worker's name {label} has {len(label)} characters, and {LABEL_MAX} are allowed"
        yield key, message, f"set name: to at most {LABEL_MAX - len(label) + len(job.job_name)} characters", "fault"


def _batch_rules(job: Job) -> Found:
    accumulation = job.train.gradient_accumulation_steps
    if job.train.train_batch_size:
        if job.train.train_batch_size % accumulation:
            message = f"{job.train.train_batch_size} images a rank do not split into {accumulation} micro-batches"
            fix = f"set train.gradient_accumulation_steps: {_divisor(job.train.train_batch_size, accumulation)}"
            yield "train.train_batch_size", message, fix, "fault"
        return
    if job.global_batch % job.num_ranks:
        message = (
            f"{job.global_batch} images do not split evenly over {job.nodes} x {job.cards} = {job.num_ranks} ranks"
        )
        yield "globalBatch", message, f"set {_neighbours(job)}", "fault"
    elif job.rank_batch % accumulation:
        message = f"{job.rank_batch} images a rank do not split into {accumulation} micro-batches"
        fix = f"set train.gradient_accumulation_steps: {_divisor(job.rank_batch, accumulation)}"
        yield "train.gradient_accumulation_steps", message, fix, "fault"


def _neighbours(job: Job) -> str:
    """The nearest global batches below and above that split evenly, with the accumulation that each needs."""
    below = job.global_batch // job.num_ranks
    choices = []
    for rank_batch in (below, below + 1):
        if rank_batch == 0:
            continue
        accumulation = _divisor(rank_batch, job.train.gradient_accumulation_steps)
        also = f" with train.gradient_accumulation_steps: {accumulation}"
        needed = accumulation != job.train.gradient_accumulation_steps
        choices.append(f"globalBatch: {rank_batch * job.num_ranks}{also if needed else ''}")
    return " or ".join(choices)


def _divisor(number: int, wanted: int) -> int:
    """The divisor of `number` that is nearest above `wanted`, else the number itself."""
    return next((divisor for divisor in range(wanted, number + 1) if number % divisor == 0), number)


def _folder_rules(job: Job) -> Found:
    if job.delivery == "mydir" and not job.mydir:
        yield "mydir", "is missing, and delivery is mydir", "set mydir: the shared folder that holds --out DIR", "fault"
    if not job.dataset and job.train.dataset != "synthetic":
        yield "dataset", "is missing", "set dataset: the folder with train/ and val/", "fault"
    if not job.output:
        yield "output", "is not set: the results vanish with the pods", "set output: FOLDER", "warning"


def _resource_rules(job: Job) -> Found:
    for section, resources in (("resources", job.resources), ("launcher.resources", job.launcher.resources)):
        for name, request in resources.requests.items():
            limit = resources.limits.get(name)
            if limit and amount(request) > amount(limit):
                yield f"{section}.requests.{name}", f"{request} is more than the limit {limit}", "lower it", "fault"
        for name, limit in resources.limits.items():
            if name.startswith("hugepages-") and amount(limit) % amount(name.removeprefix("hugepages-")):
                page = name.removeprefix("hugepages-")
                yield (
                    f"{section}.limits.{name}",
                    f"{limit} is no multiple of the page of {page}",
                    "round it up",
                    "fault",
                )
            if name.startswith("hugepages-") and resources.requests.get(name, limit) != limit:
                fix = "leave the request out, it follows the limit"
                yield f"{section}.requests.{name}", "hugepages are requested exactly as limited", fix, "fault"
            if name == job.profile.resource:
                yield f"{section}.limits.{name}", "is derived from cards", "take it out and set cards", "fault"


def _pod_rules(job: Job) -> Found:
    names = [item.name for item in job.env]
    for number, item in enumerate(job.env):
        key = f"env[{number}].name"
        if not ENV_NAME.fullmatch(item.name):
            yield key, f'"{item.name}" is no name that a shell takes', "use letters, digits and _", "fault"
        if item.name in RESERVED_ENV or item.name.startswith(RESERVED_PREFIXES):
            yield key, f"{item.name} is set by the kit for each rank", "take it out", "fault"
        if names.count(item.name) > 1 and names.index(item.name) == number:
            yield key, f"{item.name} is given {names.count(item.name)} times", "keep one", "fault"
        if item.value is None and item.value_from is None:
            yield key, f"{item.name} has no value", "give value: or valueFrom:", "fault"
    for role, pod in (("launcher", job.launcher), ("worker", job.worker)):
        for name in pod.pod_spec:
            if name in PRINTED_FIELDS:
                yield f"{role}.podSpec.{name}", "the template prints this field", f"use {PRINTED_FIELDS[name]}", "fault"
