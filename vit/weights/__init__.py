# SPDX-License-Identifier: Apache-2.0
"""Weight files: read Google's, timm's and Hugging Face's, write Google's."""

from vit.weights.load import load_npz, load_weights, save_npz

__all__ = ["load_npz", "load_weights", "save_npz"]
