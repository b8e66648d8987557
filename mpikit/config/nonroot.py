# SPDX-License-Identifier: Apache-2.0
"""What pods need to run without root, and so at the "restricted" Pod Security level.

Source: the Pod Security Standards; the rest was measured in pods with Debian's OpenSSH 9.2.
"""

from __future__ import annotations

from typing import Any

SSH_PORT = 22
NONROOT_SSH_PORT = 2222  # below 1024 a port needs NET_BIND_SERVICE, which "restricted" lets nobody keep by default
ROOT_HOME = "/root"  # mode 0700 in every image: nothing that is mounted below it can be read without root

CONTAINER_SECURITY: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def pod_security(user: int) -> dict[str, Any]:
    """securityContext of a pod whose processes have this user id; volumes that can be are made its group's."""
    own = {"runAsUser": user, "runAsGroup": user, "runAsNonRoot": True, "fsGroup": user}
    # A folder of a million images takes long to be given to a group, so only a volume with a wrong root is.
    return own | {"fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}}


def passwd(user: int) -> str:
    """/etc/passwd with this user id: ssh, ssh-keygen and sshd refuse to work for one that has no name."""
    return f"root:x:0:0:root:/root:/bin/bash\nmpi:x:{user}:{user}::/tmp:/bin/bash\n"
