"""Which spans of time can be forgotten."""

import pytest

from edge_runtime.memory.forgetting import check_span
from engines.errors import LvmError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(("start", "end"), [(9, 9), (9, 1), (NAN, 9), (1, NAN), (-INF, 9), (1, INF)])
def test_a_span_that_is_empty_or_not_finite_is_refused(start, end):
    with pytest.raises(LvmError, match="--from must be before --to, both finite, got"):
        check_span(start, end)


def test_any_other_span_is_returned():
    assert check_span(-1.5, 2) == (-1.5, 2)
