"""The torch network behind the contract of every backend: the reference for exported graphs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engines.manifest import GraphName
from engines.spec import Array, Engine, Feeds
from export.networks.model import LvmNet
from export.networks.signatures import graph_inputs, graph_outputs


class TorchEngine(Engine):
    """One part of an LvmNet, run by torch on the device where its parameters are."""

    def __init__(self, network: LvmNet, name: GraphName) -> None:
        self.inputs = graph_inputs(network.config, name)
        self.outputs = graph_outputs(network.config, name)
        self.device = next(network.parameters()).device
        self.backend = f"torch {self.device.type.upper()}"
        self._part = network.part(name).eval()

    def _run(self, feeds: Feeds) -> dict[str, Array]:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
        with torch.inference_mode():
            result = self._part(**{name: tensor.to(self.device) for name, tensor in tensors.items()})
        outputs = (
            [result] if isinstance(result, Tensor) else [output for output in result if output is not None]
        )
        return {
            spec.name: output.float().cpu().numpy().copy()
            for spec, output in zip(self.outputs, outputs, strict=True)
        }
