"""Gate (c): recall on a labelled set, of the export and of its network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engines.bundle import Bundle
from engines.errors import LvmError
from engines.manifest import GRAPHS
from export.data.candidates import QueryRules
from export.data.query_writer import write_queries
from export.data.world_set import make_world_video, write_worlds
from export.evaluation.results import Result, SpanResult
from export.gates import accuracy
from export.gates.accuracy import measure_accuracy
from export.gates.limits import GateSettings
from export.gates.result import Accuracy
from export.parity.relative_error import Graphs
from tests.support.gate_runs import change_outputs, make_graphs, make_manifest, make_toy

NETWORK = make_toy()
MANIFEST = make_manifest(NETWORK)


class OnlyManifest(Bundle):
    """Of a bundle the gate reads nothing else."""

    def __init__(self) -> None:
        self.manifest = MANIFEST


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_worlds(root, [make_world_video(4, minutes=0.6, split="val")])
    write_queries(root, rules=QueryRules(per_cell=3))
    return root


def run(export: Graphs, data: Path, **settings: Any) -> Accuracy:
    given = GateSettings.model_validate({"data": data, "split": "val", **settings})
    return measure_accuracy(OnlyManifest(), NETWORK, export, dict.fromkeys(GRAPHS, "fp32"), given)


def test_an_untouched_export_recalls_what_its_network_recalls(data: Path) -> None:
    found = run(make_graphs(NETWORK), data)
    assert found.findings == () and found.recall
    for kind, one in found.recall.items():
        assert one.questions > 0 and one.export == one.reference and one.difference == (0, 0), kind


def test_nan_on_the_labelled_set_names_its_graph(data: Path) -> None:
    def change(outputs: dict[str, Any]) -> None:
        outputs["presence_logit"][:] = float("nan")

    found = run(change_outputs(NETWORK, "reader", change), data)
    assert [(finding.quantity, finding.graph) for finding in found.findings] == [("finite", "reader")]


def test_a_folder_that_asks_nothing_of_the_split_is_said(data: Path) -> None:
    with pytest.raises(LvmError, match="asks nothing of split test: run python -m export.data queries"):
        run(make_graphs(NETWORK), data, split="test")


def results(activity: int, spans: int, of: int = 100) -> list[Result]:
    """So many of each kind were right, over four videos."""
    common = {"seed": 0, "duration": "short", "window": None, "happened": True, "abstained": False}
    out = []
    for i in range(of):
        video = f"v{i % 4}"
        out.append(Result(qid=f"a{i}", video=video, type="activity", hit1=float(i < activity), **common))
        fit = SpanResult(tiou=0.9 if i < spans else 0.1, confidence=0.5)
        out.append(Result(qid=f"t{i}", video=video, type="time", spans={"pointer": fit}, **common))
    return out


def test_a_drop_beyond_the_limit_fails_with_the_name_of_its_kind(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([results(80, 50), results(81, 47), results(80, 50), results(80, 48)])
    monkeypatch.setattr(accuracy, "collect_results", lambda *_: next(told))
    limits = {"limits": {"fp32": {"recall_drop": 0.02}}}
    found = run(make_graphs(NETWORK), data, **limits)
    assert [finding.words for finding in found.findings] == [
        "recall of 100 time questions falls from 0.500 to 0.470, by at most 0.02 expected"
    ]
    low, high = found.recall["time"].difference
    assert low < -0.02 < high <= 0 and found.recall["activity"].export == pytest.approx(0.81)
    again = run(make_graphs(NETWORK), data, **limits)
    assert again.findings == (), "exactly as much as is allowed"
