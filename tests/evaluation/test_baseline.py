"""The baseline on the queries of the evaluation: which frames it reads, and that results compare."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engines.errors import LvmError
from export.evaluation.baseline import evaluate_baseline, load_baseline, select_rows
from export.networks.tubedetr import TubeDETR, TubeOutput
from tests.support.evaluation_videos import cache, network_config, queries, query


def network(seed: int = 0) -> TubeDETR:
    torch.manual_seed(seed)
    return TubeDETR(network_config()).eval()


def test_it_reads_the_frames_of_the_time_that_is_asked_about() -> None:
    ticks = cache().ticks
    assert select_rows(query("object"), ticks, 1.0).tolist() == [10, 11, 12, 13, 14, 15]
    assert select_rows(query("object"), ticks, 1.0, "query").tolist() == list(range(46))
    assert select_rows(query("time"), ticks, 1.0).tolist() == list(range(46))


def test_it_reads_no_frame_twice_and_none_beyond_the_end() -> None:
    rows = select_rows(query("activity", t_s=40.0, t_e=60.0), cache().ticks, 1.0)
    assert rows.tolist() == list(range(40, 46))


def test_between_two_frames_it_reads_the_nearest() -> None:
    assert select_rows(query("activity", t_s=10.2, t_e=10.4), cache().ticks, 1.0).tolist() == [10]


def test_every_query_has_a_result_that_compares_with_the_memorys() -> None:
    results = evaluate_baseline(network(), network_config(), cache(), queries(), seed=2)
    assert [result.qid for result in results] == [query.qid for query in queries()]
    for result in results:
        assert result.seed == 2 and result.evidence is None and result.presence_logit is not None
        assert (result.score("bins") is not None) == result.happened
        assert set(result.spans) == ({"bins"} if result.type == "time" else set())


def test_a_time_query_is_read_as_one_clip() -> None:
    lengths = []

    class Listening(TubeDETR):
        def forward(self, **given: torch.Tensor) -> TubeOutput:
            lengths.append(tuple(given["frames"].shape[:2]))
            return super().forward(**given)

    torch.manual_seed(0)
    both = [query("time"), query("activity", t_s=0.0, t_e=46.0)]
    evaluate_baseline(Listening(network_config()), network_config(), cache(), both, clip_frames=20)
    assert lengths == [(1, 46), (3, 20)]


def test_it_depends_on_what_is_asked() -> None:
    asked = [query("activity", str(i), t_s=0.0, t_e=46.0, instance=i) for i in (0, 1)]
    one, other = evaluate_baseline(network(), network_config(), cache(), asked)
    assert one.class_logits != other.class_logits


def test_what_a_training_saved_answers_as_before(tmp_path: Path) -> None:
    one, path = network(), tmp_path / "tubedetr.safetensors"
    save_file(one.state_dict(), path)
    other = load_baseline(path, network_config(), stride=5)
    both = [evaluate_baseline(each, network_config(), cache(), queries()) for each in (one, other)]
    assert both[0] == both[1]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    for name in "ab":
        with pytest.raises(LvmError, match="must hold a modified TubeDETR"):
            load_baseline(tmp_path / f"{name}.safetensors", network_config(), 5)
    with pytest.raises(LvmError, match="does not exist"):
        load_baseline(tmp_path / "c.safetensors", network_config(), 5)


def test_time_spans_end_with_a_frame_of_the_window() -> None:
    span = evaluate_baseline(network(), network_config(), cache(), [query("time")])[0].spans["bins"]
    assert span.tiou is not None and 0 <= span.tiou <= 1 and np.isfinite(span.confidence)
