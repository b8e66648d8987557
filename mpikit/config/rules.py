# SPDX-License-Identifier: Apache-2.0
"""Rules across values. Each yields (key, what is wrong, how to put it right, fault or warning)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

from mpikit.config.job import REQUIRED, Job
from mpikit.config.types import ENV_NAME, LABEL_MAX, unexpanded
from mpikit.devices import OLDEST_SYNAPSE, SYNAPSE, release_named, version_key
from mpikit.text.nested import Key
from mpikit.text.quoting import shown
from mpikit.text.redaction import looks_secret
from mpikit.text.units import BYTES, quantity, without_unit
from mpikit.trainer import PATCHES

MISSING = "is missing"
MOST_COUNTS = 12  # numbers of nodes that a message names
Found = Iterator[tuple[Key, str, str, Literal["fault", "warning"]]]

# Variables that mpirun or the kit's own scripts set for each rank.
RESERVED_ENV = (
    *("MASTER_ADDR", "MASTER_PORT", "PYTHONPATH", "PYTHONSAFEPATH", "RANK", "WORLD_SIZE", "LOCAL_RANK"),
    *("UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS"),  # read-only in bash: rank.sh could not take them
)
RESERVED_PREFIXES = ("OMPI_COMM_WORLD_", "PMIX_", "MPIKIT_")

REFERENCE = re.compile(r"\$\([A-Za-z_][\w.-]*\)")  # what Kubernetes expands in env

LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_KEY = re.compile(rf"([a-z0-9][-a-z0-9.]{{0,252}}/)?{LABEL_VALUE.pattern}")

PATH_FIELDS = ("path", "mountPath", "subPath")  # of a volume's source and of a mount

ROOT_HOME = "/root"  # mode 0700 in every image: nothing that is mounted below it can be read without root

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


def _synapse_rules(job: Job) -> Found:
    gaudi = job.hardware.trainer == "hpu"
    severity: Literal["fault", "warning"] = "warning" if job.image else "fault"
    if not gaudi:
        if not job.image:
            yield ("image",), f"is missing: device {job.device} has no SynapseAI image", "set image: NAME:TAG", "fault"
        return
    if not job.synapse:
        if not job.image:
            usable = [name for name, item in SYNAPSE.items() if item.build and job.os in item.systems]
            newest = max(usable or SYNAPSE, key=version_key)
            yield (
                ("synapse",),
                "is missing, and no image is set",
                f'set synapse: "{newest}", or image: NAME:TAG',
                "fault",
            )
        return
    if job.release is None:
        yield ("synapse",), f'"{job.synapse}" is not a known release', f"known: {_known_releases(job)}", severity
        return
    release = SYNAPSE[job.release]
    if job.device == "gaudi" and not release.first_generation:
        last = max((name for name, item in SYNAPSE.items() if item.first_generation), key=version_key)
        message = f'"{job.synapse}" has no first-generation Gaudi (last: {last}), but device is gaudi'
        yield ("synapse",), message, f'set synapse: "{last}", or device: gaudi2', severity
    if version_key(job.release) < version_key(OLDEST_SYNAPSE):
        message = f'"{job.synapse}" is older than {OLDEST_SYNAPSE}, whose Python 3.10 and torch 2.2 the trainer needs'
        yield ("synapse",), message, 'set synapse: "1.15.1" or newer, or image: NAME:TAG', severity
    elif release.build is None:
        near = release_named(job.release.rpartition(".")[0])
        message = f'"{job.synapse}" has no build number that this kit knows, so no image can be pinned'
        yield ("synapse",), message, f'set synapse: "{near}", or image: NAME:TAG', severity
    if job.os not in release.systems:
        message = f'"{job.os}" has no image of SynapseAI {job.release}'
        yield ("os",), message, f"set os: {' or '.join(release.systems)}", severity


def _known_releases(job: Job) -> str:
    first = job.device == "gaudi"
    oldest = version_key(OLDEST_SYNAPSE)
    names = [name for name, item in SYNAPSE.items() if item.build and (item.first_generation or not first)]
    return ", ".join(name for name in names if version_key(name) >= oldest)


def _card_rules(job: Job) -> Found:
    most = job.hardware.most_cards
    if most and job.cards > most:
        fix = f"set cards: {most} and more nodes: nodes x cards is the number of ranks"
        yield (
            ("cards",),
            f"{job.cards} are more than a node of {job.hardware.generation} cards has ({most})",
            fix,
            "fault",
        )


def _name_rules(job: Job) -> Found:
    label = f"{job.job_name}-worker-{job.nodes - 1}"
    if len(label) > LABEL_MAX:
        message = f"the worker's name {label} has {len(label)} characters, and {LABEL_MAX} are allowed"
        fix = f"set name: to at most {job.longest_name} characters"
        yield ("name" if job.name else "user",), message, fix, "fault"


def _batch_rules(job: Job) -> Found:
    if any(_card_rules(job)):
        return  # a wrong number of cards is one error, without what follows from it
    accumulation = job.train.gradient_accumulation_steps
    if job.train.train_batch_size:
        if job.train.train_batch_size % accumulation:
            message = f"{job.train.train_batch_size} images a rank do not split into {accumulation} micro-batches"
            fix = f"set train.gradient_accumulation_steps: {_divisor(job.train.train_batch_size, accumulation)}"
            yield ("train", "train_batch_size"), message, fix, "fault"
        return
    if job.global_batch % job.num_ranks:
        message = (
            f"{job.global_batch} images do not split evenly over {job.nodes} x {job.cards} = {job.num_ranks} ranks"
        )
        yield ("globalBatch",), message, f"set {_neighbours(job)}", "fault"
    elif job.rank_batch % accumulation:
        message = f"{job.rank_batch} images a rank do not split into {accumulation} micro-batches"
        fix = f"set train.gradient_accumulation_steps: {_divisor(job.rank_batch, accumulation)}"
        yield ("train", "gradient_accumulation_steps"), message, fix, "fault"


def _neighbours(job: Job) -> str:
    """Return the nearest global batches below and above that split evenly.

    Where a rank's share then no longer splits into the micro-batches, the accumulation that does is named too, unless
    it would leave micro-batches of a quarter of the wanted size or less: then the next share that splits is taken.
    """
    wanted = job.train.gradient_accumulation_steps
    below = job.global_batch // job.num_ranks
    choices = []
    for start, step in ((below, -1), (below + 1, 1)):
        share = start
        while share > 0 and (accumulation := _divisor(share, wanted)) > 4 * wanted:
            share += step
        if share > 0:
            also = f" with train.gradient_accumulation_steps: {accumulation}" if accumulation != wanted else ""
            choices.append(f"globalBatch: {share * job.num_ranks}{also}")
    return " or ".join(choices)


def _divisor(number: int, wanted: int) -> int:
    """Return the divisor of `number` that is nearest above `wanted`, else the number itself."""
    return next((divisor for divisor in range(wanted, number + 1) if number % divisor == 0), number)


def _folder_rules(job: Job) -> Found:
    if job.delivery == "mydir" and not job.mydir:
        fix = "set mydir: the shared folder with the files of --out"
        yield ("mydir",), "is missing, and delivery is mydir", fix, "fault"
    if not job.dataset and job.train.dataset != "synthetic":
        yield ("dataset",), MISSING, "set dataset: the folder with train/ and val/", "fault"
    if job.dataset and job.train.dataset == "synthetic":
        message = "is synthetic: the images of dataset are not used"
        yield ("train", "dataset"), message, "set train.dataset: imagenet1K, or dataset: null", "warning"
    if not job.output:
        yield ("output",), "is not set: the results are lost with the pods", "set output: FOLDER", "warning"


def _resource_rules(job: Job) -> Found:
    for section, resources in ((("resources",), job.resources), (("launcher", "resources"), job.launcher.resources)):
        for name, request in resources.requests.items():
            limit = resources.limits.get(name)
            if limit and quantity(request) > quantity(limit):
                key = (*section, "requests", name)
                yield key, f"{request} is more than the limit {limit}", "lower it, or raise the limit", "fault"
        for name, limit in resources.limits.items():
            key = (*section, "limits", name)
            if name == job.hardware.resource:
                yield key, "follows from cards", "remove it and set cards", "fault"
            if name.startswith("hugepages-"):
                yield from _hugepages_rules(key, name, limit, resources.requests.get(name, limit))


def _unit_rules(job: Job) -> Found:
    """Bytes without a unit: 64 is meant as 64Gi or 64Mi, and Kubernetes takes 64 bytes."""
    written: dict[Key, str] = {("shmSize",): job.shm_size}
    for section, resources in ((("resources",), job.resources), (("launcher", "resources"), job.launcher.resources)):
        for field, amounts in (("limits", resources.limits), ("requests", resources.requests)):
            written |= {(*section, field, name): amounts[name] for name in BYTES if name in amounts}
    for key, value in written.items():
        if said := without_unit(value):
            yield key, *said, "fault"


def _hugepages_rules(key: Key, name: str, limit: str, request: str) -> Found:
    page = name.removeprefix("hugepages-")
    if not re.fullmatch(r"[1-9]\d*(Ki|Mi|Gi)", page):
        yield key, f"{page!r} is not a valid page size", "write hugepages-2Mi or hugepages-1Gi", "fault"
    elif quantity(limit) % quantity(page):
        yield key, f"{limit} is not a multiple of the page of {page}", "round it up", "fault"
    elif quantity(request) != quantity(limit):
        fix = "leave the request out, it follows the limit"
        yield (*key[:-2], "requests", name), "hugepages are requested exactly as limited", fix, "fault"


def _env_rules(job: Job) -> Found:
    names = [item.name for item in job.env]
    for number, item in enumerate(job.env):
        key: Key = ("env", number, "name")
        if not ENV_NAME.fullmatch(item.name):
            yield key, f"{shown(item.name)} is not a valid shell variable name", "use letters, digits and _", "fault"
        elif item.name in RESERVED_ENV or item.name.startswith(RESERVED_PREFIXES):
            yield key, f"{item.name} is set by the kit or the shell for each rank", "remove it", "fault"
        elif names.index(item.name) != number:
            yield key, f"{item.name} is set {names.count(item.name)} times", "keep one", "fault"
        elif (item.value is None) == (item.value_from is None):
            found = "no value" if item.value is None else "both value and valueFrom"
            yield key, f"{item.name} has {found}", "give value: or valueFrom:", "fault"
        elif item.value and looks_secret(item.name):
            fix = (
                "keep it in a Secret (kubectl create secret generic NAME --from-literal=KEY=...) and write "
                f"{{name: {item.name}, valueFrom: {{secretKeyRef: {{name: NAME, key: KEY}}}}}}"
            )
            yield (
                ("env", number, "value"),
                f"{item.name} looks like a secret, and everybody who reads the manifest sees it",
                fix,
                "warning",
            )
        if reference := REFERENCE.search(item.value or ""):
            message = f"{item.name} contains {reference[0]}, which is not expanded: $ stands for itself"
            yield ("env", number, "value"), message, "write the value itself", "warning"


def _label_rules(job: Job) -> Found:
    groups = ((("labels",), job.labels), (("launcher", "labels"), job.launcher.labels))
    for section, labels in (*groups, (("worker", "labels"), job.worker.labels)):
        for name, value in labels.items():
            if name in job.own_labels:
                yield (*section, name), "is a label that the kit sets", "remove it", "fault"
            elif not LABEL_KEY.fullmatch(name):
                fix = "write NAME or PREFIX/NAME of letters, digits, -, _ and ., NAME of at most 63 characters"
                yield (*section, name), f"{shown(name)} is not a valid label key", fix, "fault"
            elif value and not LABEL_VALUE.fullmatch(value):
                fix = "use letters, digits, -, _ and ., at most 63 characters, or an annotation"
                yield (*section, name), f"{shown(value)} is not a valid label value", fix, "fault"


def _pod_rules(job: Job) -> Found:
    for role, pod, folders in (("launcher", job.launcher, job.launcher_folders), ("worker", job.worker, job.folders)):
        for name in pod.pod_spec:
            if name in PRINTED_FIELDS:
                fix = f"use {PRINTED_FIELDS[name]}"
                yield (role, "podSpec", name), "the kit sets this field", fix, "fault"
        if not isinstance(pod.pod_spec.get("securityContext") or {}, dict):
            yield (role, "podSpec", "securityContext"), "is not a map", "write its fields below it", "fault"
        taken = {"kit", "shm", *(folder.name for folder in folders)}
        for number, volume in enumerate(pod.volumes):
            if not isinstance(volume.get("name"), str):
                yield (role, "volumes", number), "needs a name", "give it a name", "fault"
            elif volume["name"] in taken:
                message = f"{volume['name']} is the name of a volume that the kit adds"
                yield (role, "volumes", number), message, "give it another name", "fault"
        known = [*taken, *(volume.get("name") for volume in pod.volumes)]
        paths = ["/kit", "/dev/shm", "/etc/mpi", job.ssh_auth_mount_path, *(folder.path for folder in folders)]
        for number, mount in enumerate(pod.volume_mounts):
            if mount.get("name") not in known:
                message = f"{mount.get('name', '')!r} is not a volume of this pod"
                yield (role, "volumeMounts", number), message, f"add it to {role}.volumes", "fault"
            elif mount.get("mountPath") in paths:
                message = f"{mount['mountPath']} is already mounted"
                yield (role, "volumeMounts", number), message, "mount it at another path", "fault"


def _path_rules(job: Job) -> Found:
    """Paths of volumes and mounts are printed as they are: neither the kit nor Kubernetes replaces anything there."""
    for role, pod in (("launcher", job.launcher), ("worker", job.worker)):
        for field, tree in (("volumes", pod.volumes), ("volumeMounts", pod.volume_mounts), ("podSpec", pod.pod_spec)):
            for key, path in _paths(tree, (role, field)):
                if found := unexpanded(path):
                    message = f"{shown(path)} contains {found}, which is not replaced here"
                    yield key, message, _path_fix(job, key, path, found), "fault"


def _paths(tree: Any, key: Key) -> Iterator[tuple[Key, str]]:
    """Yield every path of a volume or mount in a tree of Kubernetes fields."""
    items = enumerate(tree) if isinstance(tree, list) else tree.items() if isinstance(tree, dict) else ()
    for name, item in items:
        if name in PATH_FIELDS and isinstance(item, str):
            yield (*key, name), item
        elif name != "httpGet":  # the path of a URL
            yield from _paths(item, (*key, name))


def _path_fix(job: Job, key: Key, path: str, found: str) -> str:
    if key[-1] == "subPath" and found.startswith("$("):
        return f"write subPathExpr: {path}, in which Kubernetes expands variables of the container"
    value = {"user": job.user, "USER": job.user, "LOGNAME": job.user, "synapse": job.synapse}.get(found.strip("${()}"))
    return f"write {path.replace(found, value)}" if value else "write the path itself"


def _placement_rules(job: Job) -> Found:
    """What worker.onePerNode adds a term to must have the types of Kubernetes."""
    anti = job.worker.affinity.get("podAntiAffinity") if job.placement == "required" else None
    required = anti.get(REQUIRED) if isinstance(anti, dict) else None
    if anti is not None and not isinstance(anti, dict):
        yield ("worker", "affinity", "podAntiAffinity"), "is not a map", "write its fields below it", "fault"
    elif required is not None and not isinstance(required, list):
        key = ("worker", "affinity", "podAntiAffinity", REQUIRED)
        yield key, "is not a list", "write each term as a list item: - topologyKey: ...", "fault"


def _user_rules(job: Job) -> Found:
    if not job.run_as_user:
        return
    if f"{job.ssh_auth_mount_path}/".startswith(f"{ROOT_HOME}/"):
        message = f"{job.run_as_user} cannot read what is mounted at sshAuthMountPath, {job.ssh_auth_mount_path}"
        yield ("runAsUser",), message, "set sshAuthMountPath: /home/mpi/.ssh", "fault"
    if job.delivery == "mydir":
        message = f"{job.run_as_user} needs an /etc/passwd that only delivery: configmap brings"
        yield ("runAsUser",), message, "set delivery: configmap", "fault"


def _restart_rules(job: Job) -> Found:
    exclude = job.restarts.exclude
    if exclude.auto and exclude.max == 0:
        yield ("restarts", "exclude", "max"), "0 nodes leave auto nothing to exclude", "set at least 1", "fault"
    if job.restarts.max > 0:
        yield from _least_nodes_rules(job)
        return
    if exclude.auto:
        message = "has no effect while restarts.max is 0: the first failure ends the job"
        yield ("restarts", "exclude", "auto"), message, "set restarts.max, or leave exclude out", "fault"
    options = job.restarts
    asked_for = {"replaceWorkers": options.replace_workers, "minNodes": options.min_nodes, "inPlace": options.in_place}
    for name, asked in asked_for.items():
        if asked:
            message = "has no effect while restarts.max is 0: the first failure ends the job"
            yield ("restarts", name), message, f"set restarts.max, or leave {name} out", "fault"


def _least_nodes_rules(job: Job) -> Found:
    """The least number of nodes must split the global batch evenly over its ranks."""
    least, key = job.restarts.min_nodes, ("restarts", "minNodes")
    if least > job.nodes:
        yield key, f"{least} are more than nodes: {job.nodes}", f"set at most {job.nodes}, or leave it out", "fault"
    elif least and not job.share(least) and not any(_batch_rules(job)):
        batch, ranks = job.real_global_batch, least * job.cards
        message = f"{batch} images do not split evenly over {least} x {job.cards} = {ranks} ranks"
        if batch % ranks == 0:
            message = f"{batch} images on {ranks} ranks cannot be split into micro-batches of even size for mixup"
        good = [str(count) for count in range(job.nodes, 0, -1) if job.share(count)]
        fix = f"set one of {', '.join(good[:MOST_COUNTS])}: their ranks split the global batch"
        yield key, message, fix, "fault"


def _train_rules(job: Job) -> Found:
    patch = PATCHES[job.train.model_type]
    size = job.train.img_size
    if size and size < patch:
        message = f"{size} is below one patch of {patch} px of {job.train.model_type}"
        yield ("train", "img_size"), message, f"set at least {patch}", "fault"
    if job.train.resize == "reference" and job.train.interpolation not in (None, "bilinear"):
        message = f"reference resizes bilinear only, and train.interpolation is {job.train.interpolation}"
        yield ("train", "resize"), message, "set train.resize: antialias, or leave interpolation out", "fault"
    if job.train.mixup and job.micro_batch % 2:
        message = f"blends images in pairs, and a micro-batch has {job.micro_batch}"
        fix = "make the batch of a rank / train.gradient_accumulation_steps even, or leave mixup out"
        yield ("train", "mixup"), message, fix, "fault"


RULES: tuple[Callable[[Job], Found], ...] = (
    *(_synapse_rules, _card_rules, _name_rules, _batch_rules, _folder_rules, _resource_rules, _unit_rules),
    *(_env_rules, _label_rules, _pod_rules, _path_rules, _placement_rules, _user_rules, _restart_rules, _train_rules),
)
