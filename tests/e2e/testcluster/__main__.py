# SPDX-License-Identifier: Apache-2.0
"""`python -m testcluster`, which scripts/cluster calls."""

import sys

from testcluster.cli import main

sys.exit(main(sys.argv[1:]))
