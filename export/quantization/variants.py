"""Make the graphs of a network in any precision for any target, each only once.

int8: which operators must stay in full precision is measured. First every operator that may is quantised. If
the error is beyond the bound, each operator is quantised alone, in onnxruntime, whose quantiser makes a graph
in tenths of a second: the sensitivity of an operator depends on its values, not on the engine. The worst
operators are then left in fp32 until the bound holds, measured again with the target's own quantiser and
engine, on feeds that were not used for ranges.
"""

from __future__ import annotations

import fnmatch
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from engines.errors import LvmError
from engines.manifest import GRAPHS, GraphName, GraphRecord, Target
from engines.spec import Engine
from export.networks.model import LvmNet, TorchEngine
from export.onnx_graphs.build import find_parameters, lower, serialise, trace
from export.onnx_graphs.external_weights import (
    WEIGHTS,
    read_byte_ranges,
    save_tensors,
    save_weights,
    select_tensors,
)
from export.onnx_graphs.fp16 import convert_to_fp16
from export.onnx_graphs.weight_only import round_weights
from export.parity.relative_error import Errors
from export.quantization.calibration_data import Calibration
from export.quantization.int8 import Feeds, QuantisedGraph, Quantiser
from export.quantization.plan import Choice
from export.support.errors import explain_disk_errors

Key = tuple[Target, GraphName]
Choices = Mapping[Key, Choice]
MAX_ERROR = 0.02
"""Largest error of an output, |got - expected| / |expected|, that a quantised graph starts with.

With 5 % the default bundle lost 4 of 100 answers about time (docs/lab/precision.md).
"""
_FOR_RANKING = 4
"""Number of feeds that each operator alone is measured on."""


@dataclass
class Variants:
    """`keep` are patterns of parameters whose operators stay fp32; int8 needs `calibration`."""

    network: LvmNet
    keep: tuple[str, ...] = ()
    calibration: Calibration | None = None
    report: Callable[[str], None] = lambda message: None
    _programs: dict[GraphName, ExportedProgram] = field(default_factory=dict)
    _int8: dict[Key, tuple[QuantisedGraph | None, Sensitivity]] = field(default_factory=dict)
    _bounds: dict[Key, float] = field(default_factory=dict)
    _rankings: dict[GraphName, dict[str, float]] = field(default_factory=dict)
    _measured: dict[GraphName, ErrorMeter] = field(default_factory=dict)

    def write(self, folder: Path, choices: Choices) -> dict[Target, dict[GraphName, GraphRecord]]:
        """Write graphs and `weights.safetensors` to `folder`.

        Raises LvmError for a pattern that fits no parameter or a parameter that a precision cannot hold.
        """
        choices = {key: self._resolve(key, choice) for key, choice in choices.items()}
        models = {key: self._lower(*key) for key, choice in choices.items() if choice.precision != "int8"}
        for key, model in models.items():
            if choices[key].precision == "fp16":
                convert_to_fp16(model, self.keep)
            if choices[key].precision == "w8":
                round_weights(model, self.keep)
        names = {name for model in models.values() for name in find_parameters(model)}
        save_tensors(select_tensors(self.network, names), folder / WEIGHTS)
        where = read_byte_ranges(folder / WEIGHTS)
        records: dict[Target, dict[GraphName, GraphRecord]] = {}
        for (target, name), choice in choices.items():
            self.report(f"writing {name} for {target}")
            place = folder / "graphs" / target
            place.mkdir(parents=True, exist_ok=True)
            data, fp32 = None, {}
            if choice.precision != "int8":
                path = f"graphs/{target}/{name}.onnx"
                (folder / path).write_bytes(serialise(models[target, name], where))
            else:
                quantised, sensitivity = self._quantise(target, name)
                assert quantised is not None
                path = f"graphs/{target}/{name}.{'onnx' if quantised.weights is None else 'xml'}"
                (folder / path).write_bytes(quantised.graph)
                fp32 = dict(sensitivity.fp32)
                if quantised.weights is not None:
                    data = f"graphs/{target}/{name}.bin"
                    (folder / data).write_bytes(quantised.weights)
            records.setdefault(target, {})[name] = GraphRecord(
                path=path, data=data, precision=choice.precision, why=choice.why, kept=fp32
            )
        return records

    def tighten(self, target: Target, name: GraphName) -> None:
        """Halve the error bound of an int8 graph whose answers differed too much.

        The half is taken of the error that it had, not of the bound, or the same graph would come again.
        """
        bound = self._bounds.get((target, name), MAX_ERROR)
        _, sensitivity = self._int8.pop((target, name), (None, None))
        self._bounds[target, name] = min(bound, bound if sensitivity is None else sensitivity.error) / 2

    def check_patterns(self) -> None:
        """Raise LvmError for a pattern of `keep` that matches no parameter."""
        names = [f"{name}.{key}" for name in GRAPHS for key, _ in self.network.part(name).named_parameters()]
        for pattern in self.keep:
            if not fnmatch.filter(names, pattern):
                raise LvmError(f"--keep-fp32 {pattern} fits no parameter; they are named like {names[0]}")

    def _lower(self, target: Target, name: GraphName) -> Any:
        if name not in self._programs:
            self.report(f"tracing {name}")
            self._programs[name] = trace(self.network, name)
        return lower(self._programs[name], self.network.config, name, target)

    def _resolve(self, key: Key, choice: Choice) -> Choice:
        """Return the choice after quantising: a graph of which nothing may be int8 stays fp32."""
        if choice.precision != "int8":
            return choice
        quantised, sensitivity = self._quantise(*key)
        if quantised is None:
            error = f"error {sensitivity.all:.1%} of {sensitivity.bound:.1%}"
            return Choice("fp32", f"no operator may be int8: {error}")
        return Choice("int8", "; ".join(reason for reason in (choice.why, sensitivity.words) if reason))

    def _quantise(self, target: Target, name: GraphName) -> tuple[QuantisedGraph | None, Sensitivity]:
        """Return the int8 graph, None where none of it meets the bound, and the sensitivity."""
        if (target, name) not in self._int8:
            self.report(f"quantising {name} for {target}")
            assert self.calibration is not None, "int8 without calibration"
            if name not in self._measured:
                reference = TorchEngine(self.network, name)
                self._measured[name] = ErrorMeter(reference, self.calibration.held_out(name))
            with self._open_quantiser(target, name) as quantiser:
                self._int8[target, name] = find_fp32_parameters(
                    quantiser,
                    self._measured[name],
                    lambda: self._rank(name),
                    self._bounds.get((target, name), MAX_ERROR),
                )
        return self._int8[target, name]

    def _rank(self, name: GraphName) -> dict[str, float]:
        """Rank how sensitive each operator of a graph is to eight bits, measured in onnxruntime for every
        target."""
        if name not in self._rankings:
            with self._open_quantiser("onnxruntime", name) as quantiser:
                self._rankings[name] = rank_parameters(quantiser, self._measured[name], self.report)
        return self._rankings[name]

    @contextmanager
    def _open_quantiser(self, target: Target, name: GraphName) -> Iterator[Quantiser]:
        """Yield a quantiser of the fp32 graph, which lies in a temporary folder until the end."""
        # Imported late: nncf and its friends take seconds.
        from export.quantization.onnxruntime_int8 import OnnxRuntimeQuantiser
        from export.quantization.openvino_int8 import OpenVinoQuantiser

        assert self.calibration is not None
        feeds = self.calibration.fitting(name)
        place = Path(tempfile.gettempdir())
        with (
            explain_disk_errors(place, place, "free some space or set TMPDIR to another folder"),
            tempfile.TemporaryDirectory(prefix="lvm-export-") as folder,
        ):
            save_weights(self.network, Path(folder) / WEIGHTS)
            graph = Path(folder) / "graph.onnx"
            graph.write_bytes(serialise(self._lower(target, name), read_byte_ranges(Path(folder) / WEIGHTS)))
            if target == "openvino":
                yield OpenVinoQuantiser(graph, name, feeds, self.keep)
            else:
                yield OnnxRuntimeQuantiser(graph, feeds, self.keep)


@dataclass(frozen=True)
class Sensitivity:
    """The result: `fp32` parameters, worst first, with the error of quantising their products alone.

    `error` is that with them in fp32, `all` that with every operator quantised; `operators` is their number.
    """

    fp32: Mapping[str, float]
    error: float
    all: float
    bound: float
    operators: int

    @property
    def words(self) -> str:
        """The reason for the manifest."""
        if not self.fp32:
            return (
                f"error {self.error:.1%} of at most {self.bound:.1%} with all {self.operators} operators int8"
            )
        return (
            f"{len(self.fp32)} of {self.operators} operators stay fp32, the worst by sensitivity: error "
            f"{self.error:.1%} instead of {self.all:.1%}, at most {self.bound:.1%}"
        )


class ErrorMeter:
    """Measures quantised forms against what the network answers to `feeds`; those answers are
    computed once."""

    def __init__(self, reference: Engine, feeds: Feeds) -> None:
        if not feeds:
            raise LvmError("no feed is left to measure errors on; calibrate on more pictures")
        self._feeds = list(feeds)
        self._wanted = [reference(feed) for feed in feeds]

    def subsample(self) -> ErrorMeter:
        """Return a meter on fewer feeds, evenly spread."""
        stride = -(-len(self._feeds) // _FOR_RANKING)
        out = ErrorMeter.__new__(ErrorMeter)
        out._feeds, out._wanted = self._feeds[::stride], self._wanted[::stride]
        return out

    def error(self, quantiser: Quantiser, quantised: QuantisedGraph) -> float:
        """Return the error of the worst output; infinite for NaN."""
        errors = Errors()
        with quantiser.load(quantised) as engine:
            for feeds, expected in zip(self._feeds, self._wanted, strict=True):
                errors.add(expected, engine(feeds), feeds)
        relative = errors.relative().values()
        return max(relative) if all(map(math.isfinite, relative)) else math.inf


def rank_parameters(
    quantiser: Quantiser, measured: ErrorMeter, report: Callable[[str], None]
) -> dict[str, float]:
    """Return the error of quantising each parameter's products alone, worst first."""
    names, few = list(quantiser.parameters), measured.subsample()
    alone = {}
    for number, name in enumerate(names, 1):
        report(f"sensitivity of operator {number} of {len(names)}")
        alone[name] = few.error(quantiser, quantiser.quantise([other for other in names if other != name]))
    return dict(sorted(alone.items(), key=lambda item: -item[1]))


def find_fp32_parameters(
    quantiser: Quantiser,
    measured: ErrorMeter,
    ranking: Callable[[], Mapping[str, float]],
    bound: float = MAX_ERROR,
) -> tuple[QuantisedGraph | None, Sensitivity]:
    """Return the quantised graph whose error is within `bound`, and what had to stay fp32; None if everything
    had to.

    `ranking` is called only if something has to stay.
    """
    names = quantiser.parameters
    quantised = quantiser.quantise()
    everything = error = measured.error(quantiser, quantised)
    fp32: list[str] = []
    alone: Mapping[str, float] = {}
    while not error <= bound and len(fp32) < len(names):
        if not alone:
            alone = {name: value for name, value in ranking().items() if name in set(names)}
            fp32 = list(alone)[: _guess_count(list(alone.values()), bound)]
        else:
            fp32 = list(alone)[: len(fp32) + max(1, len(fp32) // 4)]
        if len(fp32) < len(names):
            quantised = quantiser.quantise(fp32)
            error = measured.error(quantiser, quantised)
    sensitivity = Sensitivity({name: alone[name] for name in fp32}, error, everything, bound, len(names))
    return (quantised if len(fp32) < len(names) else None), sensitivity


def _guess_count(alone: Sequence[float], bound: float) -> int:
    """Guess how many of the worst to leave in fp32 at first: until the other errors, taken as independent,
    fit the bound.

    At most half of them, as the errors may be those of another engine.
    """
    half = max(1, len(alone) // 2)
    for count in range(1, half):
        if math.sqrt(sum(error * error for error in alone[count:])) <= bound:
            return count
    return half
