"""Define the configuration that fixes the shapes and the meaning of a model's three graphs.

`export/` builds the networks from it, `edge_runtime/` sizes the memory by it; a bundle's manifest holds it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

GRID = 7
"""Rows and columns of cells of most networks."""
MAX_GRID = 28
MAX_STORED = 1 << 28
"""Numbers that memory and running clip may hold together: 1 GiB of float32."""
ContextName = Literal["svd", "text", "region"]
CONTEXTS: tuple[ContextName, ...] = ("svd", "text", "region")
SamplerKind = Literal["neural", "s5"]
SAMPLERS: tuple[SamplerKind, ...] = ("neural", "s5")
_SVD_ONLY: tuple[ContextName, ...] = ("svd",)


def _check_printable(text: str) -> str:
    """Refuse control characters: names are shown on terminals."""
    if not text.isprintable():
        raise ValueError(f"a name must be printable, got {text[:80]!a}")
    return text


Printable = Annotated[str, AfterValidator(_check_printable)]


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
    clip_candidates: int = Field(ge=1, description="most novel tokens of a clip that the sampler scores")
    recency_tokens: int = Field(ge=0, description="newest tokens that the reader gets without a score")
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
    # Fields below were added later and are left out at their default: a bundle without them stays the same
    # model, and older versions of lvm-edge read it.
    sampler: SamplerKind = Field(
        default="neural",
        exclude_if=lambda sampler: sampler == "neural",
        description="what scores candidates: attention among all (LVM-Net), or state-space layers over them "
        "in order of time, at linear cost, with a state from clip to clip (Selective S4)",
    )
    sampler_states: int = Field(
        default=16,
        ge=2,
        le=256,
        multiple_of=2,
        exclude_if=lambda states: states == 16,
        description="real numbers of state that an s5 sampler carries a channel",
    )
    context: tuple[ContextName, ...] = Field(
        default=_SVD_ONLY,
        exclude_if=lambda context: context == _SVD_ONLY,
        description="what the reader gets besides the memory; svd: summary tokens, where there is a rank",
    )
    queue: QueueConfig = Field(
        default=QueueConfig(),
        exclude_if=lambda queue: queue == QueueConfig(),
        description="text and region memory, where they are in the context",
    )
    appearance: int = Field(
        default=0,
        ge=0,
        exclude_if=lambda width: not width,
        description="numbers of a token that say how its cell looks, by a fixed projection of a trunk with "
        "public weights; the other numbers are learned on top of it. 0: the whole backbone is learned",
    )
    grid: int = Field(
        default=GRID,
        ge=GRID,
        le=MAX_GRID,
        multiple_of=GRID,
        exclude_if=lambda grid: grid == GRID,
        description="rows and columns of cells of a frame, one token each",
    )
    even_tokens: int = Field(
        default=0,
        ge=0,
        exclude_if=lambda count: not count,
        description="tokens of each frame that are candidates by place and time, however usual they are",
    )
    likeness: bool = Field(
        default=False,
        exclude_if=lambda likeness: not likeness,
        description="whether the reader gets the similarity of a token and the asked product, by the head "
        "with which the backbone learned to distinguish products",
    )
    best_relevance: bool = Field(
        default=False,
        exclude_if=lambda best: not best,
        description="whether presence also depends on how relevant the most relevant tokens are",
    )
    order: bool = Field(
        default=False,
        exclude_if=lambda order: not order,
        description="whether the reader gets the relative temporal position among relevant tokens nearby",
    )
    spread: bool = Field(
        default=False,
        exclude_if=lambda spread: not spread,
        description="whether, of more relevant tokens than slots, those leave that are closest to others in "
        "time and place, instead of the least relevant",
    )

    @model_validator(mode="after")
    def _check_shapes(self) -> NetworkConfig:
        clip_tokens = self.clip_frames * self.cells
        if self.clip_candidates > clip_tokens:
            raise ValueError(f"clip_candidates must be at most {clip_tokens}, got {self.clip_candidates}")
        most_even = min(self.cells, self.clip_candidates // self.clip_frames)
        if self.even_tokens > most_even:
            raise ValueError(
                f"even_tokens must be at most {most_even} with these clip_candidates, got {self.even_tokens}"
            )
        if self.recency_tokens > clip_tokens:
            raise ValueError(f"recency_tokens must be at most {clip_tokens}, got {self.recency_tokens}")
        if self.reader_candidates > self.reader_tokens:
            raise ValueError(
                f"reader_candidates must be at most {self.reader_tokens}, got {self.reader_candidates}"
            )
        if self.best_relevance and not self.reader_candidates:
            raise ValueError("best_relevance needs reader_candidates >= 1, got 0")
        if self.appearance and (self.backbone == "conv" or self.appearance >= self.d_backbone):
            raise ValueError(
                "appearance needs a timm backbone and must be less than d_backbone, got "
                f"{self.appearance} of {self.d_backbone} with {self.backbone}"
            )
        if self.d_model % self.heads:
            raise ValueError(f"d_model must be a multiple of heads={self.heads}, got {self.d_model}")
        if self.d_model % 4:
            raise ValueError(f"d_model must be a multiple of 4 (2-D sine code), got {self.d_model}")
        if not self.svd_rank and self.clip_candidates < clip_tokens:
            raise ValueError(
                f"without svd_rank nothing can prefilter a clip: clip_candidates must be {clip_tokens}, "
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
    def cells(self) -> int:
        """Tokens of a frame, row by row."""
        return self.grid * self.grid

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
        """N: memory and prefiltered clip together."""
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
