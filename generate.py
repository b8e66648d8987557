#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns a small values file into an MPIJob that trains a Vision Transformer.

python generate.py --nodes 2 | kubectl apply -f -
"""

# Nothing here may be newer than Python 3.0: an old Python is refused by its version, not by a syntax error.
import sys

if sys.version_info < (3, 10):
    sys.exit(
        "generate.py: this Python is %d.%d, and at least 3.10 is needed\n"
        "  fix: python3.11 %s, or another newer one" % (sys.version_info[0], sys.version_info[1], " ".join(sys.argv))
    )

try:
    from mpikit.cli.app import main
except KeyboardInterrupt:
    sys.exit(130)  # mpikit.errors' EXIT_INTERRUPTED, which may not be there yet
except ModuleNotFoundError as missing:
    fix = "python3 -m venv .venv && . .venv/bin/activate && pip install ."  # README.md has this line too
    sys.exit("generate.py: the Python package %s is missing\n  fix: %s" % (missing.name, fix))


if __name__ == "__main__":
    sys.exit(main())
