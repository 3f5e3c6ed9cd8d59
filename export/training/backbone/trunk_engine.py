"""Run a frozen trunk by OpenVINO while what is on top of it learns: on a CPU it is faster than torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from export.networks.backbone import TrunkBackbone


class _Maps(nn.Module):
    def __init__(self, backbone: TrunkBackbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.backbone.trunk_maps(self.backbone.normalise(image))


class TrunkEngine:
    """The maps of a trunk, computed in float32. Raises ImportError where OpenVINO is not installed."""

    def __init__(self, backbone: TrunkBackbone, image_size: int) -> None:
        import openvino

        shape = (1, image_size, image_size, 3)
        model = openvino.convert_model(
            _Maps(backbone).eval(),
            example_input=torch.zeros(shape, dtype=torch.uint8),
            input=[openvino.PartialShape([-1, *shape[1:]])],
        )
        threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
        self._compiled: Any = openvino.Core().compile_model(model, "CPU", threads)

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of images (B, S, S, 3) uint8."""
        outputs = self._compiled(images.numpy())
        maps = (torch.from_numpy(outputs[i].copy()) for i in range(len(outputs)))
        return tuple(features.contiguous(memory_format=torch.channels_last) for features in maps)
