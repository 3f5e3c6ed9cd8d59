"""Early or late: what a reader is told of a token's place among the relevant ones around it."""

import json

import pytest
import torch

from export.networks.model import make_untrained
from export.networks.positions import RelativeTime, seconds_after_neighbours
from export.networks.reader import Reader
from tests.support.training_models import toy_config

SURE, NOT = 20.0, -20.0


def told(ticks, relevance, valid=None):
    there = torch.ones(1, len(ticks), dtype=torch.bool) if valid is None else torch.tensor([valid])
    return seconds_after_neighbours(
        torch.tensor([ticks], dtype=torch.int32), torch.tensor([relevance]), there
    )[0]


def test_a_token_is_late_by_its_seconds_after_the_mean_of_the_relevant_ones():
    assert told([10, 20, 30], [SURE] * 3).tolist() == pytest.approx([-2, 0, 2], abs=1e-5)
    assert told([10, 20, 30], [SURE, SURE, NOT])[2].item() == pytest.approx(3, abs=1e-3)


def test_what_is_not_relevant_not_there_or_of_another_event_does_not_count():
    alone = told([100, 110], [SURE] * 2).tolist()
    assert alone == pytest.approx([-1, 1], abs=1e-5)
    assert told([100, 110, 130], [SURE, SURE, NOT])[:2].tolist() == pytest.approx(alone, abs=1e-5)
    assert told([100, 110, 130], [SURE] * 3, [True, True, False])[:2].tolist() == pytest.approx(alone)
    assert told([100, 110, 161], [SURE] * 3)[:2].tolist() == pytest.approx(alone, abs=1e-5)  # 10.2 s later


def test_nothing_relevant_around_gives_a_number():
    found = told([5, 6], [-1e4, -1e4], [False, False])
    assert found.tolist() == [0, 0]


def test_when_it_was_makes_no_difference_but_the_order_does():
    order, tokens = RelativeTime(8), torch.randn(1, 3, 8)
    torch.nn.init.normal_(order.change.weight)
    tick, sure = torch.tensor([[5, 30, 40]], dtype=torch.int32), torch.full((1, 3), SURE)
    there = torch.ones(1, 3, dtype=torch.bool)
    added = order(tokens, tick, sure, there)
    torch.testing.assert_close(order(tokens, tick + 150_000, sure, there), added)
    torch.testing.assert_close(order(tokens, 45 - tick, sure, there), -added)
    torch.testing.assert_close(order(2 * tokens, tick, sure, there), 2 * added)


def test_it_is_nothing_at_first_and_learned():
    plain = toy_config(image_size=56, reader_candidates=20)
    without, reader = (
        make_untrained(plain, 0).reader,
        make_untrained(plain.model_copy(update={"order": True}), 0).reader,
    )
    missing, unexpected = reader.load_state_dict(without.state_dict(), strict=False)
    assert missing == ["order.change.weight", "order.change.bias"] and not unexpected
    generator = torch.Generator().manual_seed(1)
    n, steps = plain.reader_tokens, plain.query_steps
    asked = {
        "memory_features": torch.randn(2, n, plain.d_backbone, generator=generator),
        "memory_tick": torch.arange(n, dtype=torch.int32).repeat(2, 1),
        "memory_cell": torch.zeros(2, n, dtype=torch.int32),
        "memory_valid": torch.ones(2, n, dtype=torch.bool),
        "object_tokens": torch.randn(2, 49, plain.d_backbone, generator=generator),
        "object_valid": torch.ones(2, dtype=torch.bool),
        "activity": torch.zeros(2, plain.activities),
        "activity_valid": torch.zeros(2, dtype=torch.bool),
        "query_tick": torch.arange(steps, dtype=torch.int32).repeat(2, 1),
        "query_valid": torch.ones(2, steps, dtype=torch.bool),
        "svd_basis": torch.randn(2, plain.svd_rank, plain.d_backbone, generator=generator),
        "svd_strength": torch.ones(2, plain.svd_rank),
    }
    without.eval()
    reader.eval()
    torch.testing.assert_close(reader(**asked).activity_logits, without(**asked).activity_logits)
    reader(**asked).activity_logits.sum().backward()
    assert reader.order.change.weight.grad.abs().min() > 0
    torch.nn.init.ones_(reader.order.change.weight)
    assert not torch.equal(reader(**asked).activity_logits, without(**asked).activity_logits)


def test_a_network_has_it_only_where_it_says_so():
    assert Reader(toy_config(reader_candidates=20)).order is None
    assert "order" not in json.loads(toy_config().model_dump_json())
    assert json.loads(toy_config(order=True).model_dump_json())["order"] is True
    assert Reader(toy_config(reader_candidates=0, order=True)).order is not None  # all count alike there
