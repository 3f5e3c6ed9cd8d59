"""Run a frozen trunk, or a whole backbone with one, by OpenVINO: on a CPU it is faster than torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engines.spec import Array, Engine, Feeds
from export.networks.backbone import TrunkBackbone
from export.networks.model import LvmNet, TorchEngine
from export.networks.signatures import graph_inputs, graph_outputs


class _Maps(nn.Module):
    def __init__(self, backbone: TrunkBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.backbone.trunk_maps(self.backbone.normalise(image))


class TrunkEngine:
    """The maps of a trunk, computed in float32."""

    def __init__(self, backbone: TrunkBackbone, image_size: int) -> None:
        self._compiled = _compile(_Maps(backbone), image_size)

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of images (B, S, S, 3) uint8."""
        outputs = self._compiled(images.numpy())
        maps = (torch.from_numpy(outputs[i].copy()) for i in range(len(outputs)))
        return tuple(features.contiguous(memory_format=torch.channels_last) for features in maps)


class _BackboneEngine(Engine):
    def __init__(self, network: LvmNet) -> None:
        self.backend = "OpenVINO CPU f32"
        self.inputs = graph_inputs(network.config, "backbone")
        self.outputs = graph_outputs(network.config, "backbone")
        self._compiled = _compile(network.backbone, network.config.image_size)

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        return {"tokens": self._compiled(np.ascontiguousarray(feeds["image"]))[0].copy()}


def make_backbone_engine(network: LvmNet, device: torch.device) -> Engine:
    """Return what encodes videos of a training: OpenVINO for a trunk on a CPU, else torch."""
    if isinstance(network.backbone, TrunkBackbone) and device.type == "cpu":
        return _BackboneEngine(network)
    return TorchEngine(network.to(device), "backbone")


def _compile(module: nn.Module, image_size: int) -> Any:
    """Compile a module of images (B, S, S, 3) uint8 in float32."""
    import openvino

    shape = (1, image_size, image_size, 3)
    model = openvino.convert_model(
        module.eval(),
        example_input=torch.zeros(shape, dtype=torch.uint8),
        input=[openvino.PartialShape([-1, *shape[1:]])],
    )
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(model, "CPU", settings)
