"""Make TinyMem's tables on the detection task: kinds of memory, lengths, regions, and captions.

    python -m tools.papers.tinymem --data DATA --output RESULTS --tables modalities lengths --seeds 0 1 2

    modalities   text, region, both, learned tokens and dense memory (its Tables 1, 2 and 4)
    lengths      text and region at a quarter, half, all and twice the entries, and at other strides
    regions      8, 16 and 32 learned tokens an entry (its Table 9)
    captions     text with and without a captioner's words, where the data folder has captions.jsonl
    tokens       both memories beside dense ones of the same length, by memory tokens (its Table 14)

--queue LENGTH-STRIDE: LENGTH entries are read, from every STRIDE-th clip. Memory tokens are keys of past
clips that one clip's attention reads, summed over its layers. Answers are in --output as
tools.papers.detection writes them; a head whose answers are there is not trained again. The last line of
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
    check_settings,
    compare_heads,
    load_or_train,
    load_videos,
    make_parser,
    read_clip_size,
    read_descriptions,
    select_activities,
)

NAMES = ("modalities", "lengths", "regions", "captions", "tokens")


def list_table_heads(length: int, stride: int) -> dict[str, tuple[str, ...]]:
    """Return the heads of each table for `length` entries, from every `stride`-th clip."""
    at = f"{length}-{stride}"
    quarter, half, twice = max(1, length // 4), max(1, length // 2), 2 * length
    spans = [f"{entries}-{stride}" for entries in (quarter, half, length, twice)]
    strides = [f"{length}-1", f"{twice}-{5 * stride}"]
    return {
        "modalities": (
            "none", "layers", f"dense-{at}", f"whole-{at}", f"region-{at}", f"tokens-{at}-16", f"text-{at}",
            f"tiny-{at}",
        ),
        "lengths": ("layers", *dict.fromkeys(f"tiny-{span}" for span in spans + strides)),
        "regions": ("layers", *(f"tokens-{at}-{count}" for count in (8, 16, 32))),
        "captions": ("layers", f"text-{at}", f"captions-{at}"),
        "tokens": tuple(f"{kind}-{span}" for span in spans[:3] for kind in ("dense", "tiny")),
    }  # fmt: skip


def parse_queue(text: str) -> tuple[int, int]:
    """Return length and stride of a text such as `8-2`. Raises ArgumentTypeError."""
    length, _, stride = text.partition("-")
    if not (length.isdigit() and stride.isdigit() and int(length) and int(stride)):
        raise argparse.ArgumentTypeError(f"expected LENGTH-STRIDE such as 8-2, not {text!r}")
    return int(length), int(stride)


def count_memory_tokens(name: str, width: int, size: ClipSize = DEFAULT_SIZE) -> int:
    """Count the memory tokens that the head called `name` reads for one clip."""
    parts = make_parts(name, width, ["one"], size)
    return sum(part.tokens_read() for part in parts if isinstance(part, TinyMem))


def make_rows(heads: dict[str, Any], names: tuple[str, ...], against: tuple[str, ...]) -> list[list[Any]]:
    """Return one row for each head: its memory tokens, mAP with interval, and gains."""
    return [
        [
            name,
            heads[name]["memory_tokens"],
            *heads[name]["map"],
            *(" ".join(f"{value:+.3f}" for value in heads[name]["gain"].get(base, ())) for base in against),
        ]
        for name in names
    ]


def main() -> None:
    parser = make_parser((__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=["modalities"], choices=NAMES)
    parser.add_argument("--queue", type=parse_queue, default="6-1", help="LENGTH-STRIDE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = TrainedRun.open(arguments.model)
    check_settings(arguments, run.backbone_digest())
    train, test, classes = load_videos(run, arguments)
    asked, doing = select_activities(arguments.activities, classes), read_descriptions(arguments.data)
    width, size = train[0].features.shape[-1], read_clip_size(train)
    length, stride = arguments.queue
    heads_of, against = list_table_heads(length, stride), ("layers", f"dense-{length}-{stride}")
    names = list(dict.fromkeys(name for table in arguments.tables for name in heads_of[table]))
    runs: dict[str, list[Ranking]] = {name: [] for name in names}
    with progress(len(names) * len(arguments.seeds)) as step:
        for seed in arguments.seeds:  # all heads of a seed first, so that an unfinished run can be compared
            for name in names:
                runs[name].append(load_or_train(name, seed, train, test, arguments, doing, asked)[0])
                step(f"{name} {seed}")
    compared = compare_heads(runs, against, [classes[number] for number in asked])
    heads = {
        name: {"memory_tokens": count_memory_tokens(name, width, size)} | row
        for name, row in compared.items()
    }
    for table in arguments.tables:
        show(
            f"{table}: mAP, 95 % interval, gains",
            ["head", "memory tokens", "mAP", "low", "high", *against],
            make_rows(heads, heads_of[table], against),
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
