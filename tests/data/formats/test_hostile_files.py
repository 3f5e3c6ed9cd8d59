"""Files of every format that were changed at random end in records, reports or one sentence."""

from __future__ import annotations

from random import Random

import pytest

from export.data.formats.parsers import PARSERS
from tools.fuzzing.case_check import find_problem
from tools.fuzzing.targets.annotations import Target

CASES = 250


@pytest.mark.parametrize("kind", PARSERS)
def test_changed_files_are_handled(tmp_path, kind):
    target, rng = Target(tmp_path), Random(kind)
    seeds = [seed for seed in target.seeds() if seed.startswith(kind.encode() + b"\n")]
    assert seeds
    for seed in seeds:
        target.run(seed)  # raises nothing as it is
        for _ in range(CASES):
            case = seed
            for _ in range(rng.choice((1, 1, 2, 3))):
                case = target.mutate(case, rng) or case
            assert find_problem(target.run, case) is None, case


def test_an_error_in_a_parser_would_be_a_finding(tmp_path, monkeypatch):
    monkeypatch.setitem(PARSERS, "mot", lambda *_: [][0])
    found = find_problem(Target(tmp_path).run, b"mot\n1,2,3")
    assert found and found[0].startswith("IndexError")
