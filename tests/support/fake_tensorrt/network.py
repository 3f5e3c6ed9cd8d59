"""Networks: what a parser fills and a builder reads."""

from __future__ import annotations

from typing import Any

from tests.support.fake_tensorrt.version import Fake, LayerType


class Tensor:
    def __init__(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype


class Layer:
    """One node of the graph. From 11 on, a layer's types cannot be told."""

    def __init__(self, fake: Fake, node: Any, outputs: list[Tensor]) -> None:
        self.name = node.name or node.output[0]
        self.type = {"Constant": LayerType.CONSTANT, "Softmax": LayerType.SOFTMAX}.get(
            node.op_type, LayerType.OTHER
        )
        self.pinned: Any = None
        self.pinned_outputs: dict[int, Any] = {}
        self._fake, self._outputs = fake, outputs

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_output(self, index: int) -> Tensor:
        return self._outputs[index]


class WeakLayer(Layer):
    """Until 10: precision and types of outputs can be pinned."""

    @property
    def precision(self) -> Any:
        return self.pinned

    @precision.setter
    def precision(self, dtype: Any) -> None:
        if self.type is LayerType.CONSTANT:
            raise AssertionError("the precision of a constant is that of its weights")
        self.pinned = dtype

    def set_output_type(self, index: int, dtype: Any) -> None:
        if not isinstance(dtype, self._fake.DataType):
            raise TypeError("dtype must be a DataType")
        self.pinned_outputs[index] = dtype


class NetworkDefinition:
    def __init__(self, fake: Fake, flags: int, logger: Any) -> None:
        self.flags, self.logger = flags, logger
        self.model: Any = None
        self.parser: Any = None
        """A weak reference: the network points into memory of whatever parsed it."""
        self.inputs: list[Tensor] = []
        self.layers: list[Layer] = []
        self._fake = fake

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def layer(self, node: Any, outputs: list[Tensor]) -> Layer:
        """A layer of this version."""
        return (WeakLayer if self._fake.major < 11 else Layer)(self._fake, node, outputs)


class OptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        shapes = [list(min), list(opt), list(max)]
        if not all(type(size) is int for shape in shapes for size in shape):
            raise TypeError("shapes must be of int")
        if any(
            a > b
            for low, high in zip(shapes, shapes[1:], strict=False)
            for a, b in zip(low, high, strict=True)
        ):
            raise ValueError("Shape provided for min is inconsistent with other shapes")
        self.shapes[input] = shapes


def dims(value: Any) -> tuple[int, ...]:
    """Sizes of an ONNX value, -1 for a free one."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim
    )
