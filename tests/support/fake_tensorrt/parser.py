"""ONNX files, and what of them a version reads."""

from __future__ import annotations

import weakref
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import onnx

from tests.support.fake_tensorrt.network import NetworkDefinition, Tensor, dims
from tests.support.fake_tensorrt.version import Fake, Severity, a_logger

_MOST_TOP_K = 3840
_NO_MODEL = "Failed to parse ONNX model"


class ErrorCode(Enum):
    MODEL_DESERIALIZE_FAILED = 3
    UNSUPPORTED_NODE = 8


class ParserError:
    def __init__(self, words: str) -> None:
        self._words = words

    def code(self) -> ErrorCode:
        no_model = self._words.startswith(_NO_MODEL)
        return ErrorCode.MODEL_DESERIALIZE_FAILED if no_model else ErrorCode.UNSUPPORTED_NODE

    def desc(self) -> str:
        return self._words


class OnnxParser:
    fake: ClassVar[Fake]

    def __init__(self, network: NetworkDefinition, logger: Any) -> None:
        a_logger(logger)
        flags = self.fake.NetworkDefinitionCreationFlag
        if self.fake.major == 8 and not network.flags & 1 << int(flags["EXPLICIT_BATCH"]):
            raise AssertionError("This version of the ONNX parser only supports explicit batch networks")
        self._network = network
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse_from_file(self, model: str) -> bool:
        if not isinstance(model, str):
            raise TypeError("parse_from_file(): incompatible function arguments")
        words = self._parse(Path(model))
        if words is not None and self.fake.major == 8 and words.startswith(_NO_MODEL):
            self._network.logger.log(Severity.ERROR, words)  # and to nowhere else
        elif words is not None:
            self._errors.append(ParserError(words))
        return words is None

    def _parse(self, path: Path) -> str | None:
        """Fill the network; what is wrong, in words, where it cannot be."""
        try:
            proto = onnx.load(path)  # with the weights that it names
            onnx.checker.check_model(proto)
        except Exception as error:  # protobuf's and onnx's own, without a common base
            return f"{_NO_MODEL} from file: {path}\n{type(error).__name__}"
        if not proto.graph.node:
            return f"{_NO_MODEL} from file: {path}\nno nodes"
        wrong = _unreadable(proto, self.fake.opset)
        if wrong is not None:
            return wrong
        network, kinds = self._network, self.fake.kinds
        network.model, network.parser = proto, weakref.ref(self)
        network.inputs = [
            Tensor(one.name, dims(one), kinds[one.type.tensor_type.elem_type]) for one in proto.graph.input
        ]
        inferred = onnx.shape_inference.infer_shapes(proto).graph
        known = {
            one.name: kinds.get(one.type.tensor_type.elem_type)
            for one in (*inferred.value_info, *inferred.output)
        }
        network.layers = [
            network.layer(node, [Tensor(name, (), known.get(name)) for name in node.output])
            for node in proto.graph.node
        ]
        return None


def _unreadable(proto: Any, opset: int) -> str | None:
    """What of a valid graph TensorRT cannot take over, in words."""
    version_of = {one.domain: one.version for one in proto.opset_import}
    if version_of[""] > opset:
        return f"opset {version_of['']} is newer than {opset}"
    pictures, flags = (
        {one.name for one in proto.graph.input if one.type.tensor_type.elem_type == element}
        for element in (onnx.TensorProto.UINT8, onnx.TensorProto.BOOL)
    )
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
    for node in proto.graph.node:
        if node.domain:
            return f"No importer registered for op: {node.op_type}"
        if pictures & set(node.input) and node.op_type != "Cast":
            return f"{node.op_type}: UINT8 is not supported, cast the input first"
        if node.op_type == "GatherElements" and node.input[0] in flags:
            return "GatherElements: BOOL is not supported"
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        if node.op_type == "TopK" and int(constants[node.input[1]].reshape(-1)[0]) > _MOST_TOP_K:
            return f"TopK: K exceeds {_MOST_TOP_K}"
    return None
