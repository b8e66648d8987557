# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")

from tests.support.running import Result, finish, start_module  # noqa: E402  # after the skip
from vit.data.batches import Batch, DamageReport  # noqa: E402  # after the skip
from vit.model.transformer import create_model  # noqa: E402
from vit.runtime.device import Device  # noqa: E402
from vit.runtime.distributed import Group  # noqa: E402
from vit.runtime.ranks import Ranks  # noqa: E402
from vit.scaling import INCEPTION  # noqa: E402
from vit.training.evaluation import count, evaluate, normalise  # noqa: E402
from vit.weights.load import save_npz  # noqa: E402


def test_a_batch_counted_by_hand_with_one_padded_image() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [9.0, 0.0]])
    top1, top5, loss, *per_class = count(logits, torch.tensor([0, 0, 0, -1])).tolist()
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert (top1, top5, per_class) == (2, 3, [3, 0, 2, 0])
    assert loss == pytest.approx(2 * right + wrong, rel=1e-6)


def test_the_five_best_guesses_are_counted() -> None:
    logits = torch.arange(7.0).expand(7, 7)  # the best guess is class 6, the fifth best class 2
    top1, top5, _, *per_class = count(logits, torch.arange(7)).tolist()
    assert (top1, top5) == (1, 5)
    assert per_class == [1] * 7 + [0, 0, 0, 0, 0, 0, 1]


def test_an_evaluation_by_hand_over_two_batches() -> None:
    class ByRed(torch.nn.Module):
        """Guesses class 1 for bright images, class 0 for dark ones."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            red = images[:, 0].mean(dim=(1, 2))
            return torch.stack((-red, red), dim=1)

    bright, dark = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8), torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    first = Batch(torch.cat((bright, dark, dark)), torch.tensor([1, 0, 1]))
    second = Batch(torch.cat((bright, dark, dark)), torch.tensor([1, -1, -1]))
    device, model = Device(Ranks()), ByRed()
    group, damage = Group(Ranks(), device, timeout_seconds=9), DamageReport()
    options = {"autocast": False, "scaling": INCEPTION, "num_classes": 2, "damage": damage}
    result = evaluate(model, [first, second], device, group, **options)
    assert (result.top1_percent, result.top5_percent, result.eval_images) == (75.0, 100.0, 4)
    assert result.as_dict(["dark", "bright"])["per_class"]["bright"] == {"images": 3, "top1_percent": 200 / 3}
    assert result.eval_loss == pytest.approx((3 * math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 4)
    assert model.training


def test_input_is_scaled_as_the_reference_does() -> None:
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 1, 1, 3)
    assert normalise(images, INCEPTION).flatten().tolist() == pytest.approx([-1.0, 1.0, -0.6])


@pytest.fixture(scope="module")
def hundred_and_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """val/ with 101 images of 7 classes, no train/, and random weights."""
    import numpy as np
    from PIL import Image

    root, random = tmp_path_factory.mktemp("eval"), np.random.RandomState(0)
    for number in range(101):
        path = root / f"val/class_{number % 7}/{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 256, (16, 16, 3)).astype("uint8")).save(path)
    torch.manual_seed(1)
    model = create_model("tiny", img_size=16, num_classes=7)
    torch.nn.init.normal_(model.head.weight)
    save_npz(model, root / "w.npz")
    return root


def evaluated(world_size: int, root: Path, *flags: str) -> list[Result]:
    common = ["--dataset", "imagefolder", "--data_path", str(root), "--model_type", "tiny", "--img_size", "16"]
    common += ["--device", "cpu", "--num_workers", "0", "--eval_batch_size", "8", "--pretrained_dir"]
    return finish(start_module("vit.evaluate", world_size, *common, str(root / "w.npz"), *flags))


def by_hand(root: Path) -> dict[str, Any]:
    """One image after the other through the same weights."""
    import numpy as np
    from PIL import Image

    from vit.weights.load import load_npz

    model = create_model("tiny", img_size=16, num_classes=7).eval()
    load_npz(model, root / "w.npz")
    top1 = top5 = 0
    right = [0] * 7
    for path in sorted(root.glob("val/*/*.png")):
        label = int(path.parent.name[-1])
        pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float()
        order = model((pixels[None] - 127.5) / 127.5)[0].argsort(descending=True).tolist()
        top1, top5, right[label] = (
            top1 + (order[0] == label),
            top5 + (label in order[:5]),
            right[label] + (order[0] == label),
        )
    return {"top1": top1, "top5": top5, "right": right}


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_101_images_are_counted_once_on_any_number_of_ranks_as_a_loop_by_hand_does(
    hundred_and_one: Path, world_size: int
) -> None:
    ranks = evaluated(world_size, hundred_and_one, "--per_class")
    assert [rank.code for rank in ranks] == [0] * world_size, ranks
    result, expected = json.loads(ranks[0].out), by_hand(hundred_and_one)
    assert [rank.out for rank in ranks[1:]] == [""] * (world_size - 1)
    assert result["eval_images"] == 101
    assert result["top1_percent"] == pytest.approx(100 * expected["top1"] / 101)
    assert result["top5_percent"] == pytest.approx(100 * expected["top5"] / 101)
    classes = [result["per_class"][f"class_{number}"] for number in range(7)]
    assert [round(c["images"] * c["top1_percent"] / 100) for c in classes] == expected["right"]


def test_what_cannot_be_evaluated_is_named(hundred_and_one: Path, tmp_path: Path) -> None:
    save_npz(create_model("tiny", img_size=16, num_classes=5), tmp_path / "w.npz")
    other = evaluated(1, hundred_and_one, "--pretrained_dir", str(tmp_path / "w.npz"))[0]
    assert (other.code, other.out) == (2, "")
    assert "cannot be evaluated on these images: the head starts at zero: the file's has 5 classes" in other.err
    unknown = evaluated(1, hundred_and_one, "--num_steps", "3")[0]
    assert unknown.code == 2
    assert unknown.err.startswith("vit.evaluate: --num_steps: is not a flag of vit.evaluate")
