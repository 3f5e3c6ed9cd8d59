"""Long videos as one sequence: masks, what is shown of a video, learning without labels."""

import json

import numpy as np
import pytest
import torch

from edge_runtime.simulation.activities import find_activity
from engines.errors import LvmError
from export.papers.longform import train
from export.papers.longform.train import (
    ContrastSettings,
    FitSettings,
    info_nce,
    pretrain,
    train_classifier,
    update_average,
)
from export.papers.longform.videos import RATES, TASKS, Videos, make_labels, make_world
from export.papers.networks.vis4mer import LongformConfig, LongformNet
from tools.papers import longform

CONFIG = LongformConfig(token_width=12, width=16, blocks=2)
MASKS = ("linear", "transformer", "stacked")


def _tokens(count=3, length=40) -> torch.Tensor:
    return torch.randn(count, length, 12, generator=torch.Generator().manual_seed(0))


def _net(**changes) -> LongformNet:
    torch.manual_seed(0)
    return LongformNet(LongformConfig(**{**vars(CONFIG), **changes}))


def _toys(count: int, seed: int) -> Videos:
    """Four frames; one token in forty says all, and any other token nothing."""
    rng = np.random.default_rng(seed)
    tokens = 0.3 * rng.normal(size=(count, 4, 49, 12))
    labels = np.stack([rng.integers(classes, size=count) for classes in TASKS.values()], 1)
    for video in range(count):
        for place in rng.choice(196, 5, replace=False):
            told = np.concatenate([np.eye(c)[k] for c, k in zip(TASKS.values(), labels[video], strict=True)])
            tokens[video].reshape(196, 12)[place] = 4 * told
    return Videos(tokens.astype(np.float16), labels)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("features", [False, True])
def test_every_generator_shows_its_share_and_learns_from_the_answer(mask, features):
    net = _net(mask=mask, features=features).train()
    shown = []
    net.blocks[0].register_forward_pre_hook(lambda module, given: shown.append(given[0].shape))
    net(_tokens()).sum().backward()
    assert shown == [(3, 20, 16)]
    assert net.generator.score.weight.grad.abs().sum() > 0
    copied = [] if net.before is None else list(net.before.parameters())
    assert features == bool(copied) and all(one.grad is None for one in copied)


def test_kept_tokens_stay_in_their_order_and_are_what_they_were():
    net = _net().train()
    x = net.embed(_tokens())
    torch.manual_seed(1)
    retained = net._keep_tokens(x, 1.0, None)
    for row in range(3):
        places = [int((x[row] - one).abs().sum(1).argmin()) for one in retained[row]]
        assert places == sorted(set(places)) and len(places) == 20
        torch.testing.assert_close(retained[row], x[row, places])


def test_in_evaluation_the_best_tokens_are_shown():
    net = _net(features=False, hidden=0.9).eval()
    tokens = _tokens()
    with torch.no_grad():
        x = net.embed(tokens)
        best = net.generator(x).topk(4, 1).indices.sort(1).values
        expected = x.gather(1, best[..., None].expand(-1, -1, 16))
        torch.testing.assert_close(net._keep_tokens(x, 1.0, None), expected)


def test_the_copy_follows_the_first_layer_by_its_momentum():
    net = _net(momentum=0.9)
    with torch.no_grad():
        net.blocks[0].space.through.add_(1.0)
    was = net.before[1].through.clone()
    net.update_copy()
    torch.testing.assert_close(net.before[1].through, was + 0.1)


def test_a_stack_halves_tokens_and_width_in_each_block():
    net = _net(mask="none")
    x = net.embed(_tokens())
    for tokens, width in ((20, 8), (10, 4)):
        x = net.blocks[(16 // width) // 2 - 1](x)
        assert x.shape == (3, tokens, width)
    assert net(_tokens()).shape == (3, CONFIG.out) == (3, 4)


def test_random_masks_come_from_the_generator_they_are_given():
    net = _net(mask="random").eval()
    one, two, three = (net(_tokens(), generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, three)


def test_attention_can_take_the_place_of_s4_but_has_no_features_for_masks():
    assert _net(mask="none", mixer="attention")(_tokens()).shape == (3, 4)
    with pytest.raises(ValueError, match="attention has no S4 features"):
        _net(mixer="attention")


# -- learning ----------------------------------------------------------------------------------------------


def test_straight_through_masks_learn_to_keep_what_pays():
    """A tenth of the tokens is shown; what is shown pays by its first entry, on average 0."""
    net = _net(features=False, hidden=0.9).train()
    adam = torch.optim.Adam(net.generator.parameters(), lr=0.03)
    x = torch.randn(8, 100, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    for _ in range(60):
        adam.zero_grad()
        (-net._keep_tokens(x, 1.0, None)[..., 0].mean()).backward()
        adam.step()
    with torch.no_grad():
        paid = net.eval()._keep_tokens(x, 1.0, None)[..., 0].mean()
    assert paid > 1.2, paid  # the best tenth of normal numbers is 1.75 on average


def test_equal_seeds_give_equal_judges():
    videos, fit = _toys(8, 0), FitSettings(steps=3, batch=4)
    one, two = (train_classifier(CONFIG, videos, fit) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_what_belongs_together_costs_least():
    key = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    right, wrong = info_nce(key, key, [], 0.1), info_nce(key, key.roll(1, 0), [], 0.1)
    assert right < 0.5 < wrong
    assert info_nce(key, key, [key[:2] * -1], 0.1) > right  # more negatives


def test_keys_follow_queries_and_not_the_other_way_round():
    key, query = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    was, leads = key.weight.clone(), query.weight.clone()
    update_average(key, query, 0.9)
    torch.testing.assert_close(key.weight, 0.9 * was + 0.1 * leads)
    assert torch.equal(query.weight, leads)


@pytest.mark.parametrize("queue", [0, 16])
def test_without_labels_a_clip_learns_to_know_its_video(queue):
    videos = _toys(16, 0)
    config = LongformConfig(token_width=12, width=16, blocks=2, mask="none")
    before, after = (
        pretrain(config, videos, ContrastSettings(FitSettings(steps=steps, batch=8), short=2, queue=queue))
        for steps in (1, 3)
    )
    assert not torch.equal(before.embed[0].weight, after.embed[0].weight)
    assert all(parameter.isfinite().all() for parameter in after.parameters())


def test_no_clip_is_a_negative_of_its_own_video(monkeypatch):
    """Two losses a step, one for each side: neither is held against keys of that step."""
    calls = []

    def noted(query, key, others, temperature):
        calls.append((key.clone(), [one.clone() for one in others]))
        return info_nce(query, key, others, temperature)

    monkeypatch.setattr(train, "info_nce", noted)
    config = LongformConfig(token_width=12, width=16, blocks=2, mask="none")
    pretrain(config, _toys(16, 0), ContrastSettings(FitSettings(steps=4, batch=4), short=2, queue=16))
    assert [sum(map(len, others)) for _, others in calls] == [0, 0, 8, 8, 16, 16, 16, 16]
    for step in range(4):
        sides = calls[2 * step : 2 * step + 2]
        own, others = torch.cat([key for key, _ in sides]), [one for _, given in sides for one in given]
        assert all(torch.cdist(own, one).min() > 0 for one in others), step


# -- videos and tool -----------------------------------------------------------------------------------------


def test_labels_say_what_the_world_does():
    found = []
    for seed in range(30):
        world = make_world(seed)
        labels = make_labels(world, 300.0)
        names = [event.activity for event in world.events(0.0, 300.0)]
        assert labels[1] == world.config.concurrent - 1
        assert labels[2] == (find_activity("conceal") in names)
        assert RATES[labels[3]] == world.config.events_per_minute
        found.append(labels)
    for place, classes in enumerate(TASKS.values()):
        assert set(np.array(found)[:, place]) == set(range(classes))


@pytest.fixture
def options(tmp_path):
    """Of the smallest run there is."""
    text = "--train 4 --test 3 --frames 2 --seconds 20 --seeds 1 --steps 2 --width 16 --contrast-steps 1"
    return ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "found.json"), *text.split()]


def test_the_tool_fills_its_tables_and_goes_on_where_it_was(options, capsys):
    assert longform.main(options) == 0
    text = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(text["table"]) == 8 and set(text["curve"]) == {"0.25", "0.5", "0.75", "0.9"}
    assert set(text["cost"]) >= {"S4, no mask", "attention, no mask"}
    assert longform.main([*options, "--parts", "table"]) == 0
    captured = capsys.readouterr()
    assert "seed" not in captured.err and json.loads(captured.out.splitlines()[-1])["table"] == text["table"]
    assert longform.main([*options, "--parts", "table", "--seeds", "2"]) == 0  # the seed that is missing
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 8 and all(line.endswith(" / seed 1") for line in told)


def test_learning_without_labels_is_judged_with_masks_and_without(options, tmp_path, capsys, monkeypatch):
    shown = []

    def noted(config, *rest):
        shown.append((config.mask, config.features))
        return pretrain(config, *rest)

    monkeypatch.setattr(longform, "pretrain", noted)
    assert longform.main([*options, "--parts", "lsmcl"]) == 0
    output = capsys.readouterr().out
    text = json.loads(output.splitlines()[-1])["lsmcl"]
    assert len(text["gain"]) == len(text["masked"]["gain"]) == 3
    assert shown == [("none", True), ("linear", True)], "what was pre-trained is what is fitted"
    assert [name for name in json.loads((tmp_path / "found.json").read_text())["rows"]] == [
        f"{name} / seed 0"
        for name in (
            "half the labels",
            "half the labels, LSMCL",
            "half the labels, masked",
            "half the labels, masked, LSMCL",
        )
    ]
    assert "half the labels, mean of the tasks" in output and "linear, S4 features" in output


@pytest.mark.parametrize("name", ["--steps", "--test", "--frames", "--queue", "--contrast-steps"])
def test_rows_of_other_settings_are_not_taken_for_ours(options, tmp_path, name):
    given = longform._parser().parse_args(options)
    longform.Ledger(given.output, longform.list_settings(given, "abc")).once("a / seed 0", lambda: [1])
    assert not list(tmp_path.glob("*.part"))
    for more in ([], ["--seeds", "9", "--parts", "cost"]):
        same = longform._parser().parse_args([*options, *more])
        assert longform.Ledger(given.output, longform.list_settings(same, "abc")).rows == {"a / seed 0": [1]}
    with pytest.raises(LvmError, match="holds rows with model abc, not xyz: name another --output"):
        longform.Ledger(given.output, longform.list_settings(given, "xyz"))
    other = longform._parser().parse_args([*options, name, "7"])
    with pytest.raises(LvmError, match=f"with {name.strip('-').replace('-', '_')} .*, not 7"):
        longform.Ledger(given.output, longform.list_settings(other, "abc"))


@pytest.mark.parametrize("held", ['{"random mask / seed 0": [[1, 0, 0, 1]]}', '{"settings": 3, "rows"', "[]"])
def test_rows_without_settings_are_refused_before_anything_is_run(options, tmp_path, held, capsys):
    (tmp_path / "found.json").write_text(held)
    with pytest.raises(LvmError, match="with their settings, it has none: name another --output"):
        longform.main(options)
    assert not (tmp_path / "cache").exists() and (tmp_path / "found.json").read_text() == held
