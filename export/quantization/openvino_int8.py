"""Quantise for OpenVINO: its own representation, by nncf."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from engines.errors import Unavailable
from engines.manifest import GraphName
from engines.select import usable_cores
from engines.spec import Array, Engine
from export.quantization.int8 import Feeds, Operators, QuantisedGraph

_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
_BARE_SUFFIX = "/WithoutBiases"
"""OpenVINO splits a product with a bias; the product is then named after the node with this suffix."""


class OpenVinoQuantiser:
    """Ranges are the minimum and maximum that `feeds` reach; raises Unavailable without nncf.

    Two defaults of nncf are off, because they broke the reader of the default bundle (error of its worst
    output 44 % with them, 14 % without): ranges averaged over samples cut off what few questions reach, and
    SmoothQuant moves the range of activations into weights.

    Sums, poolings and normalisations stay fp32 too. nncf would give them eight bits of their own, which no
    parameter in `keep` undoes: with every product of the default bundle's backbone in fp32 they alone were
    off by 2.1 %, so the search for 2 % left all of it in fp32.
    """

    def __init__(self, graph: Path, name: GraphName, feeds: Feeds, keep: Sequence[str]) -> None:
        try:
            import nncf  # noqa: F401
            import openvino  # noqa: F401
        except ImportError as error:
            raise Unavailable('int8 for OpenVINO needs nncf; pip install "lvm-edge[export]"') from error
        # Not nncf.set_log_level: it sets the level of every handler that is there, the caller's too.
        logging.getLogger("nncf").setLevel(logging.ERROR)
        self._graph, self._name, self._feeds = graph, name, feeds
        self._operators = Operators.from_graph(graph, keep)

    @property
    def parameters(self) -> Sequence[str]:
        return list(self._operators.free)

    def quantise(self, keep: Collection[str] = ()) -> QuantisedGraph:
        import nncf
        import openvino as ov
        from nncf.quantization import advanced_parameters as advanced
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        from engines.openvino_engine import core

        source = core().read_model(self._graph, config={"ENABLE_MMAP": False})
        fp32_products = set(self._operators.list_fp32(keep))
        # Names of this very model: OpenVINO numbers the parts of a normalisation anew with each reading.
        whole = [
            str(operator.get_friendly_name())
            for operator in source.get_ops()
            if operator.get_type_name() not in _PRODUCTS
            or operator.get_friendly_name().removesuffix(_BARE_SUFFIX) in fp32_products
        ]
        samples = list(_split_batches(self._feeds))
        model = nncf.quantize(
            source,
            nncf.Dataset(samples),
            subset_size=len(samples),
            model_type=None if self._name == "backbone" else nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=whole, validate=False),
            advanced_parameters=advanced.AdvancedQuantizationParameters(
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                smooth_quant_alphas=advanced.AdvancedSmoothQuantParameters(convolution=-1, matmul=-1),
            ),
        )
        with tempfile.TemporaryDirectory(prefix="lvm-export-") as folder:
            path = Path(folder) / "graph.xml"
            ov.save_model(model, str(path), compress_to_fp16=False)
            return QuantisedGraph(path.read_bytes(), path.with_suffix(".bin").read_bytes())

    def load(self, quantised: QuantisedGraph) -> Engine:
        from engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(
            quantised.graph, None, weights_name="", own=quantised.weights, precision="int8",
            threads=usable_cores(),
        )  # fmt: skip


def _split_batches(feeds: Feeds) -> Iterator[dict[str, Array]]:
    """Yield the samples of all feeds, each with batch 1."""
    for feed in feeds:
        for row in range(len(next(iter(feed.values())))):
            yield {name: np.ascontiguousarray(array[row : row + 1]) for name, array in feed.items()}
