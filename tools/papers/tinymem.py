"""TinyMem's tables on the detection task: which memory, how long, how many regions, a captioner or none.

    python -m tools.papers.tinymem --data DATA --output RESULTS --tables modalities lengths --seeds 0 1 2

    modalities   text, region, both, learned tokens and dense memory (its Tables 1, 2 and 4)
    lengths      text and region at a quarter, half, all and twice the entries, and at other strides
    regions      8, 16 and 32 learned tokens an entry (its Table 9)
    captions     text with a captioner's words and without, where the data folder has captions.jsonl
    tokens       both memories beside dense ones of the same length, by memory tokens (its Table 14)

--queue LENGTH-STRIDE says how many entries are read, and every how manieth clip.
Memory tokens are keys of past clips that one clip's attention reads, added over its layers. Answers lie in
--output as tools.papers.detection leaves them, and what lies there is not trained again. The last line of
standard output is one JSON object.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from export.evaluation.run_folders import TrainedRun
from export.papers.detection.average_precision import Ranking
from export.papers.detection.named import DEFAULT_SIZE, ClipSize, make_parts
from export.papers.detection.tinymem import TinyMem
from tools.console import finish, progress, run_tool, show
from tools.papers.detection import (
    compared,
    doing_of,
    numbers_of,
    options,
    same_settings,
    seen,
    size_of,
    trained,
)

NAMES = ("modalities", "lengths", "regions", "captions", "tokens")


def tables(length: int, stride: int) -> dict[str, tuple[str, ...]]:
    """Heads of each table for `length` entries, every `stride`-th clip."""
    at = f"{length}-{stride}"
    quarter, half, twice = max(1, length // 4), max(1, length // 2), 2 * length
    spans = [f"{one}-{stride}" for one in (quarter, half, length, twice)]
    strides = [f"{length}-1", f"{twice}-{5 * stride}"]
    return {
        "modalities": (
            "none", "layers", f"dense-{at}", f"whole-{at}", f"region-{at}", f"tokens-{at}-16", f"text-{at}",
            f"tiny-{at}",
        ),
        "lengths": ("layers", *dict.fromkeys(f"tiny-{one}" for one in spans + strides)),
        "regions": ("layers", *(f"tokens-{at}-{one}" for one in (8, 16, 32))),
        "captions": ("layers", f"text-{at}", f"captions-{at}"),
        "tokens": tuple(f"{kind}-{one}" for one in spans[:3] for kind in ("dense", "tiny")),
    }  # fmt: skip


def queue_of(said: str) -> tuple[int, int]:
    """Length and stride of `8-2`. Raises ArgumentTypeError."""
    length, _, stride = said.partition("-")
    if not (length.isdigit() and stride.isdigit() and int(length) and int(stride)):
        raise argparse.ArgumentTypeError(f"expected LENGTH-STRIDE such as 8-2, not {said!r}")
    return int(length), int(stride)


def tokens_read(name: str, width: int, size: ClipSize = DEFAULT_SIZE) -> int:
    """Memory tokens of the head called `name` for one clip."""
    parts = make_parts(name, width, ["one"], size)
    return sum(part.tokens_read() for part in parts if isinstance(part, TinyMem))


def rows_of(heads: dict[str, Any], names: tuple[str, ...], against: tuple[str, ...]) -> list[list[Any]]:
    """One row a head: its memory tokens, mAP with interval, and what it gains."""
    return [
        [
            name,
            heads[name]["memory_tokens"],
            *heads[name]["map"],
            *(" ".join(f"{value:+.3f}" for value in heads[name]["gain"].get(one, ())) for one in against),
        ]
        for name in names
    ]


def main() -> None:
    parser = options((__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=["modalities"], choices=NAMES)
    parser.add_argument("--queue", type=queue_of, default="6-1", help="LENGTH-STRIDE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = TrainedRun.open(arguments.model)
    same_settings(arguments, run.backbone_digest())
    train, test, classes = seen(run, arguments)
    asked, doing = numbers_of(arguments.activities, classes), doing_of(arguments.data)
    width, size = train[0].features.shape[-1], size_of(train)
    length, stride = arguments.queue
    heads_of, against = tables(length, stride), ("layers", f"dense-{length}-{stride}")
    names = list(dict.fromkeys(name for table in arguments.tables for name in heads_of[table]))
    runs: dict[str, list[Ranking]] = {name: [] for name in names}
    with progress(len(names) * len(arguments.seeds)) as step:
        for seed in arguments.seeds:  # all heads of a seed first: what was reached can be compared
            for name in names:
                runs[name].append(trained(name, seed, train, test, arguments, doing, asked)[0])
                step(f"{name} {seed}")
    found = compared(runs, against, [classes[one] for one in asked])
    heads = {name: {"memory_tokens": tokens_read(name, width, size)} | one for name, one in found.items()}
    for table in arguments.tables:
        show(
            f"{table}: mAP, 95 % interval, gains",
            ["head", "memory tokens", "mAP", "low", "high", *against],
            rows_of(heads, heads_of[table], against),
        )
    finish(
        {
            "queue": [length, stride],
            "seeds": arguments.seeds,
            "videos": [len(train), len(test)],
            "heads": heads,
        }
    )


if __name__ == "__main__":
    run_tool(main)
