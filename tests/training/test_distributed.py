"""Two processes that train together, as torchrun starts them, and one that trains alone."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engines.errors import LvmError
from export.training.loop.distributed import ProcessGroup, join_process_group, local_device

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def team_of_two(script, folder):
    """What both members say, each its last line."""
    port, processes = free_port(), []
    for rank in range(2):
        environment = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", f"tests.support.{script}", str(folder)],
                env={**os.environ, **environment, **place, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        done = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, done, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(out.splitlines()[-1]) for out, _ in done]


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """What both members of one training say, and the folder of their run."""
    folder = tmp_path_factory.mktemp("processes")
    return team_of_two("ddp_member", folder), folder


def test_a_whole_recipe_is_learned_by_two_whoever_comes_later(tmp_path):
    first, second = team_of_two("ddp_training", tmp_path)
    assert first["waits"] == second["waits"] > 4
    assert first["sums"] == second["sums"] and first["sums"][0] != first["sums"][1]


def test_both_are_members_of_one_team(members):
    assert [(one["rank"], one["size"]) for one in members[0]] == [(0, 2), (1, 2)]


def test_banks_are_equal_after_every_step(members):
    first, second = members[0]
    assert first["bank"] == second["bank"]
    assert len(set(first["bank"])) == len(first["bank"]) == 4


def test_gradients_and_weights_are_equal_after_every_step(members):
    first, second = members[0]
    assert first["gradients"] == second["gradients"] and min(first["gradients"]) > 0
    assert first["weights"] == second["weights"] and len(set(first["weights"])) == 4


def test_no_video_is_twice_in_a_global_batch(members):
    first, second = members[0]
    for mine, yours in zip(first["videos"], second["videos"], strict=True):
        assert len(mine) == len(yours) == 2 and len({*mine, *yours}) == 4


def test_only_the_first_member_writes(members):
    assert sorted(path.name for path in members[1].iterdir()) == ["lvm.csv", "lvm.state", "made"]
    assert len((members[1] / "lvm.csv").read_text().splitlines()) == 1 + 4


def test_what_both_need_is_made_by_the_first_before_the_other_looks(members):
    assert [one["made"] for one in members[0]] == [True, False]


def test_what_the_first_answers_is_everyones_answer(members):
    assert [one["agreed"] for one in members[0]] == [[True, False]] * 2


def test_alone_there_is_no_team(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_process_group(torch.device("cpu")) == ProcessGroup(0, 1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join_process_group(torch.device("cpu")) == ProcessGroup(0, 1)


def test_alone_everything_is_ones_own():
    processes, module, tensor = ProcessGroup(), torch.nn.Linear(1, 1), torch.arange(3)
    assert processes.wrap(module) is module and processes.all_gather(tensor) is tensor
    assert processes.slice([1, 2, 3]) == [1, 2, 3] and processes.rank_zero_first(lambda: 5) == 5


def test_a_batch_is_shared_in_equal_parts():
    assert [ProcessGroup(rank, 3).slice(range(6)) for rank in range(3)] == [
        range(0, 2),
        range(2, 4),
        range(4, 6),
    ]
    with pytest.raises(LvmError, match="multiple of the 3 processes, got 7"):
        ProcessGroup(0, 3).slice(range(7))


def test_each_member_has_its_own_gpu(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("cuda") == torch.device("cuda", 3) and local_device("cpu") == torch.device("cpu")
    monkeypatch.delenv("LOCAL_RANK")
    assert local_device("cuda") == torch.device("cuda")
