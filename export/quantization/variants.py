"""The graphs of a network in any precision for any target, each made once however often it is asked for."""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from engines.errors import LvmError
from engines.manifest import GRAPHS, GraphName, GraphRecord, Target
from export.networks.model import LvmNet
from export.networks.torch_engine import TorchEngine
from export.onnx_graphs.build import lower, parameters, serialised, trace
from export.onnx_graphs.external_weights import WEIGHTS, places, save_tensors, save_weights, stored
from export.onnx_graphs.fp16 import halve
from export.onnx_graphs.weight_only import round_weights
from export.quantization.calibration_data import Calibration
from export.quantization.int8 import Quantised, Quantiser
from export.quantization.plan import Choice
from export.quantization.sensitivity import BOUND, Measured, Sensitivity, ranked, search
from export.support.disk_errors import written

Choices = Mapping[tuple[Target, GraphName], Choice]


@dataclass
class Variants:
    """`keep` are patterns of parameters whose operators stay fp32; int8 needs `calibration`."""

    network: LvmNet
    keep: tuple[str, ...] = ()
    calibration: Calibration | None = None
    report: Callable[[str], None] = lambda words: None
    _programs: dict[GraphName, ExportedProgram] = field(default_factory=dict)
    _int8: dict[tuple[Target, GraphName], tuple[Quantised | None, Sensitivity]] = field(default_factory=dict)
    _bounds: dict[tuple[Target, GraphName], float] = field(default_factory=dict)
    _rankings: dict[GraphName, dict[str, float]] = field(default_factory=dict)
    _measured: dict[GraphName, Measured] = field(default_factory=dict)

    def write(self, folder: Path, choices: Choices) -> dict[Target, dict[GraphName, GraphRecord]]:
        """Graphs and `weights.safetensors` in `folder`.

        Raises LvmError for a pattern that fits no parameter or a parameter that a precision cannot hold.
        """
        choices = {key: self._settled(key, choice) for key, choice in choices.items()}
        models = {key: self._model(*key) for key, choice in choices.items() if choice.precision != "int8"}
        for key, model in models.items():
            if choices[key].precision == "fp16":
                halve(model, self.keep)
            if choices[key].precision == "w8":
                round_weights(model, self.keep)
        wanted = {name for model in models.values() for name in parameters(model)}
        save_tensors(stored(self.network, wanted), folder / WEIGHTS)
        where = places(folder / WEIGHTS)
        records: dict[Target, dict[GraphName, GraphRecord]] = {}
        for (target, name), choice in choices.items():
            self.report(f"writing {name} for {target}")
            place = folder / "graphs" / target
            place.mkdir(parents=True, exist_ok=True)
            data, kept = None, {}
            if choice.precision != "int8":
                path = f"graphs/{target}/{name}.onnx"
                (folder / path).write_bytes(serialised(models[target, name], where))
            else:
                quantised, found = self._quantised(target, name)
                assert quantised is not None
                path = f"graphs/{target}/{name}.{'onnx' if quantised.weights is None else 'xml'}"
                (folder / path).write_bytes(quantised.graph)
                kept = dict(found.kept)
                if quantised.weights is not None:
                    data = f"graphs/{target}/{name}.bin"
                    (folder / data).write_bytes(quantised.weights)
            records.setdefault(target, {})[name] = GraphRecord(
                path=path, data=data, precision=choice.precision, why=choice.why, kept=kept
            )
        return records

    def tighten(self, target: Target, name: GraphName) -> None:
        """What is int8 of this graph strayed too far: half the error next time, of what it had and not of
        what it might have had, or the same graph would come again."""
        bound = self._bounds.get((target, name), BOUND)
        _, found = self._int8.pop((target, name), (None, None))
        self._bounds[target, name] = min(bound, bound if found is None else found.error) / 2

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

    def _settled(self, key: tuple[Target, GraphName], choice: Choice) -> Choice:
        """The choice with what quantising found: where nothing of a graph may be int8, it stays fp32."""
        if choice.precision != "int8":
            return choice
        quantised, found = self._quantised(*key)
        if quantised is None:
            return Choice("fp32", f"no operator may be int8: error {found.all:.1%} of {found.bound:.1%}")
        return Choice("int8", "; ".join(one for one in (choice.why, found.words) if one))

    def _quantised(self, target: Target, name: GraphName) -> tuple[Quantised | None, Sensitivity]:
        """The int8 graph, None where none of it holds the bound, and what was found."""
        if (target, name) not in self._int8:
            self.report(f"quantising {name} for {target}")
            assert self.calibration is not None, "int8 without calibration"
            if name not in self._measured:
                reference = TorchEngine(self.network, name)
                self._measured[name] = Measured(reference, self.calibration.held_out(name))
            with self._quantiser(target, name) as quantiser:
                self._int8[target, name] = search(
                    quantiser,
                    self._measured[name],
                    lambda: self._ranking(name),
                    self._bounds.get((target, name), BOUND),
                )
        return self._int8[target, name]

    def _ranking(self, name: GraphName) -> dict[str, float]:
        """How much each operator of a graph minds eight bits, measured in onnxruntime for every target."""
        if name not in self._rankings:
            with self._quantiser("onnxruntime", name) as quantiser:
                self._rankings[name] = ranked(quantiser, self._measured[name], self.report)
        return self._rankings[name]

    @contextmanager
    def _quantiser(self, target: Target, name: GraphName) -> Iterator[Quantiser]:
        """Of the fp32 graph, which lies in a folder of its own as long as it is needed."""
        # Imported late: nncf and its friends take seconds.
        from export.quantization.onnxruntime_int8 import OnnxRuntimeQuantiser
        from export.quantization.openvino_int8 import OpenVinoQuantiser

        assert self.calibration is not None
        feeds = self.calibration.fitting(name)
        place = Path(tempfile.gettempdir())
        with (
            written(place, place, "free some space or set TMPDIR to another folder"),
            tempfile.TemporaryDirectory(prefix="lvm-export-") as folder,
        ):
            save_weights(self.network, Path(folder) / WEIGHTS)
            graph = Path(folder) / "graph.onnx"
            graph.write_bytes(serialised(self._model(target, name), places(Path(folder) / WEIGHTS)))
            if target == "openvino":
                yield OpenVinoQuantiser(graph, name, feeds, self.keep)
            else:
                yield OnnxRuntimeQuantiser(graph, feeds, self.keep)
