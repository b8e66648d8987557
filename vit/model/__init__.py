# SPDX-License-Identifier: Apache-2.0
"""Vision Transformers and their hybrid: build one with `create_model`."""

from vit.model.transformer import Block, VisionTransformer, create_model

__all__ = ["Block", "VisionTransformer", "create_model"]
