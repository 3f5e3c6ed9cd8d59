"""The tools that compare detection heads: names of heads, answers kept on disk, gains, costs."""

import argparse

import numpy as np
import pytest
import torch

from engines.errors import LvmError
from export.papers.detection.average_precision import Ranking, load_answers, save_answers, score_video
from export.papers.detection.bank import BankAttention
from export.papers.detection.memsvd import ForgettingSVD, TruncatedProjection, WindowSVD
from export.papers.detection.named import make_head, make_parts
from tests.support.detection_videos import ACTIVITIES, WIDTH, toy_video
from tools.papers.detection import (
    check_settings,
    compare_heads,
    load_or_train,
    measure_region_recall,
    select_activities,
)


def test_a_name_says_which_memories_a_head_has():
    assert make_parts("none", WIDTH) == []
    svd, online, bank = make_parts("svd-61-10+online-0.9-4+bank-18", WIDTH)
    assert isinstance(svd, TruncatedProjection) and (svd.whole.seconds, svd.components) == (61, 10)
    assert isinstance(online, ForgettingSVD) and (online.forgetting, online.components) == (0.9, 4)
    assert isinstance(bank, BankAttention) and len(bank.layers) == 2
    assert make_head("rsvd-10-2", WIDTH, ACTIVITIES).parts[0].randomised


@pytest.mark.parametrize("name", ["", "memory-3", "svd", "bank-many", "none+bank-3"])
def test_a_name_that_is_none_is_told(name):
    with pytest.raises(LvmError, match="a memory must be one of none, bank"):
        make_parts(name, WIDTH)


def test_components_of_one_svd_serve_all_smaller_numbers_of_them():
    video, clips = toy_video(), np.arange(60)
    whole = WindowSVD(8, 20.0)
    got = TruncatedProjection(whole, 3).watch(video)(clips).rows
    assert torch.equal(got, WindowSVD(3, 20.0).watch(video)(clips).rows)
    with pytest.raises(LvmError, match="1 to 8"):
        TruncatedProjection(whole, 9)


def test_answers_are_read_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    found = [score_video(video, rng.random(video.labels.shape)) for video in (toy_video(0), toy_video(1))]
    save_answers(found, tmp_path / "new" / "svd-61-10.seed0.npz")
    for one, other in zip(found, load_answers(tmp_path / "new" / "svd-61-10.seed0.npz"), strict=True):
        assert one.video == other.video
        assert all((getattr(one, n) == getattr(other, n)).all() for n in ("score", "hit", "truths"))


def test_a_head_is_trained_once_and_gains_are_paired(tmp_path):
    train, test = [toy_video(0)], [toy_video(1), toy_video(2)]
    arguments = argparse.Namespace(output=tmp_path, epochs=1, learning_rate=1e-2, parts_learning_rate=None)
    runs: dict[str, list[Ranking]] = {"none": [], "svd-4-2": []}
    for name, rankings in runs.items():
        for seed in (0, 1):
            ranking, seconds = load_or_train(name, seed, train, test, arguments)
            again, none = load_or_train(name, seed, train, test, arguments)
            assert seconds > 0 and none == 0
            assert again.average_precisions().tolist() == ranking.average_precisions().tolist()
            rankings.append(ranking)
    text = compare_heads(runs, ["none", "bank-3"], ["a", "b", "c"])
    gain = text["svd-4-2"]["gain"]["none"]
    assert gain[0] == pytest.approx(text["svd-4-2"]["map"][0] - text["none"]["map"][0], abs=2e-4)
    assert gain[1] <= gain[0] <= gain[2]
    assert list(text["none"]["by_activity"]) == ["a", "b", "c"] and text["none"]["gain"] == {}
    assert measure_region_recall(test) == 1


def test_some_activities_can_be_judged_alone_and_what_never_happens_has_no_precision(tmp_path):
    rng = np.random.default_rng(0)
    videos = [toy_video(one) for one in (0, 1)]
    for video in videos:
        video.truth_labels[:, 2] = False
    found = [score_video(video, rng.random(video.labels.shape)) for video in videos]
    whole, part = Ranking(found), Ranking(found, select_activities(["b"], ["a", "b", "c"]))
    assert part.average_precisions().tolist() == [whole.average_precisions()[1]]
    text = compare_heads({"none": [whole]}, [], ["a", "b", "c"])["none"]["by_activity"]
    assert list(text) == ["a", "b"] and select_activities([], ["a", "b"]) == [0, 1]
    with pytest.raises(LvmError, match="activities must be of a, b, got 'd'"):
        select_activities(["a", "d"], ["a", "b"])


def test_answers_of_other_settings_are_not_mixed(tmp_path):
    names = (
        "split",
        "epochs",
        "frames",
        "regions",
        "learned_regions",
        "learning_rate",
        "parts_learning_rate",
    )
    settings = {name: 1 for name in names} | {"data": tmp_path}
    asked = argparse.Namespace(output=tmp_path / "a", **settings)
    with pytest.raises(LvmError, match=r"classes.json does not exist: --data must be a data folder"):
        check_settings(asked, "backbone 1")
    for name in ("classes.json", "events.jsonl", "videos.jsonl"):
        (tmp_path / name).write_text("{}")
    check_settings(asked, "backbone 1")
    check_settings(asked, "backbone 1")
    with pytest.raises(LvmError, match="epochs 1, not 2"):
        check_settings(argparse.Namespace(output=tmp_path / "a", **settings | {"epochs": 2}), "backbone 1")
    with pytest.raises(LvmError, match="holds answers with backbone backbone 1, not backbone 2"):
        check_settings(asked, "backbone 2")
    for name in ("events.jsonl", "tracks.jsonl", "captions.jsonl"):
        before = (tmp_path / name).read_text() if (tmp_path / name).exists() else None
        (tmp_path / name).write_text("{} ")  # in place, as export.data without does
        with pytest.raises(LvmError, match="holds answers with files .*, not .*: name another --output"):
            check_settings(asked, "backbone 1")
        (tmp_path / name).unlink() if before is None else (tmp_path / name).write_text(before)
    check_settings(asked, "backbone 1")
