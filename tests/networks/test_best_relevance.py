"""Whether anything happened depends on the most relevant token, not only on the average."""

import json

import pytest
import torch
from pydantic import ValidationError

from export.networks.heads import BestRelevance
from export.networks.reader import Reader
from tests.support.training_models import toy_config


def test_nothing_is_added_at_first():
    assert not BestRelevance()(torch.randn(3, 5), torch.ones(3, 5, dtype=torch.bool)).any()


def test_one_relevant_token_makes_presence_likelier_and_absent_ones_do_not():
    part = BestRelevance()
    torch.nn.init.ones_(part.weigh.weight)
    nothing = torch.full((1, 6), -8.0)
    one, absent = nothing.clone(), nothing.clone()
    one[0, 2] = absent[0, 5] = 7.0
    valid = torch.tensor([[True] * 5 + [False]])
    low, high, same = (float(part(logits, valid)) for logits in (nothing, one, absent))
    assert high > low + 0.5 and same == pytest.approx(low)


@pytest.mark.parametrize("extreme", [float("inf"), 1e30, -1e30])
def test_extreme_logits_stay_finite(extreme):
    part = BestRelevance()
    torch.nn.init.ones_(part.weigh.weight)
    for valid in (True, False):
        added = part(torch.tensor([[0.0, extreme]]), torch.tensor([[True, valid]]))
        assert torch.isfinite(added).all()


def test_a_network_has_it_where_its_configuration_says_so():
    config = toy_config(reader_candidates=20, best_relevance=True)
    assert Reader(config).heads.best_relevance is not None
    assert Reader(toy_config()).heads.best_relevance is None
    assert "best_relevance" not in json.loads(toy_config().model_dump_json())
    with pytest.raises(ValidationError, match="best_relevance needs reader_candidates"):
        toy_config(best_relevance=True)
