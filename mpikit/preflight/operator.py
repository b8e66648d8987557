# SPDX-License-Identifier: Apache-2.0
"""Check the API server, the MPI Operator and the CRD of MPIJob."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from mpikit.config.job import Job
from mpikit.devices import version_key
from mpikit.diagnostics import Diagnostic, Found, fault, passed, warning
from mpikit.errors import ClusterError, Forbidden, NotFound
from mpikit.kube.answers import Object
from mpikit.kube.api import CRD, DEPLOYMENT, JOB, LEASE, MPIJOB, Kind, find_all, read
from mpikit.kube.client import Call, Cluster
from mpikit.kube.resources import MPIJob, time_of
from mpikit.preflight.operator_rights import check_operator_rights
from mpikit.text.nested import at, numbered
from mpikit.validation.mpijob import FIRST, NEWEST, SINCE

LIVELY_SECONDS = 60  # the operator renews its Lease every 5 s and loses it after 15 s
WORK_SECONDS = 3600  # an operator that worked within the hour most likely runs
_IMAGE = re.compile(r"mpi-operator:v?(\d+\.\d+\.\d+)(?![\w.])")
# Source: pull requests 787 and 810 of kubeflow/mpi-operator. All releases before 0.8.2 have both.
_FAULTS = "a job that is over can become Running again, and a launcher that ends can be started a second time"
_UPGRADE = f"deploy/v2beta1/mpi-operator.yaml of https://github.com/kubeflow/mpi-operator/tree/v{NEWEST}"
_OWNER = f"{MPIJOB.group}/v2beta1"
IN_PLACE_SINCE = (1, 35)  # restartPolicyRules of containers are beta and on (KEP-5307)
SKEW_SECONDS = 60  # beyond this, ages and since-times of objects mislead
OPERATOR = "mpi-operator"  # its namespace, its Lease and its label app, as its manifest has them
INSTALL = (
    "ask the cluster's administrator to install the MPI Operator: kubectl apply --server-side -f "
    "deploy/v2beta1/mpi-operator.yaml from https://github.com/kubeflow/mpi-operator"
)


def check_server(cluster: Cluster) -> Found:
    """Check that the API server answers, knows the user and has the right time. Raises Unreachable."""
    began = cluster.clock()
    try:
        version = cluster.json(Call("GET", "/version")).get("gitVersion")
    except Forbidden as error:
        if error.hint:  # 401: the server rejects these credentials
            yield fault("server", error.message, error.hint)
            return
        version = "of unknown version"
    yield passed("server", f"{cluster.server} is Kubernetes {version} and answers in {cluster.clock() - began:.2f} s")
    yield from clock_check(cluster.now(), datetime.now(timezone.utc))


def check_in_place(cluster: Cluster, job: Job) -> Found:
    """Say whether this Kubernetes restarts a launcher in its pod, if the job has restarts."""
    version = re.match(r"v?(\d+)\.(\d+)", str(cluster.json(Call("GET", "/version")).get("gitVersion")))
    if version is None or job.restarts.max == 0:
        return
    able = (int(version[1]), int(version[2])) >= IN_PLACE_SINCE
    if job.restarts.in_place and not able:
        message = f"restarts.inPlace needs Kubernetes 1.35, and this is {version[1]}.{version[2]}"
        fix = "--set restarts.inPlace=false, or ask the administrator about the feature gate ContainerRestartRules"
        yield warning("restarts", message, fix)
    elif able and not job.restarts.in_place:
        yield passed("restarts", "this cluster can restart a launcher in its pod: --set restarts.inPlace=true")


def clock_check(theirs: datetime, ours: datetime) -> Found:
    """Warn if two clocks disagree."""
    skew = (theirs - ours).total_seconds()
    if abs(skew) > SKEW_SECONDS:
        way = "ahead of" if skew > 0 else "behind"
        message = f"the server's clock is {abs(skew):.0f} s {way} this machine's"
        yield warning(
            "clock",
            message,
            "set this machine's clock (timedatectl set-ntp true), or ask the cluster's administrator to set theirs",
        )


# -- The operator -----------------------------------------------------------------------------------------------------


def check_operator(cluster: Cluster, namespace: str) -> Found:
    """Check that the MPI Operator is installed, runs, and is not a release with known faults."""
    try:
        served = [
            str(one["version"]) for one in cluster.json(Call("GET", f"/apis/{MPIJOB.group}")).get("versions") or ()
        ]
    except NotFound:
        served = []
    if "v2beta1" not in served:
        others = (
            f"; {MPIJOB.group} is served as {', '.join(served)}, which is the Training Operator's" if served else ""
        )
        yield fault("operator", f"the MPI Operator is not installed: no {MPIJOB.group}/v2beta1{others}", INSTALL)
        return
    deployments = _visible(cluster, DEPLOYMENT, labels=f"app={OPERATOR}")
    yield _running(cluster, namespace, deployments)
    release = _release(deployments or ())
    yield from release_check(release, _launcher_jobs(cluster, namespace))
    yield from check_operator_rights(cluster, deployments or (), release)


def _running(cluster: Cluster, namespace: str, deployments: Sequence[Object] | None) -> Diagnostic:
    leases = _visible(cluster, LEASE, fields=f"metadata.name={OPERATOR}")
    if leases:
        return lease_check(leases, cluster.now())
    ready = [one for one in deployments or () if at(one, "status", "readyReplicas")]
    if ready:
        return passed("operator", f"Deployment {_place(ready[0])} is ready")
    if leases is None or deployments is None:
        return _at_work(cluster, namespace)
    message = f"the MPI Operator is installed but does not run: no Lease {OPERATOR} and no ready Deployment"
    return fault("operator", message, f"ask the cluster's administrator to start it: {_restart(deployments)}")


def _release(deployments: Sequence[Object]) -> str:
    """Return the release in the tag of the operator's image; empty if the tag is another word."""
    for item in deployments:
        for _, container in numbered(at(item, "spec", "template", "spec", "containers")):
            if found := _IMAGE.search(str(container.get("image"))):
                return found[1]
    return ""


def _launcher_jobs(cluster: Cluster, namespace: str) -> list[Object]:
    """Return the batch Jobs of the namespace that belong to an MPIJob, the newest last."""
    found: list[Object] = []
    with contextlib.suppress(ClusterError):
        found = [item for item in find_all(cluster, JOB, namespace) if _of_mpijob(item)]
    return sorted(found, key=lambda item: str(at(item, "metadata", "creationTimestamp")))


def _of_mpijob(item: Object) -> bool:
    owners = [owner for _, owner in numbered(at(item, "metadata", "ownerReferences"))]
    return any(owner.get("kind") == MPIJOB.name and owner.get("apiVersion") == _OWNER for owner in owners)


def release_check(release: str, launcher_jobs: Sequence[Object]) -> Found:
    """Warn of a release with known faults; without a release, by what its newest launcher Job lacks."""
    if release and version_key(release) >= version_key(NEWEST):
        return
    policy = at(launcher_jobs[-1], "spec", "podReplacementPolicy") if launcher_jobs else None
    if not release and policy in (None, "Failed"):  # 0.8.2 sets Failed; before Kubernetes 1.29 the field is not there
        return
    older = f"MPI Operator {release}" if release else "the MPI Operator"
    message = f"{older} is older than {NEWEST}: {_FAULTS}"
    yield warning("operator", message, f"ask the cluster's administrator for MPI Operator {NEWEST}: {_UPGRADE}")


def _visible(cluster: Cluster, kind: Kind, labels: str = "", fields: str = "") -> list[Object] | None:
    """Return objects of all namespaces, else of the operator's; None without the right to read either."""
    for namespace in (None, OPERATOR):
        with contextlib.suppress(Forbidden):
            return list(find_all(cluster, kind, namespace, labels=labels, fields=fields))
    return None


def _place(item: Mapping[str, Any]) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _restart(deployments: Sequence[Object]) -> str:
    namespace, _, name = (_place(deployments[0]) if deployments else f"{OPERATOR}/{OPERATOR}").partition("/")
    return f"kubectl -n {namespace} rollout restart deployment {name}, kubectl -n {namespace} get pods"


def lease_check(leases: Sequence[Object], now: datetime) -> Diagnostic:
    """Check that the newest Lease is still renewed."""
    times = [(time_of(at(one, "spec", "renewTime") or at(one, "spec", "acquireTime")), _place(one)) for one in leases]
    newest, place = max(((when, name) for when, name in times if when), default=(None, _place(leases[0])))
    if newest is None:
        message = f"Lease {place} has never been taken: the MPI Operator does not run"
        return fault("operator", message, f"ask the cluster's administrator to start it: {_restart(())}")
    age = (now - newest).total_seconds()
    if age > LIVELY_SECONDS:
        message = f"the MPI Operator does not run: Lease {place} was last renewed {age:.0f} s ago"
        return fault("operator", message, f"ask the cluster's administrator to start it: {_restart(())}")
    return passed("operator", f"MPI Operator runs: Lease {place} was renewed {max(age, 0):.0f} s ago")


def _at_work(cluster: Cluster, namespace: str) -> Diagnostic:
    """Judge the operator by its latest work in the namespace, where nothing better is readable."""
    jobs: list[MPIJob] = []
    with contextlib.suppress(ClusterError):
        jobs = [MPIJob(item) for item in find_all(cluster, MPIJOB, namespace)]
    seen = [(one.since, job.name) for job in jobs for one in job.conditions.values() if one.since]
    when, name = max(seen, default=(None, ""))
    if when and (age := (cluster.now() - when).total_seconds()) < WORK_SECONDS:
        return passed("operator", f"the MPI Operator worked on MPIJob {name} {age / 60:.0f} minutes ago")
    message = f"whether the MPI Operator runs is unknown: you are not allowed to read Lease {OPERATOR}/{OPERATOR}"
    fix = f"if a job stays Pending, ask the cluster's administrator for kubectl -n {OPERATOR} get lease -o yaml"
    return warning("operator", message, fix)


# -- The CRD ----------------------------------------------------------------------------------------------------------


def check_crd(cluster: Cluster, manifests: Sequence[Object]) -> Found:
    """Report every field of the job that the served MPIJob does not have, and the operator that it fits."""
    try:
        schema = served_schema(cluster)
    except NotFound:  # no operator, which is already reported
        return
    lacking = [path for item in manifests if item["kind"] == "MPIJob" for path in unknown_fields(item, schema)]
    for path in lacking:
        newer = SINCE.get(".".join(path))
        wanted = f"MPI Operator {newer} or newer" if newer else "a newer MPI Operator"
        key = ".".join(path).removeprefix("spec.")
        fix = f"remove {key}: from the values (set it to null), or ask the cluster's administrator for {wanted}"
        yield fault("crd", f"MPIJobs of this cluster do not have the field {'.'.join(path)}", fix)
    if not lacking:
        oldest = next((version for key, version in SINCE.items() if _knows(schema, key.split("."))), FIRST)
        yield passed("crd", f"MPIJob v2beta1 has all fields of the job (MPI Operator {oldest} or newer)")


def served_schema(cluster: Cluster) -> Object:
    """The schema of an MPIJob, from its CRD or else as every user may read it."""
    try:
        crd = read(cluster, CRD, None, f"{MPIJOB.plural}.{MPIJOB.group}")
    except Forbidden:
        document = cluster.json(Call("GET", f"/openapi/v3{MPIJOB.prefix}"))
        schemas = document["components"]["schemas"].values()
        kinds = "x-kubernetes-group-version-kind"
        return next(dict(one) for one in schemas if any(kind["kind"] == "MPIJob" for kind in one.get(kinds, ())))
    version = next(one for one in crd["spec"]["versions"] if one["name"] == "v2beta1")
    return dict(version["schema"]["openAPIV3Schema"])


def unknown_fields(value: Any, schema: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of fields that a schema does not have; open parts of it are skipped."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(value, list):
        for item in value:
            yield from unknown_fields(item, schema.get("items") or {}, path)
    known, others = schema.get("properties") or {}, schema.get("additionalProperties")
    if not isinstance(value, dict) or not (known or others):
        return
    for name, item in value.items():
        if not path and name in ("apiVersion", "kind", "metadata"):
            continue
        if name in known:
            yield from unknown_fields(item, known[name], (*path, name))
        elif isinstance(others, dict):
            yield from unknown_fields(item, others, (*path, name))
        elif not others:
            yield (*path, name)


def _knows(schema: Mapping[str, Any], path: Sequence[str]) -> bool:
    return at(schema, *(word for name in path for word in ("properties", name))) is not None
