# SPDX-License-Identifier: Apache-2.0
"""Certificates of one test run: an authority, a server of it, and a server of an authority that nobody trusts."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """Where they lie; each server file holds its key too."""

    authority: Path
    server: Path
    stranger: Path


def make(folder: Path) -> Certificates:
    """Make them with openssl."""
    for name in ("authority", "stranger-authority"):
        openssl(folder, *f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name}".split(),
                *f"-keyout {name}.key -out {name}.pem -days 30".split())  # fmt: skip
    for name, authority in (("server", "authority"), ("stranger", "stranger-authority")):
        openssl(folder, *f"req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name}".split(),
                *f"-addext subjectAltName=IP:127.0.0.1 -keyout {name}.key -out {name}.csr".split())  # fmt: skip
        openssl(folder, *f"x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key".split(),
                *f"-CAcreateserial -copy_extensions copy -out {name}.crt -days 30".split())  # fmt: skip
        (folder / f"{name}.pem").write_text((folder / f"{name}.key").read_text() + (folder / f"{name}.crt").read_text())
    return Certificates(folder / "authority.pem", folder / "server.pem", folder / "stranger.pem")


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)
