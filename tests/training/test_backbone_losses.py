"""Losses that teach a backbone to know a product again."""

import pytest
import torch
from torch.nn import functional as F

from export.training.backbone.task import (
    cosine_margin_loss,
    photo_contrast_loss,
)


@pytest.fixture
def made():
    return torch.Generator().manual_seed(0)


def test_without_a_margin_it_is_cross_entropy_of_cosines(made):
    z, w = torch.randn(5, 8, generator=made), torch.randn(3, 8, generator=made)
    labels = torch.tensor([0, 1, 2, 1, 0])
    plain = F.cross_entropy(4 * F.cosine_similarity(z[:, None], w[None], dim=-1), labels)
    assert cosine_margin_loss(z, w, labels, scale=4, margin=0) == pytest.approx(plain.item(), abs=1e-5)


def test_a_margin_asks_for_more_than_being_nearest(made):
    z, labels = torch.eye(3, 8), torch.arange(3)
    losses = [cosine_margin_loss(z, z, labels, margin=margin).item() for margin in (0.0, 0.2, 0.5)]
    assert losses[0] < losses[1] < losses[2]


def test_contrast_of_one_pair_is_its_share_against_other_products(made):
    z, labels = F.normalize(torch.randn(4, 6, generator=made), dim=1), torch.tensor([0, 0, 1, 2])
    s = z @ z.T / 0.1
    each = [-torch.log(s[i, j].exp() / (s[i, j].exp() + s[i, 2:].exp().sum())) for i, j in ((0, 1), (1, 0))]
    assert photo_contrast_loss(z, labels) == pytest.approx(torch.stack(each).mean().item(), rel=1e-4)


def test_a_third_photo_of_the_product_is_no_negative(made):
    z = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]])
    labels = torch.tensor([0, 0, 0, 1])
    assert photo_contrast_loss(z, labels).item() < 1e-3


def test_a_batch_without_two_photos_of_a_product_teaches_nothing(made):
    z = torch.randn(3, 4, generator=made, requires_grad=True)
    loss = photo_contrast_loss(z, torch.arange(3))
    loss.backward()
    assert loss.item() == 0 and not z.grad.any()
