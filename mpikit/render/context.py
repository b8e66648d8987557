# SPDX-License-Identifier: Apache-2.0
"""What the templates need beside the job."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from mpikit.config.job import Job
from mpikit.config.nonroot import CONTAINER_SECURITY, passwd
from mpikit.config.sections import EnvVar
from mpikit.render.payload import sha256_of, sha256_sums


def user_file(job: Job) -> dict[str, str]:
    return {"passwd": passwd(job.run_as_user)} if job.run_as_user else {}


def manifest_words(job: Job, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What the manifests need beside the job."""
    own = job.own_labels
    literal = [variable(name, value) for name, value in job.literal_env.items()]
    check = {}
    launcher_env = literal
    if job.delivery == "mydir":
        sums = hashlib.sha256(sha256_sums(files)).hexdigest()
        check = {"mpikit/scripts-sha256": sums}
        launcher_env = [variable("MPIKIT_SCRIPTS_SHA256", sums), *literal]
    return {
        "job": job,
        "kit_name": f"{job.job_name}-kit-{sha256_of(files)[:10]}",
        "labels": {
            "own": own,
            "job": own | job.labels,
            "launcher": own | job.launcher.labels,
            "worker": own | job.worker.labels,
        },
        "annotations": {
            "job": job.own_annotations | job.annotations,
            "launcher": check | job.launcher.annotations,
            "worker": check | job.worker.annotations,
        },
        "container_security": CONTAINER_SECURITY,
        "launcher_env": launcher_env,
        "worker_env": [*literal, *(item for item in job.env if item.value_from is not None)],
    }


def variable(name: str, value: str) -> EnvVar:
    return EnvVar.model_construct(name=name, value=value, value_from=None)
