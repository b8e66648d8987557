# SPDX-License-Identifier: Apache-2.0
"""Each kind of file that is given as weights loads as the reference has it, or is rejected with a fix that is true."""

from __future__ import annotations

import argparse
import gzip
import json
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="vit tests need torch: pip install torch")
import numpy as np  # noqa: E402  # after the skip

from tests.support.running import clean_environment  # noqa: E402
from tests.support.webserver import serving  # noqa: E402
from tests.unit.vit.weights.test_load import random_npz, write  # noqa: E402
from vit.errors import WeightsError  # noqa: E402
from vit.model.transformer import VisionTransformer, create_model  # noqa: E402
from vit.weights.load import load_weights, save_npz  # noqa: E402

State = dict[str, Any]


def ours(model_type: str = "tiny") -> VisionTransformer:
    return create_model(model_type, img_size=32, num_classes=10, gelu="erf")


@pytest.fixture(scope="module")
def timm() -> Any:
    return pytest.importorskip("timm", reason="vit tests need timm: pip install timm")


def theirs(timm: Any, **options: Any) -> Any:
    """timm's model of the size of ours, with random weights everywhere."""
    torch.manual_seed(3)
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4, "mlp_ratio": 2}
    model = timm.models.vision_transformer.VisionTransformer(num_classes=10, **{**size, **options}).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.2)
    return model


def plain_state(_state: State | None = None) -> State:
    torch.manual_seed(4)
    return {key: torch.randn_like(value) for key, value in ours().state_dict().items()}


def saved(path: Path, found: Any, **options: Any) -> Path:
    torch.save(found, path, **options)
    return path


def in_transformers_5(state: State) -> State:
    """Stands in for transformers 5, which is not installed: its names, read from its modeling_vit.py (5.24)."""
    names = {"cls_token": "vit.embeddings.cls_token", "pos_embed": "vit.embeddings.position_embeddings"}
    for kind in ("weight", "bias"):
        names |= {
            f"patch_embed.proj.{kind}": f"vit.embeddings.patch_embeddings.projection.{kind}",
            f"norm.{kind}": f"vit.layernorm.{kind}",
            f"head.{kind}": f"classifier.{kind}",
        }
        for index in range(2):
            old, new = f"blocks.{index}", f"vit.layers.{index}"
            names |= {
                f"{old}.norm1.{kind}": f"{new}.layernorm_before.{kind}",
                f"{old}.norm2.{kind}": f"{new}.layernorm_after.{kind}",
                f"{old}.attn.proj.{kind}": f"{new}.attention.o_proj.{kind}",
                f"{old}.mlp.fc1.{kind}": f"{new}.mlp.fc1.{kind}",
                f"{old}.mlp.fc2.{kind}": f"{new}.mlp.fc2.{kind}",
            }
    found = {names[key]: value for key, value in state.items() if key in names}
    for index in range(2):
        for kind in ("weight", "bias"):
            parts = state[f"blocks.{index}.attn.qkv.{kind}"].chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                found[f"vit.layers.{index}.attention.{name}_proj.{kind}"] = part.clone()
    return found


def training_file(state: State) -> State:
    """What timm's train.py saves, with its flags, numbers of numpy and a scaler."""
    args = argparse.Namespace(model="vit", lr=1e-3, opt_betas=[0.9, 0.999])
    return {
        "epoch": 7,
        "arch": "vit",
        "state_dict": state,
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]},
        "version": 2,
        "args": args,
        "metric": np.float64(71.5),
        "amp_scaler": {"scale": 65536.0},
    }


def averaged(state: State) -> State:
    wrong = {key: torch.zeros_like(value) for key, value in state.items()}
    return {**training_file(wrong), "state_dict_ema": state}


def prefixed(*prefixes: str, heads: str = "") -> Callable[[State], State]:
    def change(state: State) -> State:
        whole = "".join(prefixes)
        return {(heads if key.startswith("head.") else whole) + key: value for key, value in state.items()}

    return change


def swa(state: State) -> State:
    return {"n_averaged": torch.tensor(5), **prefixed("module.")(state)}


def masked_training(state: State) -> State:
    return {"model": {**state, "mask_token": torch.ones(1, 1, 64), "decoder_blocks.0.norm1.weight": torch.ones(32)}}


SAME: dict[str, Callable[[State], Any]] = {
    "timm's checkpoint.pth.tar": training_file,
    "its average": averaged,
    "DeiT and MAE": lambda state: {"model": state, "args": argparse.Namespace(lr=1, path=Path("x"))},
    "torch.compile": prefixed("_orig_mod."),
    "DataParallel": prefixed("module."),
    "both": prefixed("module.", "_orig_mod."),
    "Lightning": prefixed("model."),
    "a backbone and a head": prefixed("backbone."),
    "a backbone beside a head": prefixed("model.", "backbone.", heads="model."),
    "averaged weights of torch": swa,
    "masked training": masked_training,
    "transformers 5": in_transformers_5,
    "half precision": lambda state: {key: value.half().float().bfloat16() for key, value in state.items()},
}


@pytest.mark.parametrize("kind", SAME)
@pytest.mark.parametrize("legacy", [False, True])
def test_the_same_weights_are_read_from_every_form(tmp_path: Path, kind: str, legacy: bool) -> None:
    state, model = plain_state(), ours()
    path = saved(tmp_path / "w.pt", SAME[kind](state), _use_new_zipfile_serialization=not legacy)
    load_weights(model, path)
    for key, value in model.state_dict().items():
        expected = state[key].half().float().bfloat16().float() if kind == "half precision" else state[key]
        assert torch.equal(value, expected), key


TIMMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer scale": {"init_values": 0.1},
    "query, key and value without bias": {"qkv_bias": False},
    "the class token without position": {"no_embed_class": True},
    "all of these (DeiT-3)": {"init_values": 0.1, "qkv_bias": False, "no_embed_class": True},
}


@pytest.mark.parametrize("kind", TIMMS)
def test_logits_are_timms(timm: Any, tmp_path: Path, kind: str) -> None:
    reference, model = theirs(timm, **TIMMS[kind]), ours().eval()
    notes = load_weights(model, saved(tmp_path / "w.pth.tar", training_file(reference.state_dict())))
    assert bool(notes) == (kind != "plain")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected, found = reference(images), model(images)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_beside_the_weights_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    monkeypatch.chdir(tmp_path)
    state, model = plain_state(), ours()
    found = {"state_dict": state, "a": Evil(), "b": [Evil(), {"c": Evil()}], "d": argparse.Namespace(x=Evil())}
    load_weights(model, saved(tmp_path / "w.pt", found, _use_new_zipfile_serialization=not legacy))
    assert torch.equal(model.pos_embed, state["pos_embed"])
    assert not (tmp_path / "ran").exists()


def test_bfloat16_of_an_npz_is_read(tmp_path: Path) -> None:
    file, model = random_npz(), ours()
    halves = {key: (value.view(np.uint32) >> 16).astype(np.uint16).view("V2") for key, value in file.items()}
    load_weights(model, write(tmp_path / "w.npz", halves))
    expected = (file["cls"].view(np.uint32) >> 16 << 16).view(np.float32)
    assert np.array_equal(model.cls_token.detach().numpy(), expected)


def test_a_folder_of_hugging_face_is_read(tmp_path: Path) -> None:
    state = plain_state()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_act": "gelu"}))
    for name in ("pytorch_model.bin", "model.safetensors"):
        model, found = ours(), in_transformers_5(state)
        if name.endswith("safetensors"):
            pytest.importorskip("safetensors.torch", reason="needs safetensors").save_file(found, tmp_path / name)
        else:
            saved(tmp_path / name, found)
        load_weights(model, tmp_path, "tiny")
        assert torch.equal(model.head.weight, state["head.weight"])


# Each row: what makes the place that is given, what the message says it is, and what follows its advice: it gets the
# place and the advice, and returns the place to give next. The fault must then be gone.
Make = Callable[[Path], Path | str]
Follow = Callable[[Path, str], Path | str]


def bytes_of(content: bytes, name: str = "w.npz") -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def state_of(change: Callable[[State], Any]) -> Make:
    return lambda folder: saved(folder / "w.pt", change(plain_state()))


def with_key(key: str, *shape: int) -> Make:
    return state_of(lambda state: {**state, key: torch.ones(shape or (64,))})


def good(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return saved(folder / "good.pt", plain_state())


def another_file(place: Path, _advice: str) -> Path:
    """The weights themselves: downloaded again, pulled by git LFS, or a file of the kind that the advice names."""
    return good(Path(place).parent / "good")


def as_advised(place: Path, advice: str) -> Path:
    """The path in "give PATH"."""
    found = re.search(r"give (/\S+)", advice)
    assert found, advice
    return Path(found[1])


def unpacked(place: Path, advice: str) -> Path:
    program = re.search(r"gunzip|unzip|tar -xf", advice)
    assert program, advice
    flags = ["-d", str(place.parent)] if program[0] == "unzip" else ["-C", str(place.parent)]
    words = [*program[0].split(), str(place), *(flags if program[0] != "gunzip" else [])]
    subprocess.run(["sh", "-c", 'command -v "$1"', "sh", words[0]], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return next(path for path in place.parent.iterdir() if path.name in ("w.pt", "in.pt"))


def as_state_dict(place: Path, advice: str) -> Path:
    """Runs the Python that the advice spells."""
    code = re.search(r"torch\.save\(.*?'weights\.pt'\)", advice)
    assert code, advice
    model = ours()
    model.load_state_dict(plain_state())
    target = place.parent / "weights.pt"
    program = code[0].replace("'weights.pt'", repr(str(target))).replace("'OLD'", repr(str(place)))
    exec(program, {"torch": torch, "model": model})  # the advice itself is what is tried
    return target


def tarred(folder: Path) -> Path:
    inner = saved(folder / "in.pt", plain_state())
    with tarfile.open(folder / "w.tar", "w") as archive:
        archive.add(inner, "in.pt")
    inner.unlink()
    return folder / "w.tar"


def zipped(folder: Path) -> Path:
    inner = saved(folder / "in.pt", plain_state())
    with zipfile.ZipFile(folder / "w.zip", "w") as archive:
        archive.write(inner, "in.pt")
    inner.unlink()
    return folder / "w.zip"


def gzipped(folder: Path) -> Path:
    inner = saved(folder / "w.pt", plain_state())
    (folder / "w.pt.gz").write_bytes(gzip.compress(inner.read_bytes()))
    inner.unlink()
    return folder / "w.pt.gz"


class Program(torch.nn.Module):
    """Has the weights of ours, and can be compiled by torch.jit."""

    def __init__(self) -> None:
        super().__init__()
        for key, value in plain_state().items():
            place, _, name = key.rpartition(".")
            module: torch.nn.Module = self
            for part in place.split(".") if place else ():
                if part not in dict(module.named_children()):
                    module.add_module(part, torch.nn.Module())
                module = dict(module.named_children())[part]
            module.register_parameter(name, torch.nn.Parameter(value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def scripted(folder: Path) -> Path:
    torch.jit.script(Program()).save(folder / "w.pt")
    return folder / "w.pt"


def folder_with(*names: str) -> Make:
    def make(folder: Path) -> Path:
        place = folder / "model"
        place.mkdir()
        for name in names:
            (place / name).write_bytes(b"x")
        return place

    return make


def odd_name(folder: Path) -> Path:
    (folder / "model").mkdir()
    saved(folder / "model" / "weights.pth", plain_state())
    return folder / "model"


def cut(folder: Path) -> Path:
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    safetensors.save_file(plain_state(), folder / "w.safetensors")
    content = (folder / "w.safetensors").read_bytes()
    return Path(bytes_of(content[:-1000], "w.safetensors")(folder))


def missing_norm(state: State) -> State:
    return {key: value for key, value in state.items() if key != "norm.weight"}


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 346\n"
REFUSED: dict[str, tuple[Make, str, Follow]] = {
    "URL": (lambda _: "https://example.org/ViT-B_16.npz", "is a URL, not a path", lambda _, __: good(Path())),
    "name in a hub": (lambda _: "hf-hub:timm/vit", "is a name in a hub", lambda _, __: good(Path())),
    "nothing there": (lambda folder: folder / "no.npz", "does not exist", another_file),
    "empty": (bytes_of(b""), "is empty (0 bytes)", another_file),
    "LFS pointer": (bytes_of(LFS, "w.safetensors"), "is a git LFS pointer", another_file),
    "web page": (bytes_of(b"\n<!DOCTYPE html><html>"), "is a web page, not weights", another_file),
    "JSON": (bytes_of(b'{"a": 1}', "config.json"), "is JSON text", another_file),
    "gzip": (gzipped, "is a gzip file", unpacked),
    "tar": (tarred, "is a tar archive", unpacked),
    "zip": (zipped, "is a zip archive, not weights", unpacked),
    "npy": (bytes_of(b"\x93NUMPY\x01\x00"), "is a single NumPy array", another_file),
    "HDF5": (bytes_of(b"\x89HDF\r\n\x1a\n", "w.h5"), "is an HDF5 file", another_file),
    "ONNX": (bytes_of(b"\x08\x07\x12\x07pytorch\x1a", "w.bin"), "is an ONNX model", as_state_dict),
    "TorchScript": (scripted, "is a TorchScript program", as_state_dict),
    "plain pickle": (
        bytes_of(pickle.dumps({"a": 1})),
        "is a Python pickle that torch.save did not write",
        as_state_dict,
    ),
    "whole model": (state_of(lambda _: Program()), "is a complete Python object", as_state_dict),
    "no state dict": (state_of(lambda _: {"epoch": 3}), "has no state dict of tensors, but epoch", as_state_dict),
    "TensorFlow folder": (folder_with("m.index", "m.data-00000-of-00001"), "is a TensorFlow checkpoint", another_file),
    "TensorFlow file": (bytes_of(b"x", "m.data-00000-of-00001"), "is part of a TensorFlow checkpoint", another_file),
    "Orbax": (folder_with("_METADATA"), "is an Orbax", another_file),
    "parts": (folder_with("model.safetensors.index.json"), "has weights in several parts", as_state_dict),
    "another name in a folder": (odd_name, "has no tiny.npz, model.safetensors or pytorch_model.bin", as_advised),
    "cut .safetensors": (cut, "is a .safetensors file that is cut off or damaged: it has", another_file),
    "cut .npz": (bytes_of(b"PK\x03\x04"), "is cut off", another_file),
    "other bytes": (bytes_of(b"\x00\x01", "w.pt"), "is not a weights file of a known kind", another_file),
    "registers": (with_key("reg_token", 1, 4, 64), "has register tokens", another_file),
    "distilled": (with_key("dist_token", 1, 1, 64), "is a distilled DeiT", another_file),
    "BEiT": (with_key("blocks.0.attn.relative_position_bias_table", 4, 4), "relative position biases", another_file),
    "query norm": (with_key("blocks.0.attn.q_norm.weight"), "normalises queries and keys", another_file),
    "CLIP": (with_key("norm_pre.weight"), "has a norm before its blocks", another_file),
    "mean of tokens": (with_key("fc_norm.weight"), "classifies by the mean of its tokens", another_file),
    "unknown key": (with_key("extra.weight"), 'key "extra.weight" with shape (64,) has no place', another_file),
    "missing key": (state_of(missing_norm), 'key "norm.weight" is missing', another_file),
    "ResNet": (state_of(lambda _: {"conv1.weight": torch.ones(2)}), "is not a Vision Transformer", another_file),
    "quantised": (state_of(lambda s: {**s, "norm.weight": torch.ones(64).char()}), "contains int8", another_file),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_says_what_it_is_and_its_advice_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make, what, follow = REFUSED[kind]
    place = make(tmp_path)
    with pytest.raises(WeightsError) as caught:
        load_weights(ours(), place, "tiny")
    assert what in caught.value.what
    assert not re.search(r"\bNone\b|Error|class '|Traceback|--model_type tiny|--gelu erf", str(caught.value))
    load_weights(ours(), follow(Path(place), caught.value.fix), "tiny")


def test_a_url_is_downloaded_by_the_command_that_is_advised(tmp_path: Path) -> None:
    save_npz(ours(), tmp_path / "a.npz")
    with serving((tmp_path / "a.npz").read_bytes()) as site:
        with pytest.raises(WeightsError) as caught:
            load_weights(ours(), site.url)
        words = re.search(r"python (-m vit.fetch) URL FILE", caught.value.fix)
        assert words
        command = [sys.executable, *words[1].split(), site.url, str(tmp_path / "b.npz")]
        subprocess.run(command, check=True, env=clean_environment(), capture_output=True)
    load_weights(ours(), tmp_path / "b.npz")


SIZES = [("ViT-Ti_16", "tiny"), ("tiny", "ViT-Ti_16"), ("ViT-Ti_16", "ViT-S_16")]


@pytest.mark.parametrize(("of_file", "asked"), SIZES)
@pytest.mark.parametrize("name", ["w.npz", "w.pt"])
def test_the_model_type_that_is_advised_loads(tmp_path: Path, name: str, of_file: str, asked: str) -> None:
    path = tmp_path / name
    if name == "w.npz":
        save_npz(ours(of_file), path)
    else:
        saved(path, ours(of_file).state_dict())
    with pytest.raises(WeightsError) as caught:
        load_weights(ours(asked), path)
    advised = re.search(r"--model_type (\S+)", caught.value.fix)
    assert advised
    load_weights(ours(advised[1]), path)


def test_a_patch_that_no_model_has_is_said_so(timm: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", theirs(timm, patch_size=4).state_dict())
    with pytest.raises(WeightsError, match="width 64, 2 layers, patch 4: no --model_type fits, give another file"):
        load_weights(ours(), path)
