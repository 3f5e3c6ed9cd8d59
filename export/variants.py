"""The graphs of a network in any precision for any target, each made once however often it is asked for."""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from engines.errors import LvmError
from engines.manifest import GraphName, GraphRecord, Target
from export.calibration import Calibration
from export.graphs import lower, parameters, serialised, trace
from export.half import halve
from export.int8 import quantised_for_onnxruntime, quantised_for_openvino
from export.networks.model import GRAPHS, LvmNet
from export.precision import Choice
from export.weights import WEIGHTS, places, save_tensors, save_weights, stored

Choices = Mapping[tuple[Target, GraphName], Choice]


@dataclass
class Variants:
    """`keep` are patterns of parameters whose operators stay fp32; int8 needs `calibration`."""

    network: LvmNet
    keep: tuple[str, ...] = ()
    calibration: Calibration | None = None
    report: Callable[[str], None] = lambda words: None
    _programs: dict[GraphName, ExportedProgram] = field(default_factory=dict)
    _int8: dict[tuple[Target, GraphName], tuple[bytes, bytes | None]] = field(default_factory=dict)

    def write(self, folder: Path, choices: Choices) -> dict[Target, dict[GraphName, GraphRecord]]:
        """Graphs and `weights.safetensors` in `folder`.

        Raises LvmError for a pattern that fits no parameter or a parameter that a precision cannot hold.
        """
        models = {key: self._model(*key) for key, choice in choices.items() if choice.precision != "int8"}
        for key, model in models.items():
            if choices[key].precision == "fp16":
                halve(model, self.keep)
        wanted = {name for model in models.values() for name in parameters(model)}
        save_tensors(stored(self.network, wanted), folder / WEIGHTS)
        where = places(folder / WEIGHTS)
        records: dict[Target, dict[GraphName, GraphRecord]] = {}
        for (target, name), choice in choices.items():
            self.report(f"writing {name} for {target}")
            place = folder / "graphs" / target
            place.mkdir(parents=True, exist_ok=True)
            data = None
            if choice.precision != "int8":
                (place / f"{name}.onnx").write_bytes(serialised(models[target, name], where))
                path = f"graphs/{target}/{name}.onnx"
            else:
                graph, own = self._quantised(target, name)
                path = f"graphs/{target}/{name}.{'onnx' if own is None else 'xml'}"
                (folder / path).write_bytes(graph)
                if own is not None:
                    data = f"graphs/{target}/{name}.bin"
                    (folder / data).write_bytes(own)
            records.setdefault(target, {})[name] = GraphRecord(
                path=path, data=data, precision=choice.precision, why=choice.why
            )
        return records

    def check_patterns(self) -> None:
        """Raises LvmError for a pattern of `keep` that fits no parameter."""
        names = [f"{name}.{one}" for name in GRAPHS for one, _ in self.network.part(name).named_parameters()]
        for pattern in self.keep:
            if not fnmatch.filter(names, pattern):
                raise LvmError(f"--keep-fp32 {pattern} fits no parameter; they are named like {names[0]}")

    def _model(self, target: Target, name: GraphName) -> Any:
        if name not in self._programs:
            self.report(f"tracing {name}")
            self._programs[name] = trace(self.network, name)
        return lower(self._programs[name], self.network.config, name, target)

    def _quantised(self, target: Target, name: GraphName) -> tuple[bytes, bytes | None]:
        """The int8 graph and, where they are a file of their own, its weights."""
        if (target, name) not in self._int8:
            self.report(f"quantising {name} for {target}")
            assert self.calibration is not None, "int8 without calibration"
            feeds = self.calibration.feeds[name]
            with tempfile.TemporaryDirectory(prefix="lvm-export-") as folder:
                save_weights(self.network, Path(folder) / WEIGHTS)
                graph = Path(folder) / "graph.onnx"
                graph.write_bytes(serialised(self._model(target, name), places(Path(folder) / WEIGHTS)))
                if target == "openvino":
                    self._int8[target, name] = quantised_for_openvino(graph, name, feeds, self.keep)
                else:
                    self._int8[target, name] = quantised_for_onnxruntime(graph, feeds, self.keep), None
        return self._int8[target, name]
