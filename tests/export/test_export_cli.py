"""`lvm-export` as a person runs it."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engines.bundle import Bundle
from engines.errors import GateFailed
from engines.tensorrt_versions import tensorrt_problem
from export import cli
from export.bundle.checkpoint import save_checkpoint
from tests.support.export_models import card, small_config, small_network

NAMES = "pick_belt scan weigh bag return_shelf inspect hand_over conceal unbag sticker".split()


def run(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["lvm-export", *map(str, arguments)])
    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = small_network()
    path = tmp_path_factory.mktemp("checkpoints") / "shop.safetensors"
    save_checkpoint(network, card(network), path)
    return path


def test_a_checkpoint_becomes_a_bundle_and_the_bundle_can_be_exported_again(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    first, second = tmp_path / "first", tmp_path / "bundle-fp32"
    target = ("--target", "onnxruntime")
    status, out, _ = run(monkeypatch, capsys, "--checkpoint", checkpoint, "--output", first, *target)
    assert status == 0
    summary = json.loads(out.splitlines()[-1])
    assert (
        summary["name"] == card(small_network()).name
        and summary["bundle"] == str(first)
        and not summary["trained"]
    )
    assert [row["graph"] for row in summary["graphs"]] == ["backbone", "sampler", "reader"]
    assert "tolerance" in out

    # Bare, it takes the default bundle and writes beside the caller.
    monkeypatch.setattr("edge_runtime.config.paths.default_bundle", lambda: first)
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(monkeypatch, capsys, "--precision", "fp32", *target)
    assert status == 0 and json.loads(out.splitlines()[-1])["bundle"] == "bundle-fp32"
    assert _untimed(first) == _untimed(second)


def test_a_memory_of_another_size_needs_no_other_training(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    expected = ("--checkpoint", checkpoint, "--target", "onnxruntime", "--memory-tokens")
    status, _, err = run(monkeypatch, capsys, *expected, 90, "--output", tmp_path / "b")
    assert status == 0, err
    manifest = Bundle.open(tmp_path / "b").manifest
    trained = small_network().config
    assert manifest.network == trained.model_copy(update={"memory_tokens": 90}) != trained
    status, _, err = run(monkeypatch, capsys, *expected, 0, "--output", tmp_path / "none")
    assert status == 2 and "a memory of 0 tokens cannot be" in err and not (tmp_path / "none").exists()


def test_which_relevant_tokens_leave_is_settled_without_other_training(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    given, expected = ("--checkpoint", checkpoint), ("--target", "onnxruntime", "--frames", 0)
    for option, spread in (("--spread", True), ("--no-spread", False)):
        place = tmp_path / option
        status, _, err = run(monkeypatch, capsys, *given, *expected, option, "--output", place)
        assert status == 0, err
        manifest = Bundle.open(place).manifest
        assert manifest.network == small_network().config.model_copy(update={"spread": spread})
        given = ("--bundle", place)
    network = small_network()
    text = card(network)
    unguided = text.training.model_copy(update={"recipe": json.dumps({"lvm": {"guidance": 0.0}})})
    save_checkpoint(network, replace(text, training=unguided), tmp_path / "unguided.safetensors")
    given = ("--checkpoint", tmp_path / "unguided.safetensors", *expected, "--output", tmp_path / "no")
    status, _, err = run(monkeypatch, capsys, *given, "--spread")
    assert status == 2 and "lvm.guidance=0" in err and not (tmp_path / "no").exists()


def test_tensorrts_graphs_are_compared_through_onnxruntime_where_there_is_no_gpu(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    if tensorrt_problem() is None:
        pytest.skip("this machine has TensorRT")
    arguments = ("--checkpoint", checkpoint, "--output", tmp_path / "b", "--target", "tensorrt")
    status, out, err = run(monkeypatch, capsys, *arguments)
    assert status == 0, err
    assert "tensorrt: compared through onnxruntime CPU, not run on TensorRT here" in out
    manifest = Bundle.open(tmp_path / "b").manifest
    assert [record.compared_through for record in manifest.parity] == ["onnxruntime CPU"] * 3
    assert all(record.max_abs_error <= record.tolerance for record in manifest.parity)
    assert not list(tmp_path.glob("*.plans")), "nothing was built"


def _untimed(bundle: Path) -> Any:
    """The manifest without what no two exports share: how long a call took."""
    manifest = Bundle.open(bundle).manifest
    parity = tuple(record.model_copy(update={"ms": None}) for record in manifest.parity)
    return manifest.model_copy(update={"parity": parity})


def test_preset_tiny_has_the_activities_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    # The name decides the classes; a smaller network than tiny's spares ten seconds.
    monkeypatch.setattr("export.bundle.checkpoint.load_preset", lambda name: small_config(activities=10))
    preset = ("--preset", "tiny", "--init", 5)
    status, out, _ = run(monkeypatch, capsys, *preset, "--target", "onnxruntime", "--output", tmp_path / "b")
    assert status == 0
    manifest = Bundle.open(tmp_path / "b").manifest
    assert [activity.name for activity in manifest.classes] == NAMES
    assert manifest.training.model_dump(exclude_defaults=True) == {
        "trained": False, "recipe": "initialised", "seed": 5,
    }  # fmt: skip
    assert json.loads(out.splitlines()[-1])["bytes"] < 16 << 20


def test_a_preset_may_choose_its_tokens_with_s5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("export.bundle.checkpoint.load_preset", lambda name: small_config(activities=10))
    given = ("--preset", "tiny", "--init", 5, "--sampler", "s5", "--target", "onnxruntime")
    status, _, err = run(monkeypatch, capsys, *given, "--output", tmp_path / "b")
    assert status == 0, err
    bundle = Bundle.open(tmp_path / "b")
    assert bundle.manifest.network.sampler == "s5" and not bundle.manifest.training.trained


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--precision", "int8"), "--precision int8 needs --calibration: a video, a folder"),
        (("--precision", "fp8"), "--precision must be one of fp32, fp16, bf16, w8, int8, auto, got fp8"),
        (("--gates", "nowhere.yaml"), "nowhere.yaml"),
        (
            ("--target", "coreml"),
            "--target coreml is not in this version; it knows onnxruntime, openvino, tensorrt",
        ),
        (("--sampler", "lru"), "--sampler lru is not in this version; it knows neural, s5"),
        (("--sampler", "s5"), "--sampler must be what the network was trained with, neural, got s5"),
        (("--context", "svd,sound"), "--context sound is not in this version; it knows svd, text, region"),
        (("--context", "svd,text"), "--context must be what the network was trained with, svd, got svd,text"),
        (("--preset", "tiny"), "--preset and --init belong together"),
        (("--init", "1"), "--preset and --init belong together"),
        (("--preset", "huge", "--init", "1"), "preset must be one of edge, lite, paper, tiny, got huge"),
        (("--bundle", "a", "--checkpoint", "b"), "give one of --checkpoint, --bundle and --preset"),
        (("--bundle", "nowhere"), "bundle nowhere does not exist"),
        (("--checkpoint", "nowhere"), "checkpoint nowhere does not exist"),
    ],
)
def test_wrong_use_is_one_sentence_and_status_2(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run(monkeypatch, capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("lvm-export: ") and said in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", None])
def test_a_foreign_checkpoint_is_one_sentence(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path = tmp_path / "x.safetensors"
    if content is None:
        import torch
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    monkeypatch.chdir(tmp_path)
    status, _, err = run(monkeypatch, capsys, "--checkpoint", path)
    assert status == 2 and err.count("\n") == 1 and "checkpoint" in err


def test_a_missing_workbench_is_one_sentence_and_status_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "onnxscript" else find(name, *rest)
    )
    status, _, err = run(monkeypatch, capsys, "--preset", "tiny", "--init", 0, "--output", tmp_path / "b")
    assert status == 4
    assert err == 'lvm-export: onnxscript not installed; pip install "lvm-edge[export]"\n'


def test_a_graph_that_differs_is_status_3(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(*given: object) -> None:
        raise GateFailed("onnxruntime reader: output evidence differs from torch by 1")

    monkeypatch.setattr("export.bundle.writer.write_bundle", fail)
    place = tmp_path / "b"
    status, _, err = run(
        monkeypatch, capsys, "--checkpoint", checkpoint, "--output", place, "--target", "onnxruntime"
    )
    assert status == 3 and "differs from torch" in err
    assert not place.exists()


def test_a_place_that_cannot_be_written_is_one_sentence(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "bundle"
    status, _, err = run(monkeypatch, capsys, "--checkpoint", checkpoint, "--output", place)
    assert status == 2 and err.splitlines()[-1].startswith("lvm-export: ") and "Traceback" not in err


def test_help_needs_no_torch(tmp_path: Path) -> None:
    import subprocess

    code = "import sys, export.cli; sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
