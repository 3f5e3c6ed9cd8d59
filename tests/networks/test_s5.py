"""The sampler of linear cost: what each token is scored by, what is carried, and that all engines agree."""

import numpy as np
import pytest
import torch

from engines.onnxruntime_engine import OnnxRuntimeEngine
from engines.openvino_engine import OpenVinoEngine
from export.networks.model import make_untrained
from export.networks.s4 import S4D
from export.networks.s5 import S5Sampler, scan_memory_and_clip
from export.onnx_graphs.build import find_parameters, lower, serialise, trace
from export.onnx_graphs.external_weights import WEIGHTS, read_byte_ranges, save_weights
from export.parity.check import check_graph
from export.parity.sample_inputs import draw_sampler_feeds
from tests.support.export_models import small_config, small_network
from tests.support.training_models import toy_config, toy_task

SLOTS, CLIP = 10, 12


def _layer(dtype=torch.float64) -> S4D:
    torch.manual_seed(0)
    return S4D(6, 16, two_sided=True).to(dtype)


def _candidates(seed=0, clip=CLIP) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, SLOTS + clip, 6, generator=generator, dtype=torch.float64)


def _fading(layer, state, tokens):
    """2 Re(C dA^k state) for k from 1 on, by powers: what silence lets one hear of a state. (B, L, H)"""
    re, im = layer.compute_powers(torch.arange(1, tokens + 1, dtype=state.dtype))
    a, b = (one[..., None] for one in state.chunk(2, -1))
    c_re, c_im = layer.read[0, 0][..., None], layer.read[1, 0][..., None]
    return 2 * (c_re * (a * re - b * im) - c_im * (a * im + b * re)).sum(2).transpose(1, 2)


@pytest.mark.parametrize("slots", [SLOTS, 7, 24])
def test_tokens_are_scored_by_memory_stream_and_what_comes_after(slots):
    """Both scans by their definition: the candidates as a whole, and what is left of the stream's state."""
    layer, u = _layer(), torch.randn(2, slots + CLIP, 6, dtype=torch.float64)
    state = torch.randn(2, 6, 16, dtype=torch.float64)
    expected = layer.steps(u)[0]
    expected[:, slots:] += _fading(layer, state, CLIP)
    y, after = scan_memory_and_clip(layer, u, slots, state)
    torch.testing.assert_close(y, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(after, layer.steps(u[:, slots:], state)[1], atol=1e-10, rtol=0)


def test_the_state_is_that_of_one_pass_over_all_clips_whatever_was_remembered():
    layer, clips = _layer(), [_candidates(seed)[:, SLOTS:] for seed in range(4)]
    state = torch.zeros(2, 6, 16, dtype=torch.float64)
    for number, clip in enumerate(clips):
        memory = torch.randn(2, SLOTS, 6, dtype=torch.float64) * number
        _, state = scan_memory_and_clip(layer, torch.cat([memory, clip], 1), SLOTS, state)
    torch.testing.assert_close(state, layer.steps(torch.cat(clips, 1))[1], atol=1e-10, rtol=0)


def test_single_precision_stays_within_1e_5():
    layer, u = _layer(), _candidates()
    state = torch.randn(2, 6, 16, dtype=torch.float64)
    expected, after = scan_memory_and_clip(layer, u, SLOTS, state)
    y, single = scan_memory_and_clip(layer.float(), u.float(), SLOTS, state.float())
    assert (y - expected).abs().max() < 1e-5 and (single - after).abs().max() < 1e-5


def _s5(**changes):
    network = small_network(sampler="s5", **changes)
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(200, network.config.d_backbone)).astype(np.float32)
    feeds = draw_sampler_feeds(network.config, pool, 2, rng)
    return network, {name: torch.from_numpy(array) for name, array in feeds.items()}


def test_what_is_in_an_invalid_token_changes_nothing():
    network, given = _s5(sampler_layers=2)
    assert isinstance(network.sampler, S5Sampler)
    features = torch.where(given["valid"][..., None], given["features"], torch.tensor(7.0))
    with torch.inference_mode():
        one, two = network.sampler(**given), network.sampler(**{**given, "features": features})
    valid = given["valid"]
    assert not valid.all() and torch.equal(one[0][valid], two[0][valid])
    assert torch.equal(one[1], two[1])


def test_a_clip_is_judged_by_what_the_stream_showed_before():
    network, given = _s5()
    with torch.inference_mode():
        (one, _), (two, _) = (
            network.sampler(**{**given, "sampler_state": state})
            for state in (given["sampler_state"], torch.zeros_like(given["sampler_state"]))
        )
    m = network.config.memory_tokens
    assert torch.equal(one[:, :m], two[:, :m]) and (one[:, m:] - two[:, m:]).abs().max() > 1e-3


def test_every_engine_scores_like_torch_and_carries_the_same_state(tmp_path):
    network, _ = _s5()
    save_weights(network, tmp_path / WEIGHTS)
    weights, program = (tmp_path / WEIGHTS).read_bytes(), trace(network, "sampler")

    def graph(target):
        return lower(program, network.config, "sampler", target)

    def bytes_of(target):
        return serialise(graph(target), read_byte_ranges(tmp_path / WEIGHTS))

    with OnnxRuntimeEngine(bytes_of("onnxruntime"), weights, threads=1) as engine:
        assert check_graph(network, engine, "sampler", "onnxruntime").max_abs_error < 1e-4
    named = {"weights_name": WEIGHTS, "precision": "fp32"}
    with OpenVinoEngine(bytes_of("openvino"), weights, threads=1, **named) as engine:
        assert check_graph(network, engine, "sampler", "openvino").max_abs_error < 1e-4
    text = graph("tensorrt")
    assert text.opset_imports[""] == 17 and len(find_parameters(text)) > 10
    assert {node.op_type for node in text.graph}.isdisjoint({"DFT", "Loop", "Scan", "If"})


def test_a_network_of_either_kind_is_made_from_its_configuration():
    neural, s5 = make_untrained(small_config(), 0), make_untrained(small_config(sampler="s5"), 0)
    assert "sampler.layers.0.attention.query.weight" in neural.state_dict()
    assert s5.sampler.layers[0].space.states == 16 and "sampler.layers.0.space.read" in s5.state_dict()


# -- learning ----------------------------------------------------------------------------------------------


def test_training_carries_each_videos_state_from_visit_to_visit():
    config = toy_config(sampler="s5", dropout=0.0)
    task = toy_task(config, batch=2, chronological=1.0, guidance=0.5)
    carried: dict[int, torch.Tensor] = {}
    task.module.eval()
    for step in range(8):
        batch = task.batch(step)
        firsts = {visit.video: visit.first for visit in task._epoch[task._progress.place - 1]}
        for row, video in enumerate(task._videos.tolist()):
            expected = torch.zeros(config.sampler_state) if firsts[video] else carried[video]
            assert torch.equal(batch["carried"][row], expected)
        with torch.no_grad():
            output = task.module(batch)[2]
        task.update(step, output)
        for row, video in enumerate(task._videos.tolist()):
            carried[video] = output["carried"][row]
            assert carried[video].any()
    again = toy_task(config, batch=2, chronological=1.0, guidance=0.5)
    again.restore(task.state())
    assert torch.equal(again.batch(8)["carried"], task.batch(8)["carried"])


def test_answers_teach_time_constants_which_do_not_decay():
    task = toy_task(toy_config(sampler="s5"), guidance=0.0, new_queries=6)
    for step in range(6):
        batch = task.batch(step)
        loss, _, output = task.module(batch)
        task.update(step, output)
    loss.backward()
    space = task.module.sampler.layers[0].space
    for parameter in (space.log_step, space.log_decay, space.frequency, space.read, space.through):
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()
    *_, dynamics = task.param_groups()
    assert dynamics["weight_decay"] == 0 and len(dynamics["params"]) == 3
