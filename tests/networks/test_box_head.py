"""Boxes told from where the tokens lie that answer."""

from __future__ import annotations

import torch

from export.networks.box_head import TimedBoxHead, correct_boxes
from export.networks.positions import encode_cells


def places(width: int = 8) -> TimedBoxHead:
    torch.manual_seed(0)
    return TimedBoxHead(width, features=6)


def test_an_untrained_token_tells_a_usual_box_in_its_own_cell() -> None:
    cells = torch.tensor([0, 10, 48])
    boxes = places().predict_boxes(torch.randn(3, 8), torch.randn(3, 6), encode_cells(cells))
    column, row = cells % 7, cells // 7
    torch.testing.assert_close(boxes[:, :2], torch.stack([(column + 0.5) / 7, (row + 0.5) / 7], 1))
    torch.testing.assert_close(boxes[:, 2:], torch.full((3, 2), 0.12))


def test_a_token_tells_no_place_further_than_a_cell_from_its_own() -> None:
    net = places()
    torch.nn.init.normal_(net.token.weight, std=100.0)
    tokens, hot = torch.randn(200, 8), encode_cells(torch.arange(200) % 49)
    away = net.predict_boxes(tokens, torch.randn(200, 6), hot)[:, :2] - hot @ net.centres
    assert away.abs().max() <= 1 / 7 + 1e-6
    assert away.abs().max() > 0.1


def test_a_box_is_the_tokens_outline_moved_by_what_the_question_adds() -> None:
    net, features, hot = places(), torch.randn(5, 6), encode_cells(torch.arange(5))
    torch.nn.init.normal_(net.outline[-1].weight)
    torch.testing.assert_close(
        net.predict_boxes(torch.randn(5, 8), features, hot), net.predict_product_boxes(features, hot)
    )
    assert (
        net.predict_product_boxes(features, hot) - net.predict_product_boxes(features[:1].expand(5, 6), hot)
    ).abs().max() > 0.01
    torch.nn.init.normal_(net.token.weight)
    assert (
        net.predict_boxes(torch.randn(5, 8), features, hot) - net.predict_product_boxes(features, hot)
    ).abs().max() > 0.01


def test_answers_teach_no_outlines() -> None:
    net = places()
    net.predict_boxes(torch.randn(5, 8), torch.randn(5, 6), encode_cells(torch.arange(5))).sum().backward()
    assert net.token.weight.grad is not None and all(
        parameter.grad is None for parameter in net.outline.parameters()
    )


def test_a_step_takes_the_place_of_the_token_that_answers_near_its_tick() -> None:
    boxes = torch.tensor([[[0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]]])
    apart = torch.tensor([[[0, 50, 0], [-50, 0, 50]]])  # two steps, three tokens
    logits = torch.tensor([[9.0, 9.0, -1e9]])  # the last one is not there
    told = places().pool_boxes(boxes, logits, apart)
    torch.testing.assert_close(told[0, :, 0], torch.tensor([0.1, 0.5]))


def test_a_step_without_any_token_still_has_a_finite_box() -> None:
    told = places().pool_boxes(torch.rand(1, 4, 4), torch.full((1, 4), -1e9), torch.full((1, 2, 4), 10**6))
    assert torch.isfinite(told).all()


def test_without_correction_a_box_stays_and_with_it_never_leaves_the_picture() -> None:
    box = torch.tensor([[0.0, 0.3, 0.12, 1.0]])
    torch.testing.assert_close(correct_boxes(box, torch.zeros(1, 4)), box.clamp(1e-3, 1 - 1e-3))
    far = correct_boxes(box, torch.tensor([[50.0, -50.0, 1.0, -1.0]]))
    assert (far >= 0).all() and (far <= 1).all()
    assert 0.12 < far[0, 2] < 0.5 and 0.5 < far[0, 3] < 1.0
