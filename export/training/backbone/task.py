"""First stage: a backbone whose tokens tell, cell by cell, what is done and with which product.

Letters: F frames, K crops, N real photos, S picture side, P = 49 cells, C activities, d_b token width.

Three losses on one pass: the activity of each cell (cells where nothing happens weigh as much as the others
together), InfoNCE between a cell and a photo of the product that it shows, and for real photos the product
(cosine margin) and contrast between photos. The tokens stay, and the head that tells products apart, which
becomes the reader's (`export/networks/product_similarity.py`); the others are thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from edge_runtime.query.photo_mosaic import mosaic
from engines.network_config import NetworkConfig
from export.networks.backbone import make_backbone
from export.networks.product_similarity import IDENTITY
from export.training.backbone.losses import cosine_margin_loss, photo_contrast_loss
from export.training.data.dataset import SceneSource
from export.training.data.product_photos import PhotoSet
from export.training.data.scenes import NOTHING, with_products
from export.training.loop.prefetch import Prefetch
from export.training.recipe import Recipe

_CONTRAST_SHARE = 0.5
_PRODUCT_SHARE = 0.3


class BackboneTrainer(nn.Module):
    """The backbone with the heads that teach it."""

    def __init__(self, network: NetworkConfig, products: int, temperature: float) -> None:
        super().__init__()
        self.backbone = make_backbone(network)
        self.activities = network.activities
        self.temperature = temperature
        self.activity = nn.Linear(network.d_backbone, network.activities + 1)
        self.identity = nn.Linear(network.d_backbone, IDENTITY)
        self.prototypes = nn.Parameter(torch.randn(max(products, 1), IDENTITY) * 0.1)

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """batch: frames (F, S, S, 3), crops (K, S, S, 3), photos (N, S, S, 3) uint8, activity and crop
        (F, 49), product (N,) -> loss, its parts, nothing else."""
        pictures = [batch["frames"], batch["crops"], batch["photos"]]
        tokens = self.backbone(torch.cat(pictures))  # (F + K + N, 49, d_b)
        cells, crops, photos = tokens.split([len(part) for part in pictures])
        # One photo of each pair asks for the product that was pasted into a scene.
        identity, known = self._identity(
            cells, torch.cat([crops, photos[::2]]), batch["crop"], batch["activity"]
        )
        parts = {"activity": self._activity(cells, batch["activity"]), "identity": identity}
        if len(photos):
            pooled = self.identity(photos.mean(1))  # (N, e)
            parts["product"] = _PRODUCT_SHARE * cosine_margin_loss(pooled, self.prototypes, batch["product"])
            parts["photos"] = _CONTRAST_SHARE * photo_contrast_loss(pooled, batch["product"])
        loss = torch.stack(list(parts.values())).sum()
        with torch.no_grad():
            shown = parts | self._right(cells, batch["activity"]) | {"known": known}
        return loss, shown, {}

    def _activity(self, cells: Tensor, target: Tensor) -> Tensor:
        logits = self.activity(cells)  # (F, 49, C + 1)
        each = functional.cross_entropy(
            logits.flatten(0, 1), target.flatten(), ignore_index=NOTHING, reduction="none"
        )
        busy = ((target != self.activities) & (target != NOTHING)).flatten()
        still = (target == self.activities).flatten()
        return (each * busy).sum() / busy.sum().clamp(min=1) + (each * still).sum() / still.sum().clamp(min=1)

    def _identity(
        self, cells: Tensor, crops: Tensor, target: Tensor, activity: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss of each cell against all photos of the batch, and the share of handled cells that are known.

        What is handled weighs as much as what lies on the shelves.
        """
        shows = target != NOTHING  # (F, 49)
        ours = functional.normalize(self.identity(cells[shows]), dim=-1)  # (n, e)
        asked = functional.normalize(self.identity(crops.mean(1)), dim=-1)  # (K, e)
        logits = ours @ asked.T / self.temperature  # (n, K)
        if not len(logits):
            return logits.sum(), logits.sum().detach()  # no product anywhere: a mean over none is no number
        each = functional.cross_entropy(logits, target[shows], reduction="none")
        lies = activity[shows] == self.activities
        known = (logits.argmax(1) == target[shows]).float()
        return (_mean_of(each, lies) + _mean_of(each, ~lies)) / 2, _mean_of(known, ~lies)

    def _right(self, cells: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Share of busy cells whose activity is told, of still cells that are told to be still."""
        told = self.activity(cells).argmax(-1)
        busy = (target != self.activities) & (target != NOTHING)
        still = target == self.activities
        right = (told == target).float()
        return {"right": right[busy].mean(), "still": right[still].mean()}


def _mean_of(each: Tensor, which: Tensor) -> Tensor:
    return (each * which).sum() / which.sum().clamp(min=1)


class SceneBatches(Dataset[dict[str, Tensor]]):
    """Batch number `step`, made anew from (seed, step) in whatever process asks for it."""

    def __init__(self, recipe: Recipe, source: SceneSource, photos: PhotoSet | None) -> None:
        self._recipe, self._source, self._photos = recipe, source, photos

    def __len__(self) -> int:
        return self._recipe.backbone.optimiser.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        stage, network = self._recipe.backbone, self._recipe.network
        rng = np.random.default_rng([self._recipe.seed, 1, step])
        scenes = self._source.draw(rng)
        images = np.zeros((0, network.image_size, network.image_size, 3), np.uint8)
        labels = np.zeros(0, np.int64)
        if self._photos is not None and stage.photos_a_batch:
            products = min(max(stage.photos_a_batch // 2, 1), len(self._photos.names))
            images, labels = self._photos.batch(rng, products, 2, size=network.image_size)
            scenes = with_products(scenes, self._photos, labels[::2], rng)
            # One photo of each pair as it is asked with, the other as it was taken.
            images[::2] = [mosaic(image, network.image_size) for image in images[::2]]
        arrays = {
            "frames": scenes.frames,
            "crops": scenes.crops,
            "activity": scenes.activity,
            "crop": scenes.crop,
            "photos": images,
            "product": labels,
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class BackboneTask:
    """The first stage as the loop wants it."""

    name = "backbone"

    def __init__(
        self, recipe: Recipe, source: SceneSource, photos: PhotoSet | None, device: torch.device
    ) -> None:
        products = len(photos.names) if photos is not None else 0
        torch.manual_seed(recipe.seed)
        trainer = BackboneTrainer(recipe.network, products, recipe.backbone.temperature)
        self.module: nn.Module = trainer.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._batches = Prefetch(SceneBatches(recipe, source, photos))
        self._device = device

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters())}]

    def batch(self, step: int) -> Mapping[str, Tensor]:
        return {name: tensor.to(self._device) for name, tensor in self._batches[step].items()}

    def after(self, step: int, output: Mapping[str, Tensor]) -> None:
        """Nothing is carried from step to step."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing to go on from."""
