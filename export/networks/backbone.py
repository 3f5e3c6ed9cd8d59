"""Backbones: turn an RGB image into 49 tokens, one for each cell of a 7x7 grid; load published weights.

B batch, S image side, d_b backbone width.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.errors import LvmError, Unavailable
from engines.network_config import NetworkConfig
from export.networks.positions import GRID

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_WIDTHS = (48, 64, 128, 192)
_COLOURS = 32
_POOLS = (functional.avg_pool2d, functional.max_pool2d)


class Backbone(nn.Module):
    """Base class: normalises by ImageNet's mean and deviation, so that a device cannot get it wrong."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor(_MEAN, device="cpu"), torch.tensor(_STD, device="cpu")
        self.register_buffer("scale", (1 / (255 * std))[:, None, None], persistent=False)  # (3, 1, 1)
        self.register_buffer("shift", (-mean / std)[:, None, None], persistent=False)  # (3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Encode image (B, S, S, 3) uint8 RGB as tokens (B, 49, d_b), row by row."""
        pixels = image.permute(0, 3, 1, 2).float() * self.scale + self.shift  # (B, 3, S, S)
        return self.tokens(pixels)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Encode normalised pixels (B, 3, S, S) as tokens (B, 49, d_b)."""
        raise NotImplementedError


class ConvBackbone(Backbone):
    """A small network of our own: five stages of convolutions, about 1.3 M parameters at width 128.

    At 224 pixels its first stage has stride 4 (7x7 kernel), so that it costs little more than at 112: there a
    product in a hand is 28 pixels wide instead of 14. Colours and the features of the first two stages also
    go into the tokens directly, pooled over each cell (BagNet: local features tell things apart).
    """

    def __init__(self, image_size: int, width: int) -> None:
        super().__init__()
        halvings = {GRID << power: power for power in range(1, 6)}.get(image_size)
        if halvings is None:
            sizes = [GRID << power for power in range(1, 6) if GRID << power >= 32]
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
        seen = [self.colours(functional.avg_pool2d(pixels, pixels.shape[-1] // (8 * GRID)))]  # (B, ., 56, 56)
        x = pixels
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number < 2:
                seen.append(x)
        # Maximum and mean over a cell: which product it shows, whatever the place in the cell.
        pooled = [
            pool(features, features.shape[-1] // GRID) for features in seen for pool in _POOLS
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
    """Any timm model whose last feature map is 7x7, without its classifier."""

    def __init__(self, name: str, image_size: int, width: int) -> None:
        super().__init__()
        self.name = name
        self.width = width
        self.body = _make_timm_model(name, image_size)

    def tokens(self, pixels: Tensor) -> Tensor:
        features = self.body.forward_features(pixels)  # type: ignore[operator]
        return to_grid_tokens(features, self.width, self.name)


def to_grid_tokens(features: Tensor, width: int, name: str) -> Tensor:
    """Flatten features (B, d_b, 7, 7) or (B, 7, 7, d_b) to (B, 49, d_b). Raises LvmError for any
    other shape."""
    shape = tuple(features.shape)[1:]
    if shape == (width, GRID, GRID):
        return features.flatten(2).transpose(1, 2)
    if shape == (GRID, GRID, width):
        return features.flatten(1, 2)
    raise LvmError(
        f"backbone {name} must give a {GRID}x{GRID} grid of width {width}, got a feature map of shape "
        f"{shape}: choose another image_size, d_backbone or model"
    )


def make_backbone(config: NetworkConfig) -> Backbone:
    """Make the untrained backbone that `config` names."""
    if config.backbone == "conv":
        return ConvBackbone(config.image_size, config.d_backbone)
    return TimmBackbone(config.backbone, config.image_size, config.d_backbone)


def _make_timm_model(name: str, image_size: int) -> nn.Module:
    from export.networks.backbone import (
        import_timm,  # a second of import that our own backbone does not need
    )

    timm = import_timm()
    if not timm.is_model(name):
        raise LvmError(f"backbone must be 'conv' or the name of a timm model, got {name}")
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    cfg = model.pretrained_cfg
    if cfg["fixed_input_size"] and cfg["input_size"][1] != image_size:  # type: ignore[index]
        model = timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size)
    return model


_SCHEMAS = (
    ("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ("qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
)


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


State = dict[str, Tensor]
_WRAPPERS = ("state_dict", "model", "model_state", "state_dict_ema")


def load_backbone_weights(backbone: Backbone, path: Path | None) -> None:
    """Load weights into `backbone` from `path` (.safetensors or .pth); None loads the model's own from the
    hub.

    The classifier is dropped. Raises LvmError, naming the keys, if anything else is missing, unknown or of
    another shape; Unavailable if the hub cannot be reached.
    """
    state = _fetch_from_hub(backbone) if path is None else _read_file(path)
    if isinstance(backbone, TimmBackbone):
        state = _drop_classifier(_convert_layout(state, backbone), backbone)
        target: torch.nn.Module = backbone.body
    else:
        target = backbone
        state = {key.removeprefix("backbone."): tensor for key, tensor in state.items()}
    _check_fit(target.state_dict(), state, "the hub" if path is None else str(path))
    target.load_state_dict(state)


def _read_file(path: Path) -> State:
    if not path.is_file():
        raise LvmError(f"backbone weights {path} do not exist")
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, safetensors.SafetensorError) as error:
        raise LvmError(
            f"backbone weights {path} must be a .safetensors file or a .pth of tensors only"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise LvmError(f"backbone weights {path} must hold named tensors, got {type(loaded).__name__}")
    return loaded


def _fetch_from_hub(backbone: Backbone) -> State:
    if not isinstance(backbone, TimmBackbone):
        raise LvmError("the conv backbone has no published weights; name a file")
    try:
        model = import_timm().create_model(backbone.name, pretrained=True)
    except Exception as error:  # a dozen unrelated types, all for "no network" or "no such weights"
        raise Unavailable(
            f"weights of {backbone.name} cannot be fetched from the hub ({type(error).__name__}); "
            "name a local file"
        ) from error
    state: State = model.state_dict()
    return state


def _convert_layout(state: State, backbone: TimmBackbone) -> State:
    """Convert published files of older layouts by the function of the module that defines the model."""
    module = sys.modules[type(backbone.body).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    return state if convert is None else dict(convert(state, backbone.body))


def _drop_classifier(state: State, backbone: TimmBackbone) -> State:
    named: Any = backbone.body.pretrained_cfg["classifier"]  # type: ignore[index]
    heads = (named,) if isinstance(named, str) else tuple(named or ())
    return {key: tensor for key, tensor in state.items() if key.rpartition(".")[0] not in heads}


def _check_fit(expected: State, got: State, origin: str) -> None:
    wrong = {
        "missing": sorted(expected.keys() - got.keys()),
        "unknown": sorted(got.keys() - expected.keys()),
        "of another shape": sorted(
            key for key in expected.keys() & got.keys() if expected[key].shape != got[key].shape
        ),
    }
    problems = [f"{kind}: {', '.join(keys[:5])} ({len(keys)})" for kind, keys in wrong.items() if keys]
    if problems:
        raise LvmError(f"weights from {origin} do not fit the backbone; {'; '.join(problems)}")
