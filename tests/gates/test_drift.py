"""The drift gate: an untouched export passes, every deliberate break is caught and its graph is named."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.frame import to_tick
from engines.errors import EngineFault, GateFailed, LvmError
from engines.manifest import GRAPHS, GraphName
from engines.onnxruntime_engine import OnnxRuntimeEngine
from engines.spec import Array
from export.gates.drift import measure_drift
from export.gates.limits import GateLimits, Limits
from export.gates.result import Drift, Finding, GateResult
from export.gates.run import require_passed
from export.networks.model import TorchEngine
from export.onnx_graphs.build import lower, serialise, trace
from export.onnx_graphs.external_weights import WEIGHTS, read_byte_ranges, save_weights
from export.parity.check import check_graph, make_cases
from export.stream_runs.footage import FileReplay, open_footage
from tests.support.export_models import small_network
from tests.support.gate_runs import (
    DEMO,
    FOOTAGE,
    SETTINGS,
    Change,
    change_outputs,
    make_graphs,
    make_manifest,
    make_toy,
    remove_layer,
    run_drift,
)

NETWORK = make_toy()
BLIND_TO_TENSORS = {"error": 1e9}
"""Limits that leave single outputs out, so that only what comes of them can be caught."""


def save_images(folder: Path, count: int) -> None:
    """Pictures of noise, so that each has something of its own to be remembered."""
    for number in range(count):
        image = np.random.default_rng(number).integers(0, 255, (9, 12, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:03d}.png"), cv2.resize(image, (64, 64)))


def only(**changes: float) -> dict[str, Any]:
    """Settings with other limits for fp32."""
    fp32 = Limits.model_validate(GateLimits().fp32.model_dump() | changes)
    return {"limits": GateLimits().model_copy(update={"fp32": fp32})}


def graphs_named(found: Drift) -> set[GraphName | None]:
    return {finding.graph for finding in found.findings if finding.certain}


def first(found: Drift, quantity: str) -> Finding:
    return next(finding for finding in found.findings if finding.quantity == quantity)


@pytest.mark.parametrize("seed", range(3))
def test_an_untouched_export_passes_whatever_is_watched_and_asked(seed: int) -> None:
    found = run_drift(
        NETWORK, make_graphs(NETWORK), open_footage([f"{DEMO}&seed={seed}"], (), seed)[0], seed=seed
    )
    assert found.findings == ()
    assert [one.frame for one in found.checkpoints] == [4, 8, 12]
    assert found.final is not None and found.final.agreement.questions == SETTINGS.questions
    assert found.final.agreement.answers == found.final.tokens == 1


def test_equal_runs_give_equal_numbers() -> None:
    broken = remove_layer(NETWORK, "sampler", "norm")
    assert run_drift(NETWORK, broken) == run_drift(NETWORK, broken)


def scaled(name: str, factor: float) -> Change:
    def change(outputs: dict[str, Array]) -> None:
        outputs[name] *= np.float32(factor)

    return change


def swapped(outputs: dict[str, Array]) -> None:
    """Two cells of every picture change places."""
    outputs["tokens"][:, [10, 30]] = outputs["tokens"][:, [30, 10]]


def transposed(outputs: dict[str, Array]) -> None:
    """Rows and columns of the 7 x 7 grid change places: an exporter's most usual mistake."""
    tokens = outputs["tokens"]
    tokens[:] = tokens.reshape(-1, 7, 7, tokens.shape[-1]).swapaxes(1, 2).reshape(tokens.shape)


@pytest.mark.parametrize(
    ("name", "output", "factor"),
    [("backbone", "tokens", 1.02), ("sampler", "score", 1.05), ("reader", "boxes_cxcywh", 0.98)],
)
def test_a_wrong_scale_is_caught(name: GraphName, output: str, factor: float) -> None:
    found = run_drift(NETWORK, change_outputs(NETWORK, name, scaled(output, factor)))
    finding = first(found, "error")
    assert (finding.graph, finding.frame, finding.certain) == (name, 4, True)
    assert finding.value == pytest.approx(abs(factor - 1), rel=1e-3)
    assert f"output {output} differs by {abs(factor - 1):.2%}" in finding.words
    assert graphs_named(found) == {name}


@pytest.mark.parametrize("change", [swapped, transposed])
def test_a_permuted_cell_is_caught_by_what_is_remembered(change: Change) -> None:
    found = run_drift(NETWORK, change_outputs(NETWORK, "backbone", change), **only(**BLIND_TO_TENSORS))
    assert {"tokens", "kept"} <= {finding.quantity for finding in found.findings}
    assert graphs_named(found) == {"backbone"}


@pytest.mark.parametrize(
    ("name", "layer", "seen"),
    [
        ("backbone", "norm", "tokens"),
        ("sampler", "norm", "tokens"),
        ("sampler", "layers.0.norm", "tokens"),
        ("reader", "encoder.0.norm", "box_iou"),
    ],
)
def test_a_dropped_layer_norm_is_caught_by_what_comes_of_it(name: GraphName, layer: str, seen: str) -> None:
    found = run_drift(NETWORK, remove_layer(NETWORK, name, layer), **only(**BLIND_TO_TENSORS))
    assert first(found, seen).graph == name
    assert graphs_named(found) <= {name}
    assert first(run_drift(NETWORK, remove_layer(NETWORK, name, layer)), "error").graph == name


def nan_in(name: str, place: int = 0) -> Change:
    def change(outputs: dict[str, Array]) -> None:
        outputs[name].reshape(-1)[place] = np.nan

    return change


@pytest.mark.parametrize(
    ("name", "output", "call", "frame"),
    [
        ("backbone", "tokens", 0, 0),
        ("backbone", "tokens", 12, None),
        ("sampler", "score", 3, 4),
        ("reader", "activity_logits", 0, 4),
        ("reader", "boxes_cxcywh", 1, None),
        ("reader", "presence_logit", 5, None),
        ("reader", "evidence", 8, None),
    ],
)
def test_one_nan_is_caught_wherever_it_occurs(
    name: GraphName, output: str, call: int, frame: int | None
) -> None:
    found = run_drift(NETWORK, change_outputs(NETWORK, name, nan_in(output), calls=[call]))
    finding = found.findings[-1]
    assert (finding.quantity, finding.graph, finding.certain) == ("finite", name, True)
    assert output in finding.words and found.final is None
    assert frame is None or finding.frame == frame


@pytest.mark.parametrize(("name", "call"), [("backbone", 9), ("sampler", 3), ("reader", 1)])
def test_an_engine_that_fails_in_mid_run_fails_the_gate_with_its_report(
    name: GraphName, call: int, tmp_path: Path
) -> None:
    def lost(outputs: dict[str, Array]) -> None:
        raise RuntimeError("device lost")

    found = run_drift(NETWORK, change_outputs(NETWORK, name, lost, calls=[call]))
    finding = found.findings[-1]
    assert (finding.quantity, finding.graph, finding.certain) == ("fault", name, True)
    assert finding.words == "the engine failed: fake failed: device lost" and found.final is None
    result = GateResult(
        bundle="shop", digest="0" * 64, backend="fake", limits=GateLimits().fp32, seed=0, seconds=1.0,
        precisions=dict.fromkeys(GRAPHS, "fp32"), drift=(found,),
    )  # fmt: skip
    with pytest.raises(GateFailed, match=f"{name}, .*the engine failed") as raised:
        require_passed(result, tmp_path / "gates.html")
    assert raised.value.exit_status == 3 and "device lost" in (tmp_path / "gates.html").read_text()


def test_a_reference_that_fails_is_no_fault_of_the_export() -> None:
    def lost(outputs: dict[str, Array]) -> None:
        raise RuntimeError("no memory")

    manifest = make_manifest(NETWORK)
    broken = change_outputs(NETWORK, "sampler", lost)
    with pytest.raises(EngineFault, match="no memory"):
        measure_drift(
            manifest, broken, make_graphs(NETWORK), dict.fromkeys(GRAPHS, "fp32"), FOOTAGE, SETTINGS
        )


def test_a_nan_that_nobody_may_read_is_none() -> None:
    def change(outputs: dict[str, Array]) -> None:
        outputs["pointer_offsets"][outputs["pointer_logits"] < -1e8] = np.nan

    assert run_drift(NETWORK, change_outputs(NETWORK, "reader", change), frames=4).findings == ()


def test_what_half_precision_cannot_remember_is_caught() -> None:
    found = run_drift(NETWORK, change_outputs(NETWORK, "backbone", scaled("tokens", 1e5)))
    assert found.findings[0].graph == "backbone" and "too large a number" in found.findings[0].words


def test_the_step_is_the_first_checkpoint_beyond_the_limit() -> None:
    late = change_outputs(NETWORK, "backbone", transposed, calls=range(12, 10**6))
    found = run_drift(NETWORK, late, every=2)
    steps = {one.frame: one.tokens for one in found.checkpoints}
    limit = SETTINGS.limits.fp32.tokens
    expected = min(frame for frame, tokens in steps.items() if tokens < limit)
    assert first(found, "tokens").frame == expected > 2
    assert len([finding for finding in found.findings if finding.quantity == "tokens"]) == 1, "said once"


def test_a_network_that_gives_nan_itself_is_no_reference() -> None:
    broken = make_toy()
    broken.sampler.score.bias.data[:] = float("nan")
    with pytest.raises(LvmError, match="the network itself gives NaN or Inf in score of its sampler"):
        run_drift(broken, make_graphs(NETWORK))


def test_files_are_watched_one_after_the_other_and_again(tmp_path: Path) -> None:
    save_images(tmp_path, 5)
    footage = open_footage([str(tmp_path), str(tmp_path)], (), 0)
    assert len(footage) == 1
    frames, times = [], []
    for frame in footage[0].frames(2.0):
        frames.append(frame.image)
        times.append(frame.t)
        if len(times) == 23:
            break
    assert np.diff(times).min() >= 0.5 - 1e-9 and np.diff(times).max() <= 0.6 + 1e-9
    assert len({to_tick(t) for t in times}) == len(times)
    assert (frames[0] == frames[5]).all() and (frames[4] == frames[19]).all()


def test_real_footage_is_asked_about_what_was_remembered_of_it(tmp_path: Path) -> None:
    save_images(tmp_path, 7)
    photo = sorted(tmp_path.iterdir())[0]
    runs = []
    for _ in range(2):
        footage = open_footage([str(tmp_path)], [photo], 3)[0]
        assert isinstance(footage, FileReplay)
        runs.append(run_drift(NETWORK, make_graphs(NETWORK), footage))
        shown = footage.make_question_generator(["a"]).objects
        assert 2 <= len(shown) <= 25 and len({one.photos for one in shown}) > 2
    assert runs[0] == runs[1] and runs[0].findings == () and runs[0].frames == SETTINGS.frames
    assert set(runs[0].checkpoints[-1].agreement.by_kind) == {"activity", "object", "time"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("rtsp://u:secret@host/live", "is live"),
        ("nowhere.mp4", "there is no video"),
        ("demo?x=1", "settings"),
    ],
)
def test_what_cannot_be_watched_twice_is_refused(source: str, said: str) -> None:
    with pytest.raises(LvmError, match=said) as raised:
        open_footage([source], (), 0)
    assert "secret" not in str(raised.value)


def test_an_irrelevant_token_weighs_as_little_on_onnxruntime_as_in_torch() -> None:
    """onnxruntime's sigmoid ends at 18: its logarithm was -inf for what torch still weighed."""
    network = small_network(reader_candidates=16, encoder_layers=1, decoder_layers=1, sampler_layers=1)
    relevance = network.reader.relevance
    assert relevance is not None
    relevance.score.weight.data *= 60
    relevance.score.bias.data -= 30
    attention = network.reader.encoder[0].attention  # so sharp that it asks for what is irrelevant
    for part in (attention.query, attention.key):
        part.weight.data *= 8
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        save_weights(network, path)
        model = lower(trace(network, "reader"), network.config, "reader", "onnxruntime")
        graph = serialise(model, read_byte_ranges(path))
        weights = path.read_bytes()
    with OnnxRuntimeEngine(graph, weights, threads=1) as engine:
        given = next(make_cases(network, "reader")).feeds
        expected = TorchEngine(network, "reader")(given)["relevance"]
        assert expected.min() < -20
        assert check_graph(network, engine, "reader", "onnxruntime").max_abs_error < 1e-3
