"""The reference here is written from the paper and the .npz layout in numpy; it shares nothing with vit.model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip

from vit.errors import WeightsError  # noqa: E402
from vit.model import VisionTransformer, create_model  # noqa: E402
from vit.weights import load_npz, save_npz  # noqa: E402

D, MLP, HEADS, LAYERS, PATCH, CLASSES, GRID = 64, 128, 4, 2, 8, 10, 4
BLOCK = "Transformer/encoderblock_{}/"
ATTENTION = "MultiHeadDotProductAttention_1/"


def random_npz(grid: int = GRID, classes: int = CLASSES) -> dict[str, Any]:
    """A random file in Google's layout for the tiny model."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls": (1, 1, D),
        "embedding/kernel": (PATCH, PATCH, 3, D),
        "embedding/bias": (D,),
        "Transformer/posembed_input/pos_embedding": (1, grid * grid + 1, D),
        "Transformer/encoder_norm/scale": (D,),
        "Transformer/encoder_norm/bias": (D,),
        "head/kernel": (D, classes),
        "head/bias": (classes,),
    }
    for index in range(LAYERS):
        block = BLOCK.format(index)
        for part in ("query", "key", "value"):
            shapes[f"{block}{ATTENTION}{part}/kernel"] = (D, HEADS, D // HEADS)
            shapes[f"{block}{ATTENTION}{part}/bias"] = (HEADS, D // HEADS)
        shapes[f"{block}{ATTENTION}out/kernel"] = (HEADS, D // HEADS, D)
        shapes[f"{block}{ATTENTION}out/bias"] = (D,)
        for name in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{block}{name}/scale": (D,), f"{block}{name}/bias": (D,)}
        shapes |= {f"{block}MlpBlock_3/Dense_0/kernel": (D, MLP), f"{block}MlpBlock_3/Dense_0/bias": (MLP,)}
        shapes |= {f"{block}MlpBlock_3/Dense_1/kernel": (MLP, D), f"{block}MlpBlock_3/Dense_1/bias": (D,)}
    random = np.random.RandomState(1)
    return {key: (random.randn(*shape) * 0.2).astype(np.float32) for key, shape in shapes.items()}


def layer_norm(x: Any, scale: Any, bias: Any) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * scale + bias


def gelu_tanh(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def reference_logits(file: dict[str, Any], images: Any) -> Any:
    """Images (B, S, S, 3) in [-1, 1] -> logits, in float64."""
    w = {key: value.astype(np.float64) for key, value in file.items()}
    side = images.shape[1] // PATCH
    patches = images.reshape(-1, side, PATCH, side, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
    x = np.einsum("bxyhwc,hwcd->bxyd", patches, w["embedding/kernel"]) + w["embedding/bias"]
    x = np.concatenate([np.tile(w["cls"], (len(images), 1, 1)), x.reshape(len(images), -1, D)], axis=1)
    x = x + w["Transformer/posembed_input/pos_embedding"]
    for index in range(LAYERS):
        b = {k.removeprefix(BLOCK.format(index)): v for k, v in w.items() if k.startswith(BLOCK.format(index))}
        y = layer_norm(x, b["LayerNorm_0/scale"], b["LayerNorm_0/bias"])
        q, k, v = (
            np.einsum("bnd,dhe->bnhe", y, b[f"{ATTENTION}{p}/kernel"]) + b[f"{ATTENTION}{p}/bias"]
            for p in ("query", "key", "value")
        )
        scores = np.exp(np.einsum("bqhe,bkhe->bhqk", q, k) / np.sqrt(D / HEADS))
        mixed = np.einsum("bhqk,bkhe->bqhe", scores / scores.sum(-1, keepdims=True), v)
        x = x + np.einsum("bqhe,hed->bqd", mixed, b[f"{ATTENTION}out/kernel"]) + b[f"{ATTENTION}out/bias"]
        y = layer_norm(x, b["LayerNorm_2/scale"], b["LayerNorm_2/bias"])
        y = gelu_tanh(y @ b["MlpBlock_3/Dense_0/kernel"] + b["MlpBlock_3/Dense_0/bias"])
        x = x + y @ b["MlpBlock_3/Dense_1/kernel"] + b["MlpBlock_3/Dense_1/bias"]
    x = layer_norm(x, w["Transformer/encoder_norm/scale"], w["Transformer/encoder_norm/bias"])
    return x[:, 0] @ w["head/kernel"] + w["head/bias"]


def tiny() -> VisionTransformer:
    return create_model("tiny", img_size=32, num_classes=CLASSES)


def write(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_loaded_model_is_the_references_function(tmp_path: Path) -> None:
    file, model = random_npz(), tiny()
    assert load_npz(model, write(tmp_path / "w.npz", file)) == []
    images = np.random.RandomState(2).uniform(-1, 1, (3, 32, 32, 3))
    expected = reference_logits(file, images)
    found = model(torch.tensor(images, dtype=torch.float32).permute(0, 3, 1, 2)).detach().numpy()
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5


def test_load_then_save_gives_the_same_arrays_byte_for_byte(tmp_path: Path) -> None:
    file, model = random_npz(), tiny()
    load_npz(model, write(tmp_path / "a.npz", file))
    save_npz(model, tmp_path / "b")
    with np.load(tmp_path / "b") as again:
        assert set(again.files) == set(file)
        assert all(again[key].tobytes() == file[key].tobytes() for key in file)


def test_the_prefix_opt_target_and_pre_logits_are_understood(tmp_path: Path) -> None:
    file, plain, prefixed = random_npz(), tiny(), tiny()
    load_npz(plain, write(tmp_path / "a.npz", file))
    extra = {**file, "pre_logits/kernel": np.zeros((D, D), np.float32), "pre_logits/bias": np.zeros(D, np.float32)}
    load_npz(prefixed, write(tmp_path / "b.npz", {f"opt/target/{key}": value for key, value in extra.items()}))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), prefixed.parameters(), strict=True))


def test_position_embeddings_are_resampled_with_corners_kept(tmp_path: Path) -> None:
    file, model = random_npz(grid=2), tiny()
    notes = load_npz(model, write(tmp_path / "w.npz", file))
    old, new = file["Transformer/posembed_input/pos_embedding"][0], model.pos_embed[0].detach().numpy()
    assert notes == ["position embeddings resampled from 2x2 to 4x4"]
    assert np.array_equal(new[[0, 1, 4, 13, 16]], old[[0, 1, 2, 3, 4]])  # cls and the four corners
    assert np.allclose(new[2], old[1] * 2 / 3 + old[2] / 3, atol=1e-6)


def test_a_head_of_other_classes_starts_at_zero_and_that_is_said(tmp_path: Path) -> None:
    model = tiny()
    torch.nn.init.ones_(model.head.weight)
    notes = load_npz(model, write(tmp_path / "w.npz", random_npz(classes=7)))
    assert notes == ["the head starts at zero: the file's has 7 classes, the data 10"]
    assert not model.head.weight.any()


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in random_npz().items() if name != key}


NORM = "Transformer/encoderblock_1/LayerNorm_2/scale"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (without(NORM), f'key "{NORM}" is missing, the model needs it with shape (64,)'),
        ({**random_npz(), NORM: np.ones(5, np.float32)}, f'key "{NORM}" has shape (5,), the model needs (64,)'),
        ({**random_npz(), NORM: np.ones(D, np.int64)}, f'key "{NORM}" holds int64'),
        ({**random_npz(), "extra": np.ones(2, np.float32)}, 'key "extra" with shape (2,) has no place in the model'),
        ({**random_npz(), "cls": np.array([{}])}, "cannot be read as an .npz of plain numbers"),
    ],
)
def test_a_wrong_file_names_the_key_and_both_shapes(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load_npz(tiny(), write(tmp_path / "w.npz", arrays))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "w.npz"))


def test_another_variant_is_recognised(tmp_path: Path) -> None:
    path = write(tmp_path / "w.npz", random_npz())
    with torch.device("meta"):
        model = create_model("ViT-B_32", img_size=32, num_classes=CLASSES)
    with pytest.raises(WeightsError, match="the file looks like tiny: set --model_type tiny"):
        load_npz(model.to_empty(device="cpu"), path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>404</html>", "is a web page, not an .npz"),
        (b"PK\x03\x04 cut off", "cannot be read as an .npz"),
        (b"", "cannot be read as an .npz"),
        (None, "there is no such file"),
    ],
)
def test_what_is_no_npz_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "w.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_npz(tiny(), path)


def test_a_cut_off_download_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "w.npz", random_npz())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="cut off"):
        load_npz(tiny(), path)
