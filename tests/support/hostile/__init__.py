# SPDX-License-Identifier: Apache-2.0
"""Hostile input for the kit: strings, YAML texts, whole values files, each case known by its seed."""
