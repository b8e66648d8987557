#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns a small values file into an MPIJob that trains a Vision Transformer.

python generate.py --nodes 2 | kubectl apply -f -
"""

from __future__ import annotations

import sys

try:
    from mpikit.cli.app import main
except KeyboardInterrupt:
    sys.exit(130)  # mpikit.errors' EXIT_INTERRUPTED, which may not be there yet
except ModuleNotFoundError as missing:
    needed = f"{sys.executable} -m pip install click jinja2 pydantic pyyaml"
    sys.exit(f"generate.py: Python has no {missing.name}\n  fix: {needed}")


if __name__ == "__main__":
    sys.exit(main())
