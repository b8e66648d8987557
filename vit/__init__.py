# SPDX-License-Identifier: Apache-2.0
"""The trainer that runs inside the pods: `python -m vit.train FLAGS`, one process per accelerator."""
