# SPDX-License-Identifier: Apache-2.0
"""The rendered scripts laid out as the pods would see them, with stand-ins for mpirun, ssh and Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from mpikit.config.job import Job
from mpikit.local import AGENT
from mpikit.render.payload import TRAINING_ARCHIVE
from mpikit.render.renderer import Rendered

LEAVE_RECORD = (
    'mkdir -p "$MPIKIT_STATE"; echo "{\\"attempt\\": \\"$MPIKIT_ATTEMPT\\"}" >"$MPIKIT_STATE/completion.json"'
)
"""What rank 0 does when the run is complete."""


class Stage:
    """A folder laid out as the pods would see it, with stand-ins for mpirun, ssh and Python."""

    def __init__(self, folder: Path, job: Job, rendered: Rendered) -> None:
        self.folder, self.job = folder, job
        self.bin = folder / "bin"
        self.environment = os.environ | {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "MPIKIT_KIT": str(folder / "kit"),
            "MPIKIT_HOSTFILE": str(folder / "hostfile"),
            "MPIKIT_RSH": str(self.bin / "agent"),
            "MPIKIT_STATE": str(folder / "state"),
            "MPIKIT_OUTPUT": str(folder / "output"),
            "MPIKIT_SCRATCH": str(folder / "scratch"),
            "MPIKIT_DATASET": str(folder / "data"),
            "MPIKIT_SUPERVISED": "1",  # one attempt: tests/unit/vit/supervise and test_restarts have the others
        }
        for name, content in rendered.shared_files.items():
            self.write(f"kit/{name}", content.decode())
        if job.delivery == "configmap":
            (folder / "kit" / TRAINING_ARCHIVE).write_bytes(rendered.payload.packed())
        self.write("kit/setup.sh", "#!/bin/sh\necho ok\n")
        self.write("hostfile", "".join(f"w-{i}.w.ns.svc slots=1\n" for i in range(job.nodes)))
        self.write("bin/agent", AGENT)
        self.program(LEAVE_RECORD)
        (folder / "output").mkdir()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def program(self, body: str, version: str = "mpirun (Open MPI) 4.1.6") -> None:
        """What the stand-in mpirun does."""
        self.write("bin/mpirun", f'#!/bin/bash\nif [ "$1" = --version ]; then echo "{version}"; exit; fi\n{body}\n')

    def run(self, name: str = "run_vit.sh", *arguments: str, here: str = ".") -> subprocess.CompletedProcess[bytes]:
        """Run a script in the folder `here` of the stage."""
        command = ["bash", str(self.folder / "kit" / name), *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=self.folder / here, capture_output=True, timeout=60, check=False
        )
