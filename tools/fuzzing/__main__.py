"""Fuzz a target, guided by coverage, with a corpus that grows from valid inputs.

    python -m tools.fuzzing --target images --cases 10000 --seed 0
    python -m tools.fuzzing --target query --cases 1000000 --out fuzz/query  # goes on where it was
    python -m tools.fuzzing --target video --minutes 30 --out fuzz/video
    python -m tools.fuzzing --target yaml --replay tests/fuzz_corpus/yaml/*
    python -m tools.fuzzing --target yaml --minimise fuzz/yaml/findings/0123.bin

Targets: annotations, images, video, yaml, bundle, state, query, http. A case may end cleanly or in an error
of one sentence. An exception, a process that dies, more than 10 s or more than 1 GB are findings, which are
saved under OUT/findings. The last line is one JSON object; exit status 1 where there is a finding.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from tools.console import finish
from tools.fuzzing.campaign import Campaign, Totals
from tools.fuzzing.minimise import find_finding, minimise_finding
from tools.fuzzing.targets import NAMES


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", "--door", dest="target", choices=NAMES, required=True)
    parser.add_argument("--cases", type=int, default=10_000, help="number of further cases (10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="time limit")
    parser.add_argument(
        "--out", type=Path, help="folder of corpus, findings and totals; without it, none is saved"
    )
    parser.add_argument("--replay", type=Path, nargs="+", help="run these files instead")
    parser.add_argument("--minimise", type=Path, help="make this finding small, as FILE.min")
    arguments = parser.parse_args(argv)
    if arguments.replay:
        return _replay(arguments.target, arguments.replay)
    if arguments.minimise:
        data = arguments.minimise.read_bytes()
        small, finding = minimise_finding(arguments.target, data)
        if finding is not None:
            arguments.minimise.with_suffix(".min").write_bytes(small)
        finish(
            {"target": arguments.target, "bytes": len(data), "minimise_case": len(small), "finding": finding}
        )
        return 1 if finding is not None else 0
    with ExitStack() as stack:
        out = arguments.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        campaign = Campaign(arguments.target, out.resolve(), arguments.seed, _report)
        totals = campaign.run(arguments.cases, arguments.minutes * 60)
        stories = [file.read_text() for file in sorted((out / "findings").glob("*.txt"))]
        for story in stories:
            print(story, file=sys.stderr)
    result = asdict(totals) | {"seed": arguments.seed, "ok": totals.clean}
    result["cases_per_s"] = round(totals.cases / max(totals.seconds, 1e-9), 1)
    result["cases_per_cpu_s"] = round(totals.cases / max(totals.cpu_s, 1e-9), 1)
    result["kinds"] = sorted({story.split("\n", 1)[0] for story in stories})
    finish(result)
    return 0 if totals.clean else 1


def _replay(target: str, files: Sequence[Path]) -> int:
    bad = {
        str(file): finding
        for file in files
        if (finding := find_finding(target, file.read_bytes())) is not None
    }
    finish({"target": target, "replayed": len(files), "findings": bad})
    return 1 if bad else 0


def _report(totals: Totals) -> None:
    rate = totals.cases / max(totals.seconds, 1e-9)
    findings = totals.exceptions + totals.crashes + totals.hangs + totals.memory
    print(
        f"{totals.target}: {totals.cases} cases, {rate:.0f}/s, corpus {totals.corpus}, {findings} findings",
        file=sys.stderr,
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    sys.exit(main())
