"""How far a graph alone is from its network: what counts, and what no caller reads."""

import numpy as np
import pytest

from export.networks.heads import UNANSWERABLE
from export.parity.relative_error import Errors

READ, LEFT = -5.0, UNANSWERABLE


def answers(pointer, boxes):
    """One question: `pointer` (n,), boxes (L, 4) whose numbers are all the same at each step."""
    return {
        "pointer_logits": np.array([pointer], np.float32),
        "boxes_cxcywh": np.repeat(np.array(boxes, np.float32)[None, :, None], 4, axis=2),
    }


def feeds(tokens, steps):
    return {
        "memory_tick": np.array([tokens], np.int32),
        "memory_valid": np.ones((1, len(tokens)), np.bool_),
        "query_tick": np.array([steps], np.int32),
        "query_valid": np.ones((1, len(steps)), np.bool_),
    }


def error_of_boxes(given, wanted, got):
    errors = Errors()
    errors.add(wanted, got, given)
    return errors.relative()["boxes_cxcywh"]


MANY = list(range(2000, 2012))
"""Ticks of tokens that both read, so that two others are a small share."""


def near_tie(boxes_of_one, boxes_of_other):
    """Of two tokens of nearly equal relevance, at 100 and at 900, each reader read another one."""
    given = feeds([100, 500, 900, *MANY], [90, 480, 930])
    expected = answers([READ, READ, LEFT] + [READ] * len(MANY), boxes_of_one)
    return given, expected, answers([LEFT, READ, READ] + [READ] * len(MANY), boxes_of_other)


def test_a_box_of_a_token_that_only_one_reader_read_is_no_error():
    given, expected, got = near_tie([0.2, 0.5, 0.5], [0.5, 0.5, 0.8])
    assert error_of_boxes(given, expected, got) == 0


def test_boxes_of_tokens_that_both_read_count_whatever_else_they_read():
    given, expected, got = near_tie([0.2, 0.5, 0.5], [0.5, 0.6, 0.8])
    assert error_of_boxes(given, expected, got) == pytest.approx(0.1 / 0.5)


def test_a_step_as_near_to_a_token_that_both_read_counts():
    given = feeds([100, 100, *MANY], [100])
    both = [READ] * len(MANY)
    assert (
        error_of_boxes(given, answers([READ, LEFT, *both], [0.4]), answers([READ, READ, *both], [0.6])) > 0.4
    )


def test_where_both_read_the_same_every_box_counts():
    given = feeds([100, 500], [100, 500])
    expected, got = answers([READ, LEFT], [0.4, 0.4]), answers([READ, LEFT], [0.4, 0.8])
    assert error_of_boxes(given, expected, got) == pytest.approx(np.sqrt(0.5))


@pytest.mark.parametrize("read", [[LEFT, LEFT, READ], [LEFT, LEFT, LEFT]], ids=["others", "none"])
def test_a_reader_that_reads_altogether_other_tokens_is_excused_nothing(read):
    given = feeds([100, 500, 900], [90, 480, 930])
    expected, got = answers([READ, READ, LEFT], [0.2, 0.5, 0.5]), answers(read, [0.9, 0.9, 0.01])
    assert error_of_boxes(given, expected, got) > 0.5
    errors = Errors()
    errors.add(expected, got, given)
    assert errors.relative()["pointer_logits"] > 0.5


def test_a_pointer_that_is_nan_is_no_token_left_out():
    given = feeds([100, 500, 900], [90, 480, 930])
    expected, got = answers([READ] * 3, [0.5] * 3), answers([READ, np.nan, READ], [0.5] * 3)
    errors = Errors()
    errors.add(expected, got, given)
    assert np.isnan(errors.relative()["pointer_logits"])


def test_a_nan_is_never_left_out_where_both_read():
    given, expected, got = near_tie([0.2, 0.5, 0.5], [0.5, np.nan, 0.8])
    assert np.isnan(error_of_boxes(given, expected, got))
