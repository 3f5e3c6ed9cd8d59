"""A graph of a bundle is of the kind that we export, or one sentence says what it may not have."""

from __future__ import annotations

import json
import os
import time
import zipfile

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.config.paths import default_bundle
from engines.bundle import MAX_ENTRIES, Bundle
from engines.errors import BundleError
from engines.graph_check import MAX_NODES, check_onnx, check_openvino
from engines.manifest import Manifest
from tests.support.bundles import copy_bundle, edit_manifest, replace_file

WEIGHTS = "weights.safetensors"


def _node(kind="Relu", domain="", **attributes):
    return helper.make_node(kind, ["x"], ["y"], domain=domain, **attributes)


def _weights(location=WEIGHTS, offset=0, length=64, dims=(4, 4)):
    tensor = numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
    tensor.ClearField("dims")
    tensor.dims.extend(dims)
    onnx.external_data_helper.set_external_data(tensor, location, offset=offset, length=length)
    tensor.ClearField("raw_data")
    return tensor


def _model(*nodes, weights=(), shape=(1, 4)):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name in ("x", "y")]
    graph = helper.make_graph(list(nodes) or [_node()], "g", ends[:1], ends[1:], list(weights))
    return helper.make_model(graph)


def _check(model, name=WEIGHTS, size=1000):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    check_onnx(data, weights_name=name, weights_bytes=size)


def _refused(model, **more) -> str:
    with pytest.raises(BundleError) as caught:
        _check(model, **more)
    said = str(caught.value)
    assert said.isprintable() and len(said) < 400
    return said


def _within(graph, depth):
    for _ in range(depth):
        branch = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([branch], "g", [], [])
    return helper.make_model(graph)


@pytest.mark.parametrize(
    "file", sorted(default_bundle().glob("graphs/*/*.onnx")), ids=lambda f: f"{f.parent.name}-{f.stem}"
)
def test_every_shipped_graph_passes_in_a_moment(file):
    began = time.thread_time()
    _check(file.read_bytes(), size=os.path.getsize(default_bundle() / WEIGHTS))
    assert time.thread_time() - began < 0.5


def test_weights_inside_or_in_the_one_file_pass():
    inside = numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")
    _check(_model(weights=[inside]), name=None)
    _check(_model(weights=[_weights(offset=936)]))
    _check(_model(_node("MultiHeadAttention", "com.microsoft")))


@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../weights.safetensors", "./weights.safetensors", "", "x", "*/_ORT_MEM_ADDR_/*"],
)
def test_weights_from_elsewhere_are_refused(location):
    assert f"needs weights from {location!r}, expected {WEIGHTS}" in _refused(
        _model(weights=[_weights(location)])
    )


def test_without_a_weights_file_there_are_no_weights_outside():
    assert "expected none outside of it" in _refused(_model(weights=[_weights()]), name=None)


@pytest.mark.parametrize("offset, length", [(937, 64), (-1, 64), (0, 1001), (2**63 - 1, 64), (0, -5)])
def test_weights_beyond_the_file_are_refused(offset, length):
    assert "beyond the 1000 bytes" in _refused(_model(weights=[_weights(offset=offset, length=length)]))


def test_a_constant_in_another_file_is_refused():
    assert "a constant in another file" in _refused(_model(_node("Constant", value=_weights())))
    assert "a constant in another file" in _refused(_within(_model(weights=[_weights()]).graph, 1))


@pytest.mark.parametrize(
    "kind, domain",
    [
        ("EPContext", "com.microsoft"),
        ("Relu", "shop.custom"),
        ("FusedConv", "com.microsoft"),
        ("Relu", "\x1b[31m"),
    ],
)
def test_foreign_operators_are_refused_by_name(kind, domain):
    said = _refused(_model(_node(kind, domain)))
    assert "is not allowed" in said and kind in said


@pytest.mark.parametrize("kind", ["Loop", "Scan", "SequenceMap"])
def test_what_may_run_without_end_is_refused_wherever_it_lies(kind):
    assert f"operator {kind}, which may run without end" in _refused(_model(_node(kind)))
    assert kind in _refused(_within(_model(_node(kind)).graph, 2))


def test_functions_sparse_weights_and_training_are_refused():
    model = _model()
    model.functions.append(
        helper.make_function("d", "f", ["x"], ["y"], [_node()], [helper.make_opsetid("", 17)])
    )
    assert "functions of its own" in _refused(model)
    model = _model()
    model.graph.sparse_initializer.add()
    assert "sparse" in _refused(model)
    model = _model()
    model.training_info.add()
    assert "training" in _refused(model)


def test_oversized_graphs_are_refused():
    assert f"more than {MAX_NODES} operators" in _refused(_model(*[_node()] * (MAX_NODES + 1)))
    assert "deep" in _refused(_within(_model().graph, 5))
    assert "shape" in _refused(_model(shape=(2**40,)))
    assert "shape" in _refused(_model(shape=(2**16, 2**16)))
    assert "shape" in _refused(_model(weights=[_weights(dims=(-1,))]))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"ORTM", b"\x3a\xff", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x3b", b"\xff" * 20],
)
def test_what_is_no_model_is_refused(data):
    assert "no ONNX model" in _refused(data)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_change_of_a_graph_is_checked_or_refused(data):
    model = bytearray(_model(_node("If"), weights=[_weights()]).SerializeToString())
    for _ in range(data.draw(st.integers(1, 5))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    try:
        _check(bytes(model))
    except BundleError as error:
        assert str(error).isprintable()


XML = "<net><layers><layer id='0' type='{}' version='{}'/></layers></net>"


def test_an_openvino_graph_of_standard_operators_passes():
    check_openvino(b"<?xml version='1.0'?><!-- note -->" + XML.format("Parameter", "opset1").encode())


@pytest.mark.parametrize(
    "xml, words",
    [
        (XML.format("Parameter", "extension"), "which is not allowed"),
        (XML.format("Loop", "opset5"), "'Loop' of 'opset5', which is not allowed"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><net>&b;</net>", "document type or entities"),
        ("<net>", "no OpenVINO graph"),
        ("<net/>", "0 layers"),
        ("<net>&b;</net>", "no OpenVINO graph"),
    ],
)
def test_a_hostile_openvino_graph_is_refused(xml, words):
    with pytest.raises(BundleError, match=words):
        check_openvino(xml.encode())


# -- through the bundle ------------------------------------------------------------------------------------


def test_a_bundle_does_not_hand_a_hostile_graph_out(tmp_path):
    bundle = copy_bundle(tmp_path)
    graph = "graphs/onnxruntime/backbone.onnx"
    replace_file(bundle, graph, _model(weights=[_weights("../secret")]).SerializeToString())
    with pytest.raises(BundleError, match=f"{graph}: graph needs weights from '../secret'"):
        Bundle.open(bundle).graph("onnxruntime", "backbone")


def _zip(path, *names):
    with zipfile.ZipFile(path, "w") as out:
        for name in names:
            out.writestr(zipfile.ZipInfo(name), b"{}")
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twin", ["manifest.json", "Manifest.JSON"])
def test_an_archive_with_one_name_twice_is_refused(tmp_path, twin):
    with pytest.raises(BundleError, match="two files of the archive have one name"):
        Bundle.open(_zip(tmp_path / "a.lvm", "manifest.json", twin))


def test_an_archive_of_very_many_files_is_refused_before_it_is_listed(tmp_path):
    archive = _zip(tmp_path / "a.lvm", *(f"{i}" for i in range(MAX_ENTRIES + 1)))
    with pytest.raises(BundleError, match=f"at most {MAX_ENTRIES} files, got {MAX_ENTRIES + 1}"):
        Bundle.open(archive)


def test_a_compressed_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.lvm", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("manifest.json", bytes(5 << 20))
    with pytest.raises(BundleError, match="manifest.json is compressed or encrypted"):
        Bundle.open(tmp_path / "a.lvm")


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda d: d["files"].update({"WEIGHTS.safetensors": d["files"][WEIGHTS]}), "case of letters"),
        (lambda d: d["files"].update({"Manifest.json": d["files"][WEIGHTS]}), "case of letters"),
        (lambda d: d["files"].update({"a//b": d["files"][WEIGHTS]}),
        "stay inside the bundle and be plain names"),
        (lambda d: d["files"].update({"./b": d["files"][WEIGHTS]}), "plain names"),
        (lambda d: d["files"].update({"caf\u00e9": d["files"][WEIGHTS]}), "plain names"),
        (lambda d: d["files"].update({f"f{i}": d["files"][WEIGHTS] for i in range(300)}),
        "at most 256 items"),
        (lambda d: d["files"][WEIGHTS].update(bytes=1 << 40), "less than or equal to"),
        (lambda d: d["network"].update(memory_tokens=10**6, d_backbone=8192), "hold at most"),
        (lambda d: d["network"].update(horizon_s=1e308), "horizon_s"),
        (lambda d: d["network"].update(sample_fps=1e-300), "sample_fps"),
        (lambda d: d["thresholds"].update(interpolate_s=1e308), "interpolate_s"),
        (lambda d: d["thresholds"].update(span_scaling={"a": 1e308, "b": 0}), "span_scaling"),
        (lambda d: d["classes"][0].update(name="\x1b[31mred"), "must be printable"),
        (lambda d: d.update(name="two\nlines"), "must be printable"),
        (lambda d: (d["files"].update({"w/w": d["files"][WEIGHTS]}), d.update(weights="w/w")),
        "beside the manifest"),
    ],
)  # fmt: skip
def test_a_manifest_out_of_bounds_is_refused(tmp_path, change, words):
    data = json.loads((edit_manifest(copy_bundle(tmp_path), change) / "manifest.json").read_text())
    with pytest.raises(ValueError, match=words):
        Manifest.model_validate(data)
