# SPDX-License-Identifier: Apache-2.0
"""A whole Kubernetes with the MPI Operator on one machine, and nothing of it left afterwards.

Every daemon and every pod runs in one set of namespaces (processes, mounts, network) whose first process is inside.py:
when that process is killed, the kernel ends all the others, and their mounts, bridge and interfaces go with them.
What remains to be removed is the state folder and the pods' cgroups.

    cli -> cluster -> inside -> control_plane, simulated, node -> keys -> state -> errors
              |-> build, image -> pins -> errors
"""
