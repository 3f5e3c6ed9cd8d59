"""Define a bundle's manifest: shapes, classes, files, precisions, how it was trained and checked.

The manifest is the only thing that device and workbench share about a model: the networks in `export/` are
rebuilt from `NetworkConfig`, the memory in `edge_runtime/` is sized by it. Unknown keys are refused, so that
a manifest of a newer format is never half understood.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from engines.network_config import NetworkConfig, Printable, Strict

FORMAT_VERSION = 1
MAX_FILES = 256
MAX_BYTES = 1 << 32
"""Bytes of all files of a bundle together."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,7}")
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
GraphName = Literal["backbone", "sampler", "reader"]
GRAPHS: tuple[GraphName, ...] = get_args(GraphName)
"""The graphs of a bundle, in the order in which a frame and a question pass them."""
Target = Literal["onnxruntime", "openvino", "tensorrt"]
Precision = Literal["fp32", "fp16", "bf16", "w8", "int8"]
"""What a graph is computed in; w8: fp32, from weights that are stored as 8-bit integers."""
TimeHead = Literal["bins", "pointer"]
Logit = Annotated[float, Field(ge=-1e4, le=1e4)]


def _check_plain_path(path: str) -> str:
    """Allow paths that mean the same on every system, whatever its rules for case, dots and slashes."""
    if len(path) > 200 or _PLAIN_PATH.fullmatch(path) is None:
        raise ValueError(f"bundle paths must stay inside the bundle and be plain names, got {path[:80]!a}")
    return path


PlainPath = Annotated[str, AfterValidator(_check_plain_path)]


class ActivityClass(Strict):
    """`name` is what people type; `doing` completes "a person ..."."""

    name: Printable = Field(min_length=1, max_length=200)
    doing: Printable = Field(min_length=1, max_length=500)
    accuses: bool = Field(
        default=False,
        exclude_if=lambda accuses: not accuses,
        description="whether it accuses somebody: then it must be surer than others to be logged",
    )


class FileRecord(Strict):
    sha256: Sha256
    bytes: int = Field(ge=0, le=MAX_BYTES)


class GraphRecord(Strict):
    path: PlainPath
    data: PlainPath | None = Field(
        default=None, description="weights of this graph alone, where its format splits them"
    )
    precision: Precision
    why: str = Field(default="", description="why this precision")
    kept: dict[str, float] = Field(
        default_factory=dict,
        description="parameters whose operators stay fp32 in an int8 graph; error of each, quantised alone",
    )


class ParityRecord(Strict):
    """One comparison of an exported graph with its torch network."""

    target: Target
    graph: GraphName
    feeds: str = Field(description="the batch sizes or shapes that were compared")
    max_abs_error: float
    error: float | None = Field(
        default=None, description="relative, of the worst output, where `tolerance` is relative: w8, int8"
    )
    tolerance: float
    cosine: float | None = Field(default=None, description="lowest cosine of an output with torch's")
    ms: float | None = Field(default=None, description="median of one call on the exporting machine")
    compared_through: str | None = Field(
        default=None,
        description="what ran the graph where the target could not run: not the target's own engine",
    )


class AnswersRecord(Strict):
    """One run over `frames` sampled frames that export and network both watched, and answered after.

    Shares and means over `questions`; None where none was of the kind.
    """

    target: Target
    source: Printable
    frames: int = Field(ge=0)
    questions: int = Field(ge=0)
    answers: float = Field(description="share of equal answers")
    contents: float = Field(description="share of equal contents, whether or not either abstained")
    tokens: float = Field(description="share of remembered tokens that both hold")
    angle_deg: float | None = Field(default=None, description="between the SVD bases")
    box_iou: float | None = None
    span_iou: float | None = None


class TrainingRecord(Strict):
    """How the weights were trained. `trained: false` marks every answer."""

    trained: bool
    recipe: str
    seed: int | None = None
    data: str | None = None
    held_out: tuple[str, ...] = Field(
        default=(), description="products that were never trained on, kept for the catalogue test"
    )
    results: dict[str, float] = Field(default_factory=dict)


class Scaling(Strict):
    """Calibrates a probability, fitted on validation videos: sigmoid(a * logit + b) (Platt), or where there
    are `points` the sigmoid of the line through them, logit to calibrated logit, with slope `a` beyond."""

    a: float = Field(default=1.0, ge=0, le=1e4, description="0 or more: scaling must not reverse an order")
    b: float = Field(default=0.0, ge=-1e4, le=1e4)
    points: tuple[tuple[Logit, Logit], ...] = Field(default=(), max_length=64)

    @model_validator(mode="after")
    def _check_rising(self) -> Scaling:
        for (x1, y1), (x2, y2) in zip(self.points, self.points[1:], strict=False):
            if not (x1 < x2 and y1 < y2):
                raise ValueError("points must rise in both: scaling must not reverse an order")
        return self


class Thresholds(Strict):
    """How raw outputs become an answer. Below `presence` the answer is "not seen"."""

    presence: float = Field(default=0.0, ge=0, le=1)
    evidence: float = Field(
        default=0.02, ge=0, le=1, description="share of attention that counts as evidence"
    )
    interpolate_s: float = Field(
        default=8.0, ge=0, le=1e6, description="boxes are bridged over at most this gap, s"
    )
    time_head: TimeHead = "pointer"
    presence_scaling: Scaling = Scaling()
    activity_scaling: Scaling = Scaling()
    span_scaling: Scaling = Scaling()


class Manifest(Strict):
    """Contents of `manifest.json`."""

    format_version: Literal[1]
    name: Printable = Field(min_length=1, max_length=200)
    network: NetworkConfig
    classes: tuple[ActivityClass, ...]
    graphs: dict[Target, dict[GraphName, GraphRecord]]
    weights: PlainPath | None = "weights.safetensors"
    files: dict[PlainPath, FileRecord] = Field(max_length=MAX_FILES)
    training: TrainingRecord
    thresholds: Thresholds = Thresholds()
    calibration_digest: Sha256 | None = None
    parity: tuple[ParityRecord, ...] = ()
    answers: tuple[AnswersRecord, ...] = Field(default=(), description="empty where they were not compared")
    licence: str = "Apache-2.0"
    attributions: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check_complete(self) -> Manifest:
        if len(self.classes) != self.network.activities:
            raise ValueError(f"classes must be {self.network.activities}, got {len(self.classes)}")
        if len({activity.name for activity in self.classes}) != len(self.classes):
            raise ValueError("class names must differ from one another")
        if self.weights is not None and "/" in self.weights:
            raise ValueError(f"weights must lie beside the manifest, got {self.weights}")
        if len({name.casefold() for name in self.files} | {"manifest.json"}) != len(self.files) + 1:
            raise ValueError("files must differ in more than the case of letters, and none is manifest.json")
        if (total := sum(record.bytes for record in self.files.values())) > MAX_BYTES:
            raise ValueError(f"files must have at most {MAX_BYTES} bytes together, got {total}")
        for target, graphs in self.graphs.items():
            if set(graphs) != set(GRAPHS):
                raise ValueError(
                    f"graphs.{target} must be backbone, sampler and reader, got {sorted(graphs)}"
                )
        records = [record for graphs in self.graphs.values() for record in graphs.values()]
        named = {record.path for record in records} | {record.data for record in records if record.data}
        if self.weights is not None:
            named.add(self.weights)
        if named - set(self.files):
            raise ValueError(f"files lacks the hashes of {sorted(named - set(self.files))}")
        return self
