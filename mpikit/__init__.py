# SPDX-License-Identifier: Apache-2.0
"""Turns a small values file into an MPIJob (kubeflow.org/v2beta1) that trains a Vision Transformer."""
