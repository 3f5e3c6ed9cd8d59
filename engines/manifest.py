"""What a bundle says of itself: shapes, classes, files, precisions, how it was trained and checked.

The manifest is the only thing that device and workbench share about a model: the networks in `export/` are
rebuilt from `NetworkConfig`, the memory in `edge_runtime/` is sized by it. Unknown keys are refused, so that
a manifest of a newer format is never half understood.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

FORMAT_VERSION = 1
CELLS = 49

MAX_FILES = 256
MAX_BYTES = 1 << 32
"""Of all files of a bundle together."""
MAX_STORED = 1 << 28
"""Numbers that memory and running clip hold at once: 1 GiB of float32."""
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,7}")


def _plain_path(path: str) -> str:
    """Paths that mean the same on every system, whatever it thinks of case, dots and slashes."""
    if len(path) > 200 or _PLAIN_PATH.fullmatch(path) is None:
        raise ValueError(f"bundle paths must stay inside the bundle and be plain names, got {path[:80]!a}")
    return path


def _printable(text: str) -> str:
    """Shown on terminals, so without orders to one."""
    if not text.isprintable():
        raise ValueError(f"a name must be printable, got {text[:80]!a}")
    return text


PlainPath = Annotated[str, AfterValidator(_plain_path)]
Printable = Annotated[str, AfterValidator(_printable)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
GraphName = Literal["backbone", "sampler", "reader"]
Target = Literal["onnxruntime", "openvino", "tensorrt"]
Precision = Literal["fp32", "fp16", "bf16", "w8", "int8"]
"""What a graph is computed in; w8: fp32, from weights that are stored in eight bits."""
TimeHead = Literal["bins", "pointer"]
ContextName = Literal["svd", "text", "region"]
CONTEXTS: tuple[ContextName, ...] = ("svd", "text", "region")
SamplerKind = Literal["neural", "s5"]
SAMPLERS: tuple[SamplerKind, ...] = ("neural", "s5")
_SVD_ONLY: tuple[ContextName, ...] = ("svd",)


class Strict(BaseModel):
    # An infinite horizon or gap has no number of ticks.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class QueueConfig(Strict):
    """Queues of text and region memory (TinyMem): of the clips before the running one, every `stride`-th."""

    length: int = Field(default=12, ge=1, le=1024, description="entries that are read")
    stride: int = Field(default=1, ge=1, le=1024, description="clips between two entries that are read")
    text_slots: int = Field(default=16, ge=1, le=256, description="T: descriptions of one entry")
    text_classes: int = Field(default=5, ge=1, le=256, description="K: likeliest classes that share them")
    text_width: int = Field(default=512, ge=8, le=4096, description="width of a description in the table")
    regions: int = Field(default=16, ge=1, le=256, description="R: region tokens of one entry")


class NetworkConfig(Strict):
    """Everything that fixes the shapes and the meaning of the three graphs (LVM-Net)."""

    backbone: Printable = Field(min_length=1, description="'conv' for our own small network, or a timm name")
    image_size: int = Field(ge=32, le=1024, description="side of the square input, pixels")
    d_backbone: int = Field(ge=8, le=8192, description="width of a stored token")
    d_model: int = Field(ge=8, le=8192, description="width of sampler and reader")
    heads: int = Field(ge=1, le=128)
    ffn: int = Field(ge=8, le=65536, description="hidden width of the feed-forward blocks")
    encoder_layers: int = Field(ge=1, le=48)
    decoder_layers: int = Field(ge=1, le=48)
    sampler_layers: int = Field(ge=1, le=48)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    memory_tokens: int = Field(ge=1, le=1_000_000, description="m: slots of the memory")
    clip_frames: int = Field(ge=1, le=4096, description="T: sampled frames between two memory updates")
    clip_candidates: int = Field(ge=1, description="most novel tokens of a clip that the sampler judges")
    recency_tokens: int = Field(ge=0, description="newest tokens that the reader gets unjudged")
    reader_candidates: int = Field(
        default=0, ge=0, description="most relevant tokens that one question reads; 0: all"
    )
    svd_rank: int = Field(ge=0, le=256, description="rows of the SVD basis; 0: no novelty, no summary tokens")
    svd_forgetting: float = Field(default=1.0, gt=0, le=1, description="lambda of one update (one clip)")
    query_steps: int = Field(ge=1, le=4096, description="L: decoder steps, spread over the asked window")
    tick_base: float = Field(gt=1, description="base of the sinusoidal tick code")
    object_fusion: Literal["cell", "pooled"] = Field(description="how the object multiplies memory (1.6)")
    sampler_cell_code: bool = True
    sampler_novelty: bool = True
    activities: int = Field(ge=1, le=10_000, description="C: classes")
    sample_fps: float = Field(default=1.0, ge=1e-4, le=5)
    horizon_s: float = Field(default=36_000, gt=0, le=1e9, description="older tokens leave the memory")
    # What came later is left out where it is at its default: a bundle without it stays the same model, and
    # older versions of lvm-edge read it.
    sampler: SamplerKind = Field(
        default="neural",
        exclude_if=lambda sampler: sampler == "neural",
        description="what scores candidates: attention among all (LVM-Net), or state-space layers over them "
        "in order of time, at linear cost, with a state from clip to clip (Selective S4)",
    )
    sampler_states: int = Field(
        default=16, ge=2, le=256, multiple_of=2, exclude_if=lambda states: states == 16,
        description="real numbers of state that an s5 sampler carries a channel",
    )  # fmt: skip
    context: tuple[ContextName, ...] = Field(
        default=_SVD_ONLY,
        exclude_if=lambda context: context == _SVD_ONLY,
        description="what the reader gets beside the memory; svd: summary tokens, where there is a rank",
    )
    queue: QueueConfig = Field(
        default=QueueConfig(),
        exclude_if=lambda queue: queue == QueueConfig(),
        description="text and region memory, where they are in the context",
    )
    likeness: bool = Field(
        default=False,
        exclude_if=lambda likeness: not likeness,
        description="whether the reader is told how alike a token and the asked product are, by the head "
        "with which the backbone learned to tell products apart",
    )
    order: bool = Field(
        default=False, exclude_if=lambda order: not order, description="the reader is told early from late"
    )

    @model_validator(mode="after")
    def _shapes_fit(self) -> NetworkConfig:
        clip_tokens = self.clip_frames * CELLS
        if self.clip_candidates > clip_tokens:
            raise ValueError(f"clip_candidates must be at most {clip_tokens}, got {self.clip_candidates}")
        if self.recency_tokens > clip_tokens:
            raise ValueError(f"recency_tokens must be at most {clip_tokens}, got {self.recency_tokens}")
        if self.reader_candidates > self.reader_tokens:
            raise ValueError(
                f"reader_candidates must be at most {self.reader_tokens}, got {self.reader_candidates}"
            )
        if self.d_model % self.heads:
            raise ValueError(f"d_model must be a multiple of heads={self.heads}, got {self.d_model}")
        if self.d_model % 4:
            raise ValueError(f"d_model must be a multiple of 4 (2-D sine code), got {self.d_model}")
        if not self.svd_rank and self.clip_candidates < clip_tokens:
            raise ValueError(
                f"without svd_rank nothing can thin a clip: clip_candidates must be {clip_tokens}, "
                f"got {self.clip_candidates}"
            )
        if self.sampler_novelty and not self.svd_rank:
            raise ValueError("sampler_novelty needs svd_rank >= 1, got 0")
        if len(set(self.context)) != len(self.context):
            raise ValueError(f"context must name each of its parts once, got {', '.join(self.context)}")
        if self.queues and not (self.sampler_cell_code and self.sampler_novelty):
            raise ValueError("text and region in the context need sampler_cell_code and sampler_novelty")
        entries = (self.queue.length - 1) * self.queue.stride + 1
        queued = entries * self.queue.regions if "region" in self.context else 0
        stored = (self.memory_tokens + clip_tokens + queued) * self.d_backbone
        if stored > MAX_STORED:
            raise ValueError(f"memory, clip and queue must hold at most {MAX_STORED} numbers, got {stored}")
        return self

    @property
    def queues(self) -> bool:
        """Whether clips leave anything in a queue."""
        return "text" in self.context or "region" in self.context

    @property
    def summary_rank(self) -> int:
        """Rows of the SVD's basis that the reader gets."""
        return self.svd_rank if "svd" in self.context else 0

    @property
    def sampler_tokens(self) -> int:
        """N: memory and thinned clip together."""
        return self.memory_tokens + self.clip_candidates

    @property
    def sampler_state(self) -> tuple[int, int, int]:
        """Layers, channels and states of what an s5 sampler carries from clip to clip."""
        return self.sampler_layers, self.d_model, self.sampler_states

    @property
    def reader_tokens(self) -> int:
        """n: memory and recency buffer together."""
        return self.memory_tokens + self.recency_tokens

    @property
    def read_tokens(self) -> int:
        """k: tokens of memory and recency buffer that encoder and decoder read for one question."""
        return self.reader_candidates or self.reader_tokens


class ActivityClass(Strict):
    """`name` is what people type; `doing` completes "a person ..."."""

    name: Printable = Field(min_length=1, max_length=200)
    doing: Printable = Field(min_length=1, max_length=500)


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
        default=None, description="relative, of the worst output, where `tolerance` is about that: w8, int8"
    )
    tolerance: float
    cosine: float | None = Field(default=None, description="least cosine of an output with torch's")
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
    answers: float = Field(description="share to which the same is told")
    contents: float = Field(description="share in which the same is said, whether or not either dared to")
    tokens: float = Field(description="share of remembered tokens that both hold")
    angle_deg: float | None = Field(default=None, description="between the SVD bases")
    box_iou: float | None = None
    span_iou: float | None = None


class TrainingRecord(Strict):
    """How the weights came about. `trained: false` marks every answer."""

    trained: bool
    recipe: str
    seed: int | None = None
    data: str | None = None
    held_out: tuple[str, ...] = Field(
        default=(), description="products that were never trained on, kept for the catalogue test"
    )
    results: dict[str, float] = Field(default_factory=dict)


Logit = Annotated[float, Field(ge=-1e4, le=1e4)]


class Scaling(Strict):
    """What makes a probability honest, fitted on validation videos: sigmoid(a * logit + b) (Platt), or where
    there are `points` the sigmoid of the line through them, logit to honest logit; beyond its ends `a` is the
    slope."""

    a: float = Field(default=1.0, ge=0, le=1e4, description="0 or more: scaling must not reverse an order")
    b: float = Field(default=0.0, ge=-1e4, le=1e4)
    points: tuple[tuple[Logit, Logit], ...] = Field(default=(), max_length=64)

    @model_validator(mode="after")
    def _rising(self) -> Scaling:
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
        default=4.0, ge=0, le=1e6, description="boxes are bridged over at most this gap"
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
    def _complete(self) -> Manifest:
        if len(self.classes) != self.network.activities:
            raise ValueError(f"classes must be {self.network.activities}, got {len(self.classes)}")
        if len({one.name for one in self.classes}) != len(self.classes):
            raise ValueError("class names must differ from one another")
        if self.weights is not None and "/" in self.weights:
            raise ValueError(f"weights must lie beside the manifest, got {self.weights}")
        if len({name.casefold() for name in self.files} | {"manifest.json"}) != len(self.files) + 1:
            raise ValueError("files must differ in more than the case of letters, and none is manifest.json")
        if (total := sum(record.bytes for record in self.files.values())) > MAX_BYTES:
            raise ValueError(f"files must have at most {MAX_BYTES} bytes together, got {total}")
        for target, graphs in self.graphs.items():
            if set(graphs) != {"backbone", "sampler", "reader"}:
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
