# SPDX-License-Identifier: Apache-2.0
"""The reference here is written from the paper and the .npz layout in numpy; it shares nothing with vit.model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip

from vit.errors import WeightsError  # noqa: E402
from vit.model.transformer import VisionTransformer, create_model  # noqa: E402
from vit.variants import Variant  # noqa: E402
from vit.weights.load import load_npz, load_weights, save_npz  # noqa: E402

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


def test_pre_logits_of_21k_files_are_dropped(tmp_path: Path) -> None:
    extra = {"pre_logits/kernel": np.zeros((D, D), np.float32), "pre_logits/bias": np.zeros(D, np.float32)}
    assert load_npz(tiny(), write(tmp_path / "w.npz", {**random_npz(), **extra})) == []


def in_layout(kind: str, file: dict[str, Any]) -> dict[str, Any]:
    """The same weights as another program of Google's writes them."""
    names = {"MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0", "LayerNorm_2": "LayerNorm_1"}
    names |= {"MlpBlock_3": "MlpBlock_0"}
    if kind != "opt/target":
        for old, new in names.items():
            file = {key.replace(old, new): value for key, value in file.items()}
    if kind in ("big_vision", "stacked"):
        file["pos_embedding"] = file.pop("Transformer/posembed_input/pos_embedding")[:, 1:]
    if kind == "stacked":
        first = [key for key in file if "encoderblock_0/" in key]
        stack = {key: [file.pop(key.replace("_0/", f"_{i}/", 1)) for i in range(LAYERS)] for key in first}
        file |= {key.replace("encoderblock_0", "encoderblock"): np.stack(parts) for key, parts in stack.items()}
    prefix = {"opt/target": "opt/target/", "flax": ""}.get(kind, "params/")
    beside = {} if kind == "flax" else {"opt/state/step": np.zeros((), np.int32)}
    return {**{prefix + key: value for key, value in file.items()}, **beside}


@pytest.mark.parametrize("kind", ["opt/target", "flax", "big_vision", "stacked"])
def test_every_layout_of_googles_is_the_same_model(tmp_path: Path, kind: str) -> None:
    file, plain, other = random_npz(), tiny(), tiny()
    if kind in ("big_vision", "stacked"):
        file["Transformer/posembed_input/pos_embedding"][:, 0] = 0  # its class token has no position
    load_npz(plain, write(tmp_path / "a.npz", file))
    load_npz(other, write(tmp_path / "b.npz", in_layout(kind, dict(file))))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), other.parameters(), strict=True))


def test_a_file_without_class_token_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r'key "cls" is missing.*it averages over tokens'):
        load_npz(tiny(), write(tmp_path / "w.npz", without("cls")))


def hugging_face(state: dict[str, Any]) -> dict[str, Any]:
    """The tiny model's state dict under Hugging Face's keys."""
    names = {"cls_token": "vit.embeddings.cls_token", "pos_embed": "vit.embeddings.position_embeddings"}
    names |= {"patch_embed.proj": "vit.embeddings.patch_embeddings.projection", "norm": "vit.layernorm"}
    names |= {"head": "classifier"}
    inner = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.output.dense"}
    inner |= {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}
    found = {}
    for key, tensor in state.items():
        module, _, end = key.rpartition(".")
        if key in names:
            found[names[key]] = tensor
        elif not module.startswith("blocks."):
            found[f"{names[module]}.{end}"] = tensor
        elif module.endswith("qkv"):
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[f"vit.encoder.layer.{module.split('.')[1]}.attention.attention.{part}.{end}"] = piece.clone()
        else:
            _, index, part = module.split(".", 2)
            found[f"vit.encoder.layer.{index}.{inner[part]}.{end}"] = tensor
    return {**found, "vit.pooler.dense.weight": torch.zeros(2, 2)}


def write_state(path: Path, state: dict[str, Any]) -> Path:
    if path.suffix == ".safetensors":
        pytest.importorskip("safetensors.torch", reason="needs safetensors").save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("port", ["timm", "Hugging Face"])
def test_the_ports_state_dicts_are_read(tmp_path: Path, name: str, port: str) -> None:
    source, model = tiny(), tiny()
    torch.nn.init.normal_(source.head.weight)
    state = source.state_dict() if port == "timm" else hugging_face(source.state_dict())
    notes = load_weights(model, write_state(tmp_path / name, state))
    assert [note for note in notes if note.startswith(f"the file has {port}'s keys") and "--gelu erf" in note] == notes
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), model.parameters(), strict=True))


def test_a_checkpoint_of_a_training_program_is_unwrapped(tmp_path: Path) -> None:
    source, model = tiny(), tiny()
    state = {f"module.{key}": tensor for key, tensor in source.state_dict().items()}
    load_weights(model, write_state(tmp_path / "w.pth.tar", {"epoch": 3, "state_dict": state}))
    assert torch.equal(source.pos_embed, model.pos_embed)


def test_a_state_dict_of_another_variant_names_the_key_both_shapes_and_the_variant(tmp_path: Path) -> None:
    path = write_state(tmp_path / "w.pt", create_model("ViT-Ti_16", 32, 3).state_dict())
    with pytest.raises(WeightsError) as caught:
        load_weights(tiny(), path)
    assert 'key "cls_token" has shape (1, 1, 192), the model needs (1, 1, 64)' in str(caught.value)
    assert "the file looks like ViT-Ti_16: set --model_type ViT-Ti_16" in str(caught.value)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def test_a_pickle_with_code_in_it_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"cls_token": Evil()}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="has no state dict of tensors, but cls_token"):
        load_weights(tiny(), tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_a_folder_stands_for_the_published_file_in_it(tmp_path: Path) -> None:
    write(tmp_path / "tiny.npz", random_npz())
    assert load_weights(tiny(), tmp_path, "tiny") == []
    with pytest.raises(
        WeightsError, match=r"has no R50\+ViT-B_16.npz, model.safetensors or pytorch_model.bin, give .*/tiny.npz"
    ):
        load_weights(tiny(), tmp_path, "R50-ViT-B_16")


def tiny_hybrid() -> VisionTransformer:
    variant = Variant(
        width=64, mlp_width=128, num_heads=4, num_layers=2, patch=16, dropout=0.0, img_size=32, resnet=(1, 2, 1)
    )
    return VisionTransformer(variant, (32, 32), CLASSES)


@pytest.mark.parametrize("axes", [1, 4])
def test_a_hybrid_keeps_every_byte_whether_its_norms_have_one_axis_or_four(tmp_path: Path, axes: int) -> None:
    model, again = tiny_hybrid(), tiny_hybrid()
    model.group_norm_axes = axes
    save_npz(model, tmp_path / "a.npz")
    load_npz(again, tmp_path / "a.npz")
    save_npz(again, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as file:
        assert file["gn_root/scale"].shape == (1,) * (axes - 1) + (64,)
        assert {"block1/unit1/conv_proj/kernel", "block2/unit2/gn3/bias", "conv_root/kernel"} <= set(file.files)


@pytest.mark.parametrize("side", [16, 24, 40])
@pytest.mark.parametrize("shape", [(4, 4), (2, 8), (1, 5)])
def test_positions_of_any_grid_are_those_of_scipys_zoom(tmp_path: Path, side: int, shape: tuple[int, int]) -> None:
    ndimage = pytest.importorskip("scipy.ndimage", reason="needs scipy")
    file = random_npz(grid=side // 8)
    model = create_model("tiny", (shape[0] * 8, shape[1] * 8), CLASSES)
    load_npz(model, write(tmp_path / "w.npz", file))
    old = file["Transformer/posembed_input/pos_embedding"][0, 1:].reshape(side // 8, side // 8, D)
    zoom = (*(new / (side // 8) for new in shape), 1)
    expected = ndimage.zoom(old, zoom, order=1).reshape(-1, D)
    assert np.allclose(model.pos_embed[0, 1:].detach().numpy(), expected, atol=1e-6)


def test_timm_agrees_with_the_same_file_and_the_same_gelu(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="vit tests need timm: pip install timm")
    ours = create_model("ViT-B_16", 224, 10).eval()
    for name, parameter in ours.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.03)
    save_npz(ours, tmp_path / "w.npz")
    theirs = timm.create_model("vit_base_patch16_224", num_classes=10, act_layer="gelu_tanh").eval()
    theirs.load_pretrained(str(tmp_path / "w.npz"))
    images = torch.rand(2, 3, 224, 224) * 2 - 1
    with torch.no_grad():
        expected, found = theirs(images), ours(images)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


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
        ({**random_npz(), NORM: np.ones(D, np.int64)}, f'key "{NORM}" contains int64'),
        ({**random_npz(), "extra": np.ones(2, np.float32)}, 'key "extra" with shape (2,) has no place in the model'),
        ({**random_npz(), "cls": np.array([{}])}, "contains Python objects, which are not executed"),
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
        (b"<!DOCTYPE html><html>404</html>", "is a web page, not weights"),
        (b"PK\x03\x04 cut off", "is cut off: it begins as a zip archive"),
        (b"", "is empty"),
        (None, "does not exist"),
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
