"""First stage: train a backbone whose tokens tell, cell by cell, the activity and the product.

Letters: F frames, K crops, N real photos, S picture side, P = 49 cells, C activities (in a
loss: products), d_b token width. In the losses N images of width d.

Losses: the activity of each cell (cells without activity together weigh as much as the others), InfoNCE
between a cell and a photo of its product, and for real photos the product (cosine margin) and contrast
between photos. The backbone is kept, and the head that tells products apart, which becomes the reader's
(`export/networks/heads.py`); the other heads are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn import functional as F
from torch.utils.data import Dataset

from edge_runtime.query.photo_mosaic import make_mosaic
from engines.network_config import NetworkConfig
from export.networks.backbone import TrunkBackbone, make_backbone
from export.networks.heads import IDENTITY
from export.networks.pretrained import find_public_weights, load_backbone_weights
from export.training.backbone.trunk_engine import TrunkEngine
from export.training.data.dataset import SceneSource
from export.training.data.product_photos import PhotoSet
from export.training.data.scenes import IGNORE_INDEX, add_pasted_products
from export.training.loop.distributed import Prefetch
from export.training.recipe import Recipe

_CONTRAST_SHARE = 0.5
_PRODUCT_SHARE = 0.3
_PICTURES = ("frames", "crops", "photos")
_TOP_RATE = 0.1
"""Learning rate of stages that begin with public weights, in that of the others."""
_APPEARANCE_BATCHES = 16
"""Of scenes, and of real photos: 400 pictures of 49 cells each."""
_NEVER = -1e4
"""Instead of -inf, whose gradient is NaN in a row of nothing else."""


class BackboneTrainer(nn.Module):
    """The backbone with its training heads."""

    def __init__(self, network: NetworkConfig, products: int, temperature: float) -> None:
        super().__init__()
        self.backbone = make_backbone(network)
        self.activities = network.activities
        self.temperature = temperature
        self.activity = nn.Linear(network.d_backbone, network.activities + 1)
        self.identity = nn.Linear(network.d_backbone, IDENTITY)
        self.prototypes = nn.Parameter(torch.randn(max(products, 1), IDENTITY) * 0.1)

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Take frames (F, S, S, 3), crops (K, S, S, 3), photos (N, S, S, 3) uint8, activity and crop (F, 49),
        product (N,), and `maps` where a trunk was run before -> loss, its parts, no output."""
        pictures = [batch[name] for name in _PICTURES]
        images = torch.cat(pictures)
        tokens: Tensor  # (F + K + N, 49, d_b)
        if "maps" in batch and isinstance(self.backbone, TrunkBackbone):
            tokens = self.backbone.mix_maps(self.backbone.normalise(images), batch["maps"])
        else:
            tokens = self.backbone(images)
        cells, crops, photos = torch.split(tokens, [len(part) for part in pictures])
        # One photo of each pair is the query for the product that was pasted into a scene.
        identity, accuracy = self._identity(
            cells, torch.cat([crops, photos[::2]]), batch["crop"], batch["activity"]
        )
        parts = {"activity": self._activity(cells, batch["activity"]), "identity": identity}
        if len(photos):
            pooled = self.identity(photos.mean(1))  # (N, e)
            parts["product"] = _PRODUCT_SHARE * cosine_margin_loss(pooled, self.prototypes, batch["product"])
            parts["photos"] = _CONTRAST_SHARE * photo_contrast_loss(pooled, batch["product"])
        loss = torch.stack(list(parts.values())).sum()
        with torch.no_grad():
            parts |= self._accuracy(cells, batch["activity"]) | {"known": accuracy}
        return loss, parts, {}

    def _activity(self, cells: Tensor, target: Tensor) -> Tensor:
        logits = self.activity(cells)  # (F, 49, C + 1)
        each = functional.cross_entropy(
            logits.flatten(0, 1), target.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
        )
        busy = ((target != self.activities) & (target != IGNORE_INDEX)).flatten()
        still = (target == self.activities).flatten()
        return _masked_mean(each, busy) + _masked_mean(each, still)

    def _identity(
        self, cells: Tensor, crops: Tensor, target: Tensor, activity: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of cells against all photos of the batch, and the accuracy of cells with an
        activity.

        Products in use together weigh as much as those on the shelves.
        """
        has_product = target != IGNORE_INDEX  # (F, 49)
        keys = functional.normalize(self.identity(cells[has_product]), dim=-1)  # (n, e)
        queries = functional.normalize(self.identity(crops.mean(1)), dim=-1)  # (K, e)
        logits = keys @ queries.T / self.temperature  # (n, K)
        if not len(logits):
            return logits.sum(), logits.sum().detach()  # no product anywhere: a mean over none is NaN
        each = functional.cross_entropy(logits, target[has_product], reduction="none")
        idle = activity[has_product] == self.activities
        correct = (logits.argmax(1) == target[has_product]).float()
        return (_masked_mean(each, idle) + _masked_mean(each, ~idle)) / 2, _masked_mean(correct, ~idle)

    def _accuracy(self, cells: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the accuracy of cells with an activity (`right`) and of cells without (`still`)."""
        predicted = self.activity(cells).argmax(-1)
        busy = (target != self.activities) & (target != IGNORE_INDEX)
        still = target == self.activities
        correct = (predicted == target).float()
        return {"right": correct[busy].mean(), "still": correct[still].mean()}


def _masked_mean(each: Tensor, mask: Tensor) -> Tensor:
    return (each * mask).sum() / mask.sum().clamp(min=1)


class SceneBatches(Dataset[dict[str, Tensor]]):
    """Batches by step, each made from (seed, step) in whichever process requests it."""

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
            scenes = add_pasted_products(scenes, self._photos, labels[::2], rng)
            # One photo of each pair as in a query, the other as it was taken.
            images[::2] = [make_mosaic(image, network) for image in images[::2]]
        arrays = {
            "frames": scenes.frames,
            "crops": scenes.crops,
            "activity": scenes.activity,
            "crop": scenes.crop,
            "photos": images,
            "product": labels,
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _draw_pictures(source: SceneSource, photos: PhotoSet | None, recipe: Recipe) -> Iterator[Tensor]:
    """Yield pictures (B, S, S, 3) for the appearance: scenes, and as many real photos where there are any."""
    for step in range(_APPEARANCE_BATCHES):
        rng = np.random.default_rng([recipe.seed, 3, step])
        frames = source.draw(rng).frames
        yield torch.from_numpy(frames)
        if photos is not None:
            products = min(len(frames) // 2, len(photos.names))
            yield torch.from_numpy(photos.batch(rng, products, 2, size=recipe.network.image_size)[0])


class BackboneTask:
    """The task of the first stage."""

    name = "backbone"

    def __init__(
        self, recipe: Recipe, source: SceneSource, photos: PhotoSet | None, device: torch.device
    ) -> None:
        products = len(photos.names) if photos is not None else 0
        torch.manual_seed(recipe.seed)
        trainer = BackboneTrainer(recipe.network, products, recipe.backbone.temperature)
        if recipe.backbone.pretrained is not None:
            load_backbone_weights(trainer.backbone, find_public_weights(recipe.backbone.pretrained)[0])
        if isinstance(trainer.backbone, TrunkBackbone):
            trainer.backbone.fit_appearance(_draw_pictures(source, photos, recipe))
        self.module: nn.Module = trainer.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._trunk: TrunkEngine | None = None
        if isinstance(trainer.backbone, TrunkBackbone) and device.type == "cpu":
            self._trunk = TrunkEngine(trainer.backbone, recipe.network.image_size)
        self._batches = Prefetch(SceneBatches(recipe, source, photos))
        self._device = device

    def param_groups(self) -> list[dict[str, Any]]:
        backbone = self.module.backbone
        top = list(backbone.top.parameters()) if isinstance(backbone, TrunkBackbone) else []
        slow = {id(parameter) for parameter in top}
        rest = [parameter for parameter in self.module.parameters() if id(parameter) not in slow]
        return [{"params": rest}, *([{"params": top, "scale": _TOP_RATE}] if top else [])]

    def batch(self, step: int) -> Mapping[str, Any]:
        tensors = self._batches[step]
        batch: dict[str, Any] = {name: tensor.to(self._device) for name, tensor in tensors.items()}
        if self._trunk is not None:
            batch["maps"] = self._trunk(torch.cat([tensors[name] for name in _PICTURES]))
        return batch

    def update(self, step: int, output: Mapping[str, Tensor]) -> None:
        """Steps have no state."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Steps have no state."""


def cosine_margin_loss(
    embeddings: Tensor, prototypes: Tensor, labels: Tensor, *, scale: float = 16.0, margin: float = 0.2
) -> Tensor:
    """Return the classification loss by cosine with an additive margin (CosFace). Scalar.

    embeddings (N, d), prototypes (C, d): neither need be normalised; labels (N,) int64.
    """
    cosine = F.normalize(embeddings, dim=-1) @ F.normalize(prototypes, dim=-1).T  # (N, C)
    logits = scale * (cosine - margin * F.one_hot(labels, len(prototypes)))
    return F.cross_entropy(logits, labels)


def photo_contrast_loss(embeddings: Tensor, labels: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Return InfoNCE between photos of the same product; negatives are the batch's other products. Scalar.

    embeddings (N, d) need not be normalised; labels (N,). The product's other photos are neither
    positive nor negative for a pair. 0 if no product has two photos.
    """
    z = F.normalize(embeddings, dim=-1)
    logits = z @ z.T / temperature  # (N, N)
    positive = labels[:, None] == labels[None]  # (N, N)
    negatives = logits.masked_fill(positive, _NEVER).logsumexp(dim=1, keepdim=True)  # (N, 1)
    # No photo is positive to itself.
    positive = positive & ~torch.eye(len(labels), dtype=torch.bool, device=logits.device)
    each = F.softplus(negatives - logits)  # -log(e^l / (e^l + sum of negatives))
    return (each * positive).sum() / positive.sum().clamp(min=1)
