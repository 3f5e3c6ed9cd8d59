"""TinyMem's tables on the detection task: which memory, how long, how many regions, a captioner or none.

    python -m tools.tinymem --data DATA --output RESULTS --tables modalities lengths --seeds 0 1 2

    modalities   text, region, both, learned tokens and dense memory at six entries (its Tables 1, 2 and 4)
    lengths      text and region at 2, 6 and 12 entries, and every fifth clip
    regions      8, 16 and 32 learned tokens an entry (its Table 9)
    captions     text with a captioner's words and without, where the data folder has captions.jsonl
    tokens       both memories beside dense ones of the same length, by memory tokens (its Table 14)

Memory tokens are keys of past clips that one clip's attention reads, added over its layers. Answers lie in
--output as tools.detection leaves them, and what lies there is not trained again. The last line of standard
output is one JSON object.
"""

from __future__ import annotations

from typing import Any

import torch

from export.detection.average_precision import Ranking
from export.detection.named import parts_of
from export.detection.tinymem import TinyMem
from tools.console import finish, progress, show
from tools.detection import compared, doing_of, numbers_of, options, same_settings, seen, trained

TABLES: dict[str, tuple[str, ...]] = {
    "modalities": (
        "none", "layers", "dense-6-1", "region-6-1", "tokens-6-1-16", "text-6-1", "tiny-6-1",
    ),
    "lengths": ("layers", "tiny-2-1", "tiny-6-1", "tiny-12-1", "tiny-12-5"),
    "regions": ("layers", "tokens-6-1-8", "tokens-6-1-16", "tokens-6-1-32"),
    "captions": ("layers", "text-6-1", "captions-6-1"),
    "tokens": ("dense-2-1", "tiny-2-1", "dense-6-1", "tiny-6-1", "dense-12-1", "tiny-12-1"),
}  # fmt: skip
AGAINST = ("layers", "dense-6-1")


def tokens_read(name: str, width: int) -> int:
    """Memory tokens of the head called `name` for one clip."""
    return sum(part.tokens_read() for part in parts_of(name, width, ["one"]) if isinstance(part, TinyMem))


def rows_of(heads: dict[str, Any], names: tuple[str, ...], width: int) -> list[list[Any]]:
    """One row a head: its memory tokens, mAP with interval, and what it gains."""
    return [
        [
            name,
            tokens_read(name, width),
            *heads[name]["map"],
            *(" ".join(f"{value:+.3f}" for value in heads[name]["gain"].get(one, ())) for one in AGAINST),
        ]
        for name in names
    ]


def main() -> None:
    parser = options((__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=["modalities"], choices=list(TABLES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    same_settings(arguments)
    train, test, classes = seen(arguments)
    asked, doing = numbers_of(arguments.activities, classes), doing_of(arguments.data)
    width = train[0].features.shape[-1]
    names = list(dict.fromkeys(name for table in arguments.tables for name in TABLES[table]))
    runs: dict[str, list[Ranking]] = {name: [] for name in names}
    with progress(len(names) * len(arguments.seeds)) as step:
        for seed in arguments.seeds:  # all heads of a seed first: what was reached can be compared
            for name in names:
                runs[name].append(trained(name, seed, train, test, arguments, doing, asked)[0])
                step(f"{name} {seed}")
    heads = compared(runs, AGAINST, [classes[one] for one in asked])
    for table in arguments.tables:
        show(
            f"{table}: mAP, 95 % interval, gains",
            ["head", "memory tokens", "mAP", "low", "high", *AGAINST],
            rows_of(heads, TABLES[table], width),
        )
    finish(
        {
            "seeds": arguments.seeds,
            "videos": [len(train), len(test)],
            "heads": {
                name: {"memory_tokens": tokens_read(name, width), **one} for name, one in heads.items()
            },
        }
    )


if __name__ == "__main__":
    main()
