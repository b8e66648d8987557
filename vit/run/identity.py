# SPDX-License-Identifier: Apache-2.0
"""What must not change when a run goes on: compared with its last checkpoint before any step. Needs no torch."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vit.class_names import difference
from vit.config import Config
from vit.errors import ConfigError

if TYPE_CHECKING:
    from vit.data.batches import Data
    from vit.run.checkpoint import Checkpoint

DATA = {"num_classes", "classes_crc", "train_images"}
"""Settings that --data_path decides."""
OTHERS = "use another --name, or start from scratch with --resume never"


def identity_of(config: Config, data: Data, *, world_size: int) -> dict[str, Any]:
    """Return every setting that alters the weights of some step."""
    return {
        **config.identity(world_size=world_size),
        "num_classes": data.num_classes,
        "classes_crc": classes_crc(data),
        "train_images": data.num_train,
    }


def classes_crc(data: Data) -> int:
    """Return a checksum of the classes' names in their order."""
    return zlib.crc32("/".join(data.class_names).encode(errors="surrogateescape"))


def check_identity(
    checkpoint: Checkpoint, identity: Mapping[str, Any], class_names: Sequence[str], config: Config
) -> list[str]:
    """Compare with the checkpoint; returns what to say of a complete run that goes on. Raises ConfigError.

    Only num_steps may differ, and only if it was raised after the run was complete.
    """
    # What was made before there was a setting has the setting's default.
    old = {**Config().identity(world_size=1), **checkpoint.state["identity"]}
    if config.eval_only:  # how it was trained does not matter, and the model's settings are compared already
        return []
    names = [name for name in identity if identity[name] != old.get(name)]
    if names == ["num_steps"] and config.num_steps > checkpoint.step >= old["num_steps"]:
        return [_longer(checkpoint.step, config)]
    if names:
        changes = "; ".join(_changes(names, identity, old, class_names, checkpoint))
        fix = f"{_set_back(names, old)}, {OTHERS}"
        raise ConfigError(_flag(names[0]), f"{checkpoint.path} was made with other settings: {changes}", fix)
    return []


def _changes(
    names: Sequence[str],
    identity: Mapping[str, Any],
    old: Mapping[str, Any],
    class_names: Sequence[str],
    checkpoint: Checkpoint,
) -> Iterator[str]:
    for name in names:
        if name == "classes_crc":
            yield f"the classes differ ({difference(class_names, checkpoint.state['class_names'])})"
        else:
            yield f"{name} is {_shown(identity[name])} but was {_shown(old.get(name))}"


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)


def _flag(name: str) -> str:
    return "--data_path" if name in DATA else "--train_batch_size" if name == "global_batch" else f"--{name}"


def _set_back(names: Sequence[str], old: Mapping[str, Any]) -> str:
    """Return the flags to set back, as they are typed."""
    flags = [name for name in names if name not in DATA and name != "global_batch"]
    typed = [_typed(name, old[name]) for name in flags if old.get(name) is not None]
    absent = [f"--{name}" for name in flags if old.get(name) is None]
    parts = [f"set {' '.join(typed)}"] if typed else []
    parts += [f"leave out {' '.join(absent)}"] if absent else []
    if "global_batch" in names:
        parts.append(f"make --train_batch_size x ranks {old['global_batch']}")
    if DATA & set(names):
        parts.append("set --data_path to the data set that the run began with")
    return " and ".join(parts)


def _typed(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name}"
    return f"--{name} {value}"


def _longer(step: int, config: Config) -> str:
    return (
        f"the run was complete at step {step:,} and continues to step {config.num_steps:,}; "
        f"the learning rate is now that of a {config.decay_type} schedule of {config.num_steps:,} steps, and rises"
    )
