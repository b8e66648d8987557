# SPDX-License-Identifier: Apache-2.0
"""Google's public weights: the file of each model and variant, as the authors list them.

Sources, google-research/vision_transformer at c6de1e5: vit_jax.ipynb prints `gsutil ls -lh` of the folders imagenet21k
and imagenet21k+imagenet2012; README.md, section "Available ViT models", lists the AugReg files that the authors
recommend. A file that stands in neither is not named here.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from urllib.parse import quote

from mpikit.errors import one_fault
from mpikit.trainer import PUBLISHED_NAMES

BUCKET = "https://storage.googleapis.com/vit_models"
VARIANTS = ("imagenet21k", "augreg", "imagenet21k+imagenet2012")

_IMAGENET21K = {  # model: MiB
    "ViT-B_16": 394,
    "ViT-B_32": 400,
    "ViT-L_16": 1250,
    "ViT-L_32": 1260,
    "ViT-H_14": 2520,
    "R50-ViT-B_16": 440,
}
_FINE_TUNED = {"ViT-B_16": 331, "ViT-B_32": 337, "ViT-L_16": 1167, "ViT-L_32": 1167, "R50-ViT-B_16": 378}
_AUGREG = {  # pre-trained on ImageNet-21k; the best of their size after fine-tuning, says the README
    "ViT-Ti_16": ("Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0", 37),
    "ViT-S_16": ("S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0", 115),
    "ViT-B_16": ("B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0", 391),
    "ViT-B_32": ("B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0", 398),
    "ViT-L_16": ("L_16-i21k-300ep-lr_0.001-aug_strong1-wd_0.1-do_0.0-sd_0.0", 1243),
}


@dataclass(frozen=True, slots=True)
class Published:
    """One file of the bucket."""

    path: str
    """Below the bucket."""
    mib: int
    """Size as the authors list it, rounded."""

    def url(self, mirror: str | None) -> str:
        """Return its address; a plus sign is written %2B, since some servers read it as a space."""
        return f"{(mirror or BUCKET).rstrip('/')}/{quote(self.path, safe='/')}"


def published_file(model: str, variant: str) -> Published:
    """Return the file of a model; ValuesError with what there is if no source names one."""
    found = FILES.get((model, variant))
    if found:
        return found
    variants = [name for name in VARIANTS if (model, name) in FILES]
    models = sorted({name for name, its in FILES if its == variant})
    if not variants:
        names = {name.lower(): name for name, _ in sorted(FILES)}
        near = difflib.get_close_matches(model.lower().replace("-b16", "-b_16"), names, n=1, cutoff=0.7)
        known = ", ".join(names.values())
        fix = f"write {names[near[0]]}; known: {known}" if near else f"write one of {known}"
        raise one_fault("", f"no published weights of {model} are known", fix, "MODEL")
    what = f"{variant} has no file of {model}"
    fix = f"--variant {' or '.join(variants)}; {variant} has {', '.join(models)}"
    raise one_fault("", what, fix, f"--variant {variant}")


def _files() -> dict[tuple[str, str], Published]:
    files = {}
    for variant, sizes in (("imagenet21k", _IMAGENET21K), ("imagenet21k+imagenet2012", _FINE_TUNED)):
        for model, mib in sizes.items():
            files[model, variant] = Published(f"{variant}/{PUBLISHED_NAMES.get(model, model)}.npz", mib)
    return files | {(model, "augreg"): Published(f"augreg/{name}.npz", mib) for model, (name, mib) in _AUGREG.items()}


FILES = _files()
