"""The memories of all videos while one epoch lasts."""

import pytest
import torch

from export.training.loop.distributed import ProcessGroup
from export.training.lvm.inputs import FIELDS, MemoryBank
from tests.support.training_models import CPU, bank_checksum, toy_config

CONFIG = toy_config(memory_tokens=5)


def bank_of(videos=3):
    return MemoryBank(videos, CONFIG, CPU)


def memories(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "features": torch.randn(count, 5, CONFIG.d_backbone, generator=generator),
        "tick": torch.randint(0, 1000, (count, 5), generator=generator),
        "cell": torch.randint(0, 49, (count, 5), generator=generator),
        "event": torch.randint(-1, 9, (count, 5), generator=generator),
        "valid": torch.rand(count, 5, generator=generator) < 0.8,
    }


def test_a_new_bank_remembers_nothing():
    bank = bank_of()
    assert not bank.valid.any() and (bank.event == -1).all() and not bank.features.any()


def test_memories_are_written_to_their_videos_and_to_no_other():
    bank, new = bank_of(), memories(2)
    bank.write(torch.tensor([2, 0]), new, ProcessGroup())
    for name in FIELDS:
        field = getattr(bank, name)
        assert torch.equal(field[2], new[name][0]) and torch.equal(field[0], new[name][1])
    assert not bank.valid[1].any()


def test_what_was_written_does_not_change_with_its_source():
    bank, new = bank_of(), memories(1)
    bank.write(torch.tensor([1]), new, ProcessGroup())
    before = bank.features[1].clone()
    new["features"].zero_()
    assert torch.equal(bank.features[1], before)


def test_a_forgotten_video_has_no_token_and_the_others_keep_theirs():
    bank, new = bank_of(), memories(3)
    bank.write(torch.arange(3), new, ProcessGroup())
    bank.reset(1)
    assert not bank.valid[1].any() and (bank.event[1] == -1).all()
    assert torch.equal(bank.valid[[0, 2]], new["valid"][[0, 2]])


def test_the_state_goes_to_another_bank_whole():
    bank, other = bank_of(), bank_of()
    bank.write(torch.arange(3), memories(3), ProcessGroup())
    other.restore(bank.state())
    assert all(torch.equal(getattr(bank, name), getattr(other, name)) for name in FIELDS)
    assert bank_checksum(bank) == bank_checksum(other)


@pytest.mark.parametrize("name", ["features", "tick", "cell"])
def test_the_checksum_tells_a_changed_token(name):
    bank, new = bank_of(), memories(3)
    new["valid"][:] = True
    bank.write(torch.arange(3), new, ProcessGroup())
    before = bank_checksum(bank)
    getattr(bank, name)[1, 2] += 1
    assert bank_checksum(bank) != before


def test_the_checksum_tells_exchanged_memories():
    bank, other, new = bank_of(), bank_of(), memories(2)
    new["valid"][:] = True
    bank.write(torch.tensor([0, 1]), new, ProcessGroup())
    other.write(torch.tensor([1, 0]), new, ProcessGroup())
    assert bank_checksum(bank) != bank_checksum(other)
