# SPDX-License-Identifier: Apache-2.0
"""What watches the ranks of an attempt: a monitor on each node, and in the launcher the judge of their reports."""
