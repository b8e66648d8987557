# SPDX-License-Identifier: Apache-2.0
"""Keys, tokens and kubeconfigs: who is who in the cluster."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

from testcluster.errors import ClusterError, missing
from testcluster.state import State

REAL_NODE = "real-0"
API_PORT = 6443  # in the cluster's own network; doorway.py opens another one on this machine's loopback
DAYS = "30"

# file of the kubeconfig: user, group
USERS = {
    "admin": ("admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{REAL_NODE}", "system:nodes"),
    "coredns": ("coredns", ""),
    "kwok": ("kwok", "system:masters"),
}


def write_keys(state: State) -> None:
    """Make a certificate authority, the API server's certificates, the key of service accounts and all tokens."""
    keys = state.folder / "keys"
    _openssl(keys, "req -x509 -nodes -days", DAYS, *_new_key("ca"), "-subj", "/CN=test-cluster", "-out", "ca.crt")
    names = "subjectAltName=IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc"
    _sign(keys, "apiserver", "/CN=kube-apiserver", names)
    _sign(keys, "kubelet-client", "/O=system:masters/CN=kube-apiserver", "extendedKeyUsage=clientAuth")
    _sign(keys, "kwok", "/CN=simulated-nodes", "subjectAltName=IP:127.0.0.1")
    _openssl(keys, "ecparam -name prime256v1 -genkey -noout -out service-accounts.key")
    tokens = {name: secrets.token_hex(16) for name in USERS}
    lines = [f'{tokens[name]},{user},{name},"{group}"' for name, (user, group) in USERS.items()]
    (keys / "tokens.csv").write_text("\n".join(lines) + "\n")
    for name, token in tokens.items():
        write_kubeconfig(state, state.folder / "kubeconfigs" / name, API_PORT, token)


def write_kubeconfig(state: State, path: Path, port: int, token: str) -> None:
    """A kubeconfig that can be copied anywhere on this machine: it holds the authority's certificate."""
    authority = base64.b64encode((state.folder / "keys" / "ca.crt").read_bytes()).decode()
    server = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test-cluster", "cluster": server}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "test-cluster", "context": {"cluster": "test-cluster", "user": "user"}}],
        "current-context": "test-cluster",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=2))


def token_of(state: State, name: str) -> str:
    """The token in one of our kubeconfigs."""
    content = json.loads((state.folder / "kubeconfigs" / name).read_text())
    return str(content["users"][0]["user"]["token"])


def _sign(keys: Path, name: str, subject: str, extension: str) -> None:
    _openssl(keys, "req -nodes", *_new_key(name), "-subj", subject, "-out", f"{name}.csr")
    (keys / f"{name}.ext").write_text(extension)
    authority = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", DAYS)
    _openssl(keys, "x509 -req", *authority, "-in", f"{name}.csr", "-out", f"{name}.crt", "-extfile", f"{name}.ext")


def _new_key(name: str) -> Sequence[str]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", f"{name}.key")


def _openssl(keys: Path, first: str, *words: str) -> None:
    try:
        result = subprocess.run(["openssl", *first.split(), *words], cwd=keys, text=True, capture_output=True)
    except FileNotFoundError as absent:
        raise missing("there is no openssl here", "apt-get install openssl") from absent
    if result.returncode != 0:
        raise ClusterError(f"openssl {first.split()[0]} failed: {result.stderr.strip()}", "report it")
