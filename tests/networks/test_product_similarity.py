"""What a token shows and what is asked about: as alike as the backbone's pictures taught."""

import json

import torch
from torch.nn import functional

from export.networks.heads import ProductSimilarity
from export.networks.model import make_untrained
from export.networks.reader import Embedding
from export.networks.tubedetr import TubeDETR
from tests.support.training_models import toy_config

CONFIG = toy_config(image_size=56, likeness=True)
D = CONFIG.d_backbone


def embedded(embed, features, photo, given=True):
    """Memory tokens (1, n, d) for a question about `photo` (49, d_b)."""
    activity = torch.zeros(1, CONFIG.activities)
    rank = CONFIG.summary_rank
    basis, strength = torch.zeros(1, rank, D), torch.zeros(1, rank)
    valid = torch.tensor([given])
    asked = embed.embed_question(basis, strength, photo[None], valid, activity, valid)
    hot = functional.one_hot(torch.zeros(1, len(features), dtype=torch.long), 49)
    return embed.memory(features[None], hot, asked, valid)


def test_nothing_is_added_at_first():
    torch.manual_seed(0)
    likeness = ProductSimilarity(D, 8)
    assert not likeness(torch.randn(2, 5, D), likeness.embed(torch.randn(2, D))).any()


def test_what_is_added_is_the_cosine_of_identities():
    torch.manual_seed(0)
    likeness = ProductSimilarity(D, 8)
    torch.nn.init.normal_(likeness.direction)
    shown, other = torch.randn(2, D)
    added = likeness(torch.stack([shown, other])[None], likeness.embed(shown[None]))[0]
    a, b = (likeness.identity(one) for one in (shown, other))
    torch.testing.assert_close(added[0], likeness.direction)
    torch.testing.assert_close(added[1], functional.cosine_similarity(a, b, dim=0) * likeness.direction)


def test_a_question_without_a_product_is_told_nothing_of_likeness():
    torch.manual_seed(0)
    embed = Embedding(CONFIG)
    features, photo = torch.randn(5, D), torch.randn(49, D)
    before = [embedded(embed, features, photo, given) for given in (True, False)]
    torch.nn.init.ones_(embed.likeness.direction)
    after = [embedded(embed, features, photo, given) for given in (True, False)]
    assert (after[0] - before[0]).abs().max() > 0.01
    torch.testing.assert_close(after[1], before[1])


def test_identities_are_not_learned_from_questions():
    for network in (make_untrained(CONFIG, 0).reader, TubeDETR(CONFIG)):
        still = {name for name, one in network.named_parameters() if not one.requires_grad}
        assert still == {"embed.likeness.identity.weight", "embed.likeness.identity.bias"}


def test_a_network_is_told_likeness_only_where_it_says_so():
    """The bundle that ships says nothing of it, and neither do presets: its manifest stays what it was."""
    without = Embedding(toy_config())
    assert without.likeness is None and "likeness" not in json.loads(toy_config().model_dump_json())
    assert json.loads(CONFIG.model_dump_json())["likeness"] is True
