"""Eight bits for OpenVINO: its own representation, by nncf."""

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
from export.quantization.int8 import Feeds, Operators, Quantised

_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
_BARE = "/WithoutBiases"
"""OpenVINO takes a product with a bias apart: the product is then named so after the node."""


class OpenVinoQuantiser:
    """Ranges are the least and largest values that `feeds` reach; raises Unavailable without nncf.

    Two habits of nncf are switched off, because they broke the reader of the default bundle (error of its
    worst output 44 % with them, 14 % without): ranges averaged over samples cut off what few questions
    reach, and SmoothQuant moves the spread of activations into weights.

    Sums, poolings and normalisations stay as they are too. nncf would give them eight bits of their own, and
    no parameter that is kept takes those back: with every product of the default bundle's backbone in fp32
    they alone were off by 2.1 %, so the search for 2 % kept all of it and ended with nothing.
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
        self._operators = Operators.of(graph, keep)

    @property
    def parameters(self) -> Sequence[str]:
        return list(self._operators.free)

    def quantised(self, keep: Collection[str] = ()) -> Quantised:
        import nncf
        import openvino as ov
        from nncf.quantization import advanced_parameters as advanced
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        from engines.openvino_engine import core

        source = core().read_model(self._graph, config={"ENABLE_MMAP": False})
        kept = set(self._operators.kept(keep))
        # Names of this very model: what OpenVINO makes of a normalisation is numbered anew with each reading.
        whole = [
            str(one.get_friendly_name())
            for one in source.get_ops()
            if one.get_type_name() not in _PRODUCTS or one.get_friendly_name().removesuffix(_BARE) in kept
        ]
        samples = list(_single(self._feeds))
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
            return Quantised(path.read_bytes(), path.with_suffix(".bin").read_bytes())

    def load(self, quantised: Quantised) -> Engine:
        from engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(
            quantised.graph, None, weights_name="", own=quantised.weights, precision="int8",
            threads=usable_cores(),
        )  # fmt: skip


def _single(feeds: Feeds) -> Iterator[dict[str, Array]]:
    """One sample after the other."""
    for one in feeds:
        for row in range(len(next(iter(one.values())))):
            yield {name: np.ascontiguousarray(array[row : row + 1]) for name, array in one.items()}
