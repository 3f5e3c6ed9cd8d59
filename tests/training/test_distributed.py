"""Two processes that train together, as torchrun starts them, and one that trains alone."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile

import pytest
import torch

from engines.errors import LvmError
from export.training.loop.distributed import ProcessGroup, join_process_group, local_device

ROOT = Path(__file__).parents[2]


def team_of_two(script, folder):
    """What both members say, each its last line."""
    # The store is made before the members start, as torchrun does: a port that was only looked up may be
    # another test's by then, and the second member would wait for a store that never answers.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "OMP_NUM_THREADS": "1"}
    place["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    processes, outputs = [], []
    for rank in range(2):
        environment = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        outputs.append((TemporaryFile("w+"), TemporaryFile("w+")))
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", f"tests.support.{script}", str(folder)],
                env={**os.environ, **environment, **place, "PYTHONPATH": str(ROOT)},
                stdout=outputs[-1][0],
                stderr=outputs[-1][1],
            )
        )
    try:
        wait_for_all(processes, time.monotonic() + 300)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    said = [[file.seek(0) or file.read() for file in files] for files in outputs]
    codes = [process.returncode for process in processes]
    assert codes == [0, 0], f"exit statuses {codes}\n" + "\n".join(errors for _, errors in said)
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


def wait_for_all(processes, until):
    """Return when all have ended, one has failed (the other would wait for it), or the time is over."""
    while time.monotonic() < until:
        codes = [process.poll() for process in processes]
        if None not in codes or any(codes):
            return
        time.sleep(0.05)


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
