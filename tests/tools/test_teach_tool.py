"""How well taught activities are recognised: the figures by hand, and the tool as a person runs it."""

import json

import pytest

from tools.quality import teach
from tools.quality.teach import estimate_f1


def test_f1_is_of_all_worlds_together_and_its_interval_over_them():
    f1, low, high = estimate_f1([(5, 5, 5), (0, 5, 5)])
    assert f1 == pytest.approx(0.5) and (low, high) == (0.0, 1.0)
    assert estimate_f1([(0, 0, 0)])[0] == 0


def test_the_tool_teaches_from_some_worlds_and_judges_by_others(capsys):
    assert teach.main(["--worlds", "2", "--minutes", "3", "--counts", "1", "2", "--seeds", "1"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result["taught"]) == {"1", "2"} and 0 < result["taught"]["2"][0] <= 1
