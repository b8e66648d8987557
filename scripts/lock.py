# SPDX-License-Identifier: Apache-2.0
"""Write requirements/test-<python>-<platform>.txt: all packages of the test environment with their sha256.

Run it with the Python that the file is for, after a change of pyproject.toml or constraints.txt:
.venv/bin/python scripts/lock.py. It asks the package index of pip for the files that this Python on this machine
would install, and installs nothing. Each line of the file names the file that its hash was read for.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUILD = "setuptools>=77"  # pyproject's build system: the project itself is installed without build isolation
HEAD = """\
# The test environment with hashes, for CI alone. Made by scripts/lock.py from pyproject.toml and constraints.txt.
# Python {python} on {where}: only the files that this Python installs are listed.
"""


def lock_name() -> str:
    """The file for this Python on this machine, such as test-cpython-3.11-linux-x86_64.txt."""
    version = ".".join(platform.python_version_tuple()[:2])
    return f"test-{sys.implementation.name}-{version}-{sysconfig.get_platform()}.txt"


def resolved(report: Path) -> list[dict[str, Any]]:
    """The packages that pip would install; the report is left at `report`."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    words += ["--report", str(report), "--constraint", "constraints.txt", ".[test]", BUILD]
    environment = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"}
    subprocess.run(words, cwd=ROOT, env=environment, check=True)
    found: list[dict[str, Any]] = json.loads(report.read_text())["install"]
    return found


def locked(packages: list[dict[str, Any]]) -> Iterator[str]:
    """A requirement with its hash for each package but the project itself, by name."""
    for item in sorted(packages, key=lambda item: normal(item["metadata"]["name"])):
        source = item["download_info"]
        if "dir_info" in source:
            continue
        name, version = normal(item["metadata"]["name"]), item["metadata"]["version"]
        yield f"# {source['url'].rpartition('/')[2]}"
        yield f"{name}=={version} --hash=sha256:{source['archive_info']['hashes']['sha256']}"


def normal(name: str) -> str:
    """The name as package indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Write the file for this Python on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        packages = resolved(Path(folder) / "report.json")
    target = ROOT / "requirements" / lock_name()
    target.parent.mkdir(exist_ok=True)
    head = HEAD.format(python=platform.python_version(), where=sysconfig.get_platform())
    target.write_text(head + "".join(f"{line}\n" for line in locked(packages)))
    sys.stderr.write(f"{target.relative_to(ROOT)}: {len(packages) - 1} packages\n")


if __name__ == "__main__":
    main()
