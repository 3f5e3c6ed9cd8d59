"""Backbones: turn an RGB image into 49 tokens, one for each cell of a 7x7 grid.

B batch, S image side, d_b backbone width.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.errors import LvmError
from engines.network_config import GRID, NetworkConfig

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_WIDTHS = (48, 64, 128, 192)
_COLOURS = 32
_LEVELS = 3
"""Maps of a trunk that the learned part sees, the last ones."""
_LEVEL_WIDTH = 96
_NECK = 160
_POOLS = (functional.avg_pool2d, functional.max_pool2d)
_SCHEMAS = (
    ("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ("qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
)


class Backbone(nn.Module):
    """Base class: normalises pixels by the mean and deviation of 0..1 that a network was trained with
    (ImageNet's), so that a device cannot get it wrong."""

    scale: Tensor
    shift: Tensor

    def __init__(self, means: Sequence[float] = _MEAN, deviations: Sequence[float] = _STD) -> None:
        super().__init__()
        mean, std = torch.tensor(means, device="cpu"), torch.tensor(deviations, device="cpu")
        self.register_buffer("scale", (1 / (255 * std))[:, None, None], persistent=False)  # (3, 1, 1)
        self.register_buffer("shift", (-mean / std)[:, None, None], persistent=False)  # (3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Encode image (B, S, S, 3) uint8 RGB as tokens (B, 49, d_b), row by row."""
        return self.tokens(self.normalise(image))

    def normalise(self, image: Tensor) -> Tensor:
        """Convert image (B, S, S, 3) uint8 to normalised pixels (B, 3, S, S)."""
        return image.permute(0, 3, 1, 2).float() * self.scale + self.shift

    def tokens(self, pixels: Tensor) -> Tensor:
        """Encode normalised pixels (B, 3, S, S) as tokens (B, 49, d_b)."""
        raise NotImplementedError


class ConvBackbone(Backbone):
    """A small network of our own: five stages of convolutions, about 1.3 M parameters at width 128.

    At 224 pixels its first stage has stride 4 (7x7 kernel), so that it costs little more than at 112: there a
    product in a hand is 28 pixels wide instead of 14. Colours and the features of the first two stages also
    go into the tokens directly, pooled over each cell (BagNet: local features tell things apart).
    """

    def __init__(self, image_size: int, width: int, grid: int = GRID) -> None:
        super().__init__()
        self.grid, self.patch = grid, _find_patch(image_size, grid)
        halvings = {grid << power: power for power in range(1, 6)}.get(image_size)
        if halvings is None:
            sizes = [grid << power for power in range(1, 6) if grid << power >= 32]
            raise LvmError(f"image_size of the conv backbone must be one of {sizes}, got {image_size}")
        widths = (3, *_WIDTHS, width)
        steep = halvings == len(widths) - 1
        strides = [2] * (halvings - steep) + [1] * (len(widths) - 1 - halvings + steep)
        if steep:
            strides[0] = 4
        self.stages = nn.Sequential(
            *(
                # Many pixels and few features in the first stage: a block there would cost a quarter of all.
                _Stage(widths[i], widths[i + 1], stride, kernel=7 if stride == 4 else 3, block=i > 0)
                for i, stride in enumerate(strides)
            )
        )
        self.colours = nn.Sequential(
            nn.Conv2d(3, _COLOURS, 1), nn.ReLU(True), nn.Conv2d(_COLOURS, _COLOURS, 1), nn.ReLU(True)
        )
        self.mix = nn.Conv2d(width + 2 * (_COLOURS + sum(_WIDTHS[:2])), width, 1)
        self.norm = nn.LayerNorm(width)

    def tokens(self, pixels: Tensor) -> Tensor:
        seen = [self.colours(functional.avg_pool2d(pixels, self.patch))]  # (B, ., 56, 56)
        x = pixels
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number < 2:
                seen.append(x)
        # Maximum and mean over a cell: which product it shows, whatever the place in the cell.
        pooled = [
            _pool_cells(pool, features, self.grid) for features in seen for pool in _POOLS
        ]  # (B, ., 7, 7)
        grid = self.mix(torch.cat([x, *pooled], dim=1))  # (B, d_b, 7, 7)
        normed: Tensor = self.norm(grid.flatten(2).transpose(1, 2))  # (B, 49, d_b)
        return normed


class _Stage(nn.Module):
    """A convolution that widens (and may halve the size), then one residual convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, kernel: int, block: bool) -> None:
        super().__init__()
        self.widen = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.widen_norm = nn.BatchNorm2d(outputs)
        self.block = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False) if block else None
        self.block_norm = nn.BatchNorm2d(outputs) if block else None

    def forward(self, x: Tensor) -> Tensor:
        """x (B, inputs, h, w) -> (B, outputs, h / stride, w / stride)."""
        x = torch.relu_(self.widen_norm(self.widen(x)))
        if self.block is None or self.block_norm is None:
            return x
        return torch.relu_(x + self.block_norm(self.block(x)))


class TimmBackbone(Backbone):
    """Any timm model whose last feature map has the size of the grid, without its classifier."""

    def __init__(self, name: str, image_size: int, width: int, grid: int = GRID) -> None:
        super().__init__()
        self.name, self.width, self.grid = name, width, grid
        self.body = _make_timm_model(name, image_size)

    def tokens(self, pixels: Tensor) -> Tensor:
        features = self.body.forward_features(pixels)  # type: ignore[operator]
        return to_grid_tokens(features, self.width, self.name, self.grid)


class TrunkBackbone(Backbone):
    """A timm trunk whose public weights stay as they are, and what is learned on top of it.

    A token is [appearance | learned]. `appearance` is a fixed projection of the trunk's last map, so what it
    tells apart does not depend on what was trained: tokens of any camera can be compared by it. The learned
    part mixes three maps and the colours of each cell. The last of these maps is that of a copy of the
    trunk's last stages, which learns; the statistics of its norms stay.
    """

    centre: Tensor
    projection: Tensor

    def __init__(self, name: str, image_size: int, width: int, appearance: int, grid: int = GRID) -> None:
        body = _make_trunk(name)
        super().__init__(body.pretrained_cfg["mean"], body.pretrained_cfg["std"])
        stages, reduction = body.feature_info.module_name(), body.feature_info.reduction()[-1]
        stage, _, before = stages[-2].partition(".")
        if stage != "blocks" or image_size % (grid * reduction):
            raise LvmError(
                "with an appearance, a backbone must be of timm's models in blocks and image_size a multiple "
                f"of {grid * reduction}, got {name} and {image_size}"
            )
        self.name, self.grid, self.body = name, grid, body.requires_grad_(False)
        self.patch = _find_patch(image_size, grid)
        self.top = copy.deepcopy(body.blocks[int(before) + 1 :]).requires_grad_(True)
        channels = body.feature_info.channels()[-_LEVELS:]
        self.register_buffer("centre", torch.zeros(channels[-1]))
        self.register_buffer("projection", torch.eye(channels[-1])[:, :appearance].contiguous())
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(count, _LEVEL_WIDTH, 1, bias=False), nn.BatchNorm2d(_LEVEL_WIDTH), nn.ReLU(True)
            )
            for count in channels
        )
        self.colours = nn.Sequential(
            nn.Conv2d(3, _COLOURS, 1), nn.ReLU(True), nn.Conv2d(_COLOURS, _COLOURS, 1), nn.ReLU(True)
        )
        pooled = len(_POOLS) * (_LEVELS * _LEVEL_WIDTH + _COLOURS)
        self.neck = nn.Sequential(_Stage(pooled, _NECK, 1, 1, True), _Stage(_NECK, _NECK, 1, 3, True))
        self.mix = nn.Conv2d(pooled + _NECK, width - appearance, 1)
        self.norm = nn.LayerNorm(width - appearance)

    def copy_top(self) -> None:
        """Begin the learned stages with the trunk's weights."""
        self.top.load_state_dict(self.body.blocks[-len(self.top) :].state_dict())

    def train(self, mode: bool = True) -> TrunkBackbone:
        """Set the mode of what is learned; statistics that came with public weights stay as they are."""
        super().train(mode)
        self.body.eval()
        self.top.eval()
        return self

    def tokens(self, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            maps = self.trunk_maps(pixels)
        return self.mix_maps(pixels, maps)

    def trunk_maps(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the trunk's last three maps, (B, c, h, h) each, of normalised pixels (B, 3, S, S)."""
        return tuple(self.body(pixels)[-_LEVELS:])

    def mix_maps(self, pixels: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Return the tokens (B, 49, d_b) of normalised pixels (B, 3, S, S) and the trunk's maps of them."""
        last = (
            _pool_cells(functional.avg_pool2d, maps[-1], self.grid).flatten(2).transpose(1, 2)
        )  # (B, 49, c)
        appearance = (last - self.centre) @ self.projection  # (B, 49, a)
        seen = [
            level(features)
            for level, features in zip(self.levels, (*maps[:-1], self.top(maps[-2])), strict=True)
        ]
        seen.append(self.colours(functional.avg_pool2d(pixels, self.patch)))
        # Mean and maximum over a cell: which product it shows, whatever the place in the cell.
        pooled = torch.cat(
            [_pool_cells(pool, features, self.grid) for features in seen for pool in _POOLS], dim=1
        )
        grid = self.mix(torch.cat([pooled, self.neck(pooled)], dim=1))  # (B, d_b - a, 7, 7)
        learned: Tensor = self.norm(grid.flatten(2).transpose(1, 2))
        return torch.cat([appearance, learned], dim=2)

    @torch.no_grad()
    def fit_appearance(self, images: Iterable[Tensor]) -> None:
        """Fit the projection to images (B, S, S, 3) uint8: the directions in which cells differ most.

        Scaled so that a cell's appearance has the mean square of 1 a number, as the learned part has.
        """
        rows = []
        for image in images:
            pixels = image.permute(0, 3, 1, 2).float() * self.scale + self.shift
            rows.append(
                _pool_cells(functional.avg_pool2d, self.body(pixels)[-1], self.grid)
                .flatten(2)
                .transpose(1, 2)
                .flatten(0, 1)
            )
        cells = torch.cat(rows).double()  # (n, c)
        self.centre.copy_(cells.mean(0))
        variance, directions = torch.linalg.eigh(torch.cov((cells - cells.mean(0)).T))
        chosen = directions.flip(1)[:, : self.projection.shape[1]]  # (c, a)
        scale = variance.flip(0)[: chosen.shape[1]].mean().sqrt()
        self.projection.copy_(chosen / scale)


def _find_patch(image_size: int, grid: int) -> int:
    """Return the side of the squares over which colours are averaged: eight a cell, if pixels allow."""
    return max(image_size // (8 * grid), 1)


def _pool_cells(pool: Callable[..., Tensor], features: Tensor, grid: int) -> Tensor:
    """Pool features (B, c, h, h), h a multiple of the grid, over each cell: (B, c, 7, 7)."""
    return pool(features, features.shape[-1] // grid)


def to_grid_tokens(features: Tensor, width: int, name: str, grid: int = GRID) -> Tensor:
    """Flatten features (B, d_b, 7, 7) or (B, 7, 7, d_b) to (B, 49, d_b). Raises LvmError for any
    other shape."""
    shape = tuple(features.shape)[1:]
    if shape == (width, grid, grid):
        return features.flatten(2).transpose(1, 2)
    if shape == (grid, grid, width):
        return features.flatten(1, 2)
    raise LvmError(
        f"backbone {name} must give a {grid}x{grid} grid of width {width}, got a feature map of shape "
        f"{shape}: choose another image_size, d_backbone or model"
    )


def make_backbone(config: NetworkConfig) -> Backbone:
    """Make the untrained backbone that `config` names."""
    if config.backbone == "conv":
        return ConvBackbone(config.image_size, config.d_backbone, config.grid)
    if config.appearance:
        return TrunkBackbone(
            config.backbone, config.image_size, config.d_backbone, config.appearance, config.grid
        )
    return TimmBackbone(config.backbone, config.image_size, config.d_backbone, config.grid)


def _make_trunk(name: str) -> Any:
    """Make the part of a timm model that computes maps, one for each halving of the picture."""
    timm = import_timm()
    if not timm.is_model(name):
        raise LvmError(f"backbone must be 'conv' or the name of a timm model, got {name}")
    return timm.create_model(name, pretrained=False, features_only=True)


def _make_timm_model(name: str, image_size: int) -> nn.Module:
    timm = import_timm()
    if not timm.is_model(name):
        raise LvmError(f"backbone must be 'conv' or the name of a timm model, got {name}")
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    cfg = model.pretrained_cfg
    if cfg["fixed_input_size"] and cfg["input_size"][1] != image_size:  # type: ignore[index]
        model = timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size)
    return model


def import_timm() -> ModuleType:
    """Import timm, also where torchvision's compiled operators are missing and its import fails.

    torchvision registers shape rules for `torchvision::nms` while it is imported; where its compiled library
    does not load (the PyPI wheel beside a CPU torch), the operator does not exist and the import stops.
    Declaring the schemas first is enough: nothing in this project calls them.
    """
    import_torchvision()
    return importlib.import_module("timm")


def import_torchvision() -> ModuleType:
    """Import torchvision likewise: its networks in Python work, its own operators may not."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        # The library keeps the schemas registered for as long as it is referenced: the module holds it.
        library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name, schema in _SCHEMAS:
            if not hasattr(torch.ops.torchvision, name):
                library.define(name + schema)  # type: ignore[no-untyped-call]
        torchvision = importlib.import_module("torchvision")
        torchvision._lvm_edge_operators = library  # type: ignore[attr-defined]
        return torchvision
