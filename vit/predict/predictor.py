# SPDX-License-Identifier: Apache-2.0
"""A model and images -> the five best guesses of each image, and what the model looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vit.config import Config
from vit.data.batches import DamageReport, Data, open_data, open_eval
from vit.data.datasets import FileSource
from vit.data.sampler import EvalBatches
from vit.errors import ConfigError
from vit.findings.pictures import fitted, seen, spread
from vit.findings.tally import TOP
from vit.model.rollout import rollout
from vit.model.transformer import VisionTransformer
from vit.predict.prediction import Array, Prediction
from vit.run.own import Own, with_classes_of
from vit.runtime.device import Device
from vit.runtime.devices import open_device
from vit.runtime.ranks import Ranks
from vit.training.evaluation import normalise
from vit.training.setup import build_model, fill_from_file


@dataclass(kw_only=True, slots=True)
class Predictor:
    """An open model with its images."""

    config: Config
    device: Device
    model: VisionTransformer
    data: Data
    labelled: bool
    num_damaged: int = 0
    damage: DamageReport = field(default_factory=DamageReport)

    def predictions(self, *, with_maps: bool) -> Iterator[Prediction]:
        """Yield a prediction of each image that can be decoded, in order. Raises DataError."""
        source = self.data.val.source
        size = min(self.config.eval_batch_size, len(source))
        for keys in EvalBatches(num_images=len(source), rank=0, world_size=1, batch_size=size):
            batch = self.data.val.batch(keys)
            self.num_damaged += len(batch.damaged)
            self.damage.tell(batch, "it is left out")
            images = normalise(self.device.upload(batch.images), self.config.scaling)
            with torch.no_grad(), self.device.autocast(self.config.autocast):
                shares = self.model(images).float().softmax(dim=-1)
            best = shares.topk(min(TOP, shares.shape[-1]), dim=-1)
            for place, ((_, index), label) in enumerate(zip(keys, batch.labels.tolist(), strict=True)):
                if label >= 0:  # padding and damaged images have none
                    maps = self._maps(images[place : place + 1]) if with_maps else None
                    top = zip(best.indices[place].tolist(), best.values[place].tolist(), strict=True)
                    yield self._prediction(index, label, top, maps)

    def _prediction(self, index: int, label: int, top: Iterator[tuple[int, float]], maps: Array | None) -> Prediction:
        names = self.data.class_names
        return Prediction(
            index=index,
            image=self.data.val.source.where(index),
            truth=names[label] if self.labelled else None,
            top=tuple((names[number], share) for number, share in top),
            maps=maps,
        )

    def _maps(self, image: Tensor) -> Array:
        """One image (1, 3, S, S) -> rollout (L, rows, columns), in float32."""
        with torch.no_grad():
            maps: Array = rollout(self.model.layer_maps(image), self.model.grid)[:, 0].cpu().numpy()
        return maps

    def shown(self, prediction: Prediction, side: int) -> tuple[Image.Image, Image.Image | None, list[Image.Image]]:
        """Return the image within side x side, and masks of the same size for the model and for each layer.

        The whole image, or the centre where that is all that the model sees.
        """
        config = self.config
        picture = seen(self.data.val, prediction.index, crop=config.eval_resize == "crop")
        size = fitted(picture.size, side)
        maps = () if prediction.maps is None else prediction.maps
        layers = [spread(one, config.variant.patch, config.image_size, size) for one in maps]
        return picture.resize(size, Image.Resampling.BICUBIC), layers[-1] if layers else None, layers


def open_predictor(given: Config, files: Sequence[Path], ranks: Ranks) -> Predictor:
    """Open the weights, and the files or else the validation images of the data set. Raises TrainError."""
    from vit.training.evaluator import settle_weights

    device = open_device(given.device, ranks)
    config, own, _ = settle_weights(given)
    data = _data_of_files(config, own, files) if files else _data_set(config, own)
    model = build_model(config, device, data)
    fill_from_file(model, config, own, data.class_names, whole=True)
    model.to(device.torch_device).eval()
    return Predictor(config=config, device=device, model=model, data=data, labelled=not files)


def _data_set(config: Config, own: Own | None) -> Data:
    data = open_data(config, with_train=False)
    return data if own is None else with_classes_of(own, data, config.classes)[0]


def _data_of_files(config: Config, own: Own | None, files: Sequence[Path]) -> Data:
    if own is None:
        what = f"{config.pretrained_dir} does not name its classes, so its guesses have no names"
        raise ConfigError(
            "--pretrained_dir", what, "give a run or a checkpoint, or predict the images of a --data_path"
        )
    source = FileSource(files, own.class_names)
    return Data(train=None, val=open_eval(config, source), class_names=own.class_names)
