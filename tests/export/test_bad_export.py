"""Bad input of `lvm-export`: one sentence each, and nothing half-written left behind."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch

from engines.bundle import Bundle
from engines.errors import BundleError
from engines.select import load_engine
from export import cli
from export.bundle.checkpoint import save_checkpoint
from export.bundle.writer import write_bundle
from export.quantization.plan import Plan
from tests.support.export_models import card, small_config, small_network

Run = Callable[..., str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = small_network()
    path = tmp_path_factory.mktemp("checkpoints") / "shop.safetensors"
    save_checkpoint(network, card(network), path)
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = small_network()
    path = tmp_path_factory.mktemp("bundles") / "bundle"
    write_bundle(network, card(network), path, Plan(targets=("onnxruntime",)))
    return path


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Run:
    """Runs `lvm-export` in an empty folder and gives the sentence it ends with."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)

    def run(*arguments: object, status: int = 2) -> str:
        monkeypatch.setattr(sys, "argv", ["lvm-export", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        text = [line for line in err.splitlines() if line.startswith("lvm-export: ")]
        assert (end.value.code, out) == (status, ""), err
        assert len(text) == 1 and "Traceback" not in err, err
        assert not list(place.iterdir()), "nothing is left behind"
        return text[0]

    return run


def copied(bundle: Path, folder: Path, graph: Callable[[bytes], bytes]) -> Path:
    """The bundle with another backbone, whose hash is put right."""
    import shutil

    from tests.support.bundles import replace_file

    place = Path(shutil.copytree(bundle, folder / "copy"))
    name = "graphs/onnxruntime/backbone.onnx"
    return replace_file(place, name, graph((place / name).read_bytes()))


def foreign(graph: bytes) -> bytes:
    """Some other network's ONNX."""
    import onnx
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    made = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", [x], [y])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(onnx.ModelProto.SerializeToString(model))


@pytest.mark.parametrize(
    "graph", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"GIF89a"]
)
def test_a_truncated_graph_is_one_sentence(
    bundle: Path, tmp_path: Path, graph: Callable[[bytes], bytes]
) -> None:
    broken = Bundle.open(copied(bundle, tmp_path, graph))
    with pytest.raises(BundleError, match="graph is (damaged or )?no ONNX model") as raised:
        load_engine(broken, "backbone", "onnxruntime")
    assert "\n" not in str(raised.value)


def test_a_foreign_graph_is_refused_before_it_is_run(bundle: Path, tmp_path: Path) -> None:
    other = Bundle.open(copied(bundle, tmp_path, foreign))
    image = np.zeros((1, 56, 56, 3), np.uint8)
    with pytest.raises(ValueError, match=r"feeds must be .*x.*, got .*image"):
        load_engine(other, "backbone", "onnxruntime")({"image": image})


def test_a_damaged_bundle_is_not_exported_again(bundle: Path, tmp_path: Path, refused: Run) -> None:
    broken = copied(bundle, tmp_path, lambda data: data)
    (broken / "graphs/onnxruntime/reader.onnx").write_bytes(b"half")
    assert "reader.onnx" in refused("--bundle", broken)


def test_a_checkpoint_of_another_preset_is_told_apart(tmp_path: Path, refused: Run) -> None:
    network = small_network(d_model=48)
    wide = tmp_path / "wide.safetensors"
    save_checkpoint(network, card(network), wide)
    tensors = safetensors.torch.load_file(wide)
    with safetensors.safe_open(wide, framework="pt") as file:
        told = dict(file.metadata()) | {"network": small_config().model_dump_json()}
    mixed = tmp_path / "mixed.safetensors"
    safetensors.torch.save_file(tensors, mixed, metadata=told)
    assert "do not fit its network" in refused("--checkpoint", mixed)


def test_an_onnx_file_is_no_checkpoint(bundle: Path, refused: Run) -> None:
    graph = bundle / "graphs/onnxruntime/backbone.onnx"
    assert "must be a .safetensors file" in refused("--checkpoint", graph)


def test_a_calibration_that_is_not_there_is_said_first(
    checkpoint: Path, tmp_path: Path, refused: Run
) -> None:
    int8 = ("--checkpoint", checkpoint, "--precision", "int8", "--calibration")
    assert "there is no video, picture or folder" in refused(*int8, tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in refused(*int8, empty)
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    assert "notes.mp4" in refused(*int8, text)


def test_an_output_that_cannot_be_written_is_one_sentence(
    checkpoint: Path, tmp_path: Path, refused: Run
) -> None:
    (tmp_path / "file").write_text("a file")
    text = refused("--checkpoint", checkpoint, "--target", "onnxruntime", "--output", tmp_path / "file" / "b")
    assert f"{tmp_path / 'file' / 'b'} cannot be written: " in text


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: what a full disk says of a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [10_000, 150_000], ids=["the weights", "a graph"])
def test_a_full_disk_is_one_sentence_and_leaves_the_old_bundle(
    size: int, checkpoint: Path, bundle: Path, tmp_path: Path, refused: Run
) -> None:
    copy = copied(bundle, tmp_path, lambda data: data)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with largest_file(size):
        text = refused("--checkpoint", checkpoint, "--target", "onnxruntime", "--output", copy)
    assert f"{copy} cannot be written: " in text and "free some space" in text
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
