"""Batches made in another process."""

import os

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from export.training.loop.distributed import Prefetch


class Numbered(Dataset):
    """Batch n says n, which process made it, and with how many OpenCV threads."""

    def __len__(self):
        return 20

    def __getitem__(self, step):
        said = [step, os.getpid(), cv2.getNumThreads()]
        cv2.resize(np.zeros((400, 400, 3), np.uint8), (200, 200), interpolation=cv2.INTER_AREA)
        return {"said": torch.tensor(said)}


def steps(batches, wanted):
    return [int(batches[step]["said"][0]) for step in wanted]


def test_batches_come_by_their_step_from_any_step_on():
    batches = Prefetch(Numbered())
    assert steps(batches, range(3, 9)) == list(range(3, 9))


def test_a_run_that_steps_back_gets_the_step_it_asks_for():
    batches = Prefetch(Numbered())
    assert steps(batches, [5, 6, 2, 3, 19]) == [5, 6, 2, 3, 19]


def test_they_are_made_in_another_process_with_one_opencv_thread():
    """The threads of this one are busy first: forked in that state a worker would wait for ever."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        cv2.resize(np.zeros((900, 900, 3), np.uint8), (300, 300), interpolation=cv2.INTER_AREA)
        _, process, threads = Prefetch(Numbered())[0]["said"].tolist()
        assert process != os.getpid() and threads == 1
        assert cv2.getNumThreads() == 2, "ours are as they were"
    finally:
        cv2.setNumThreads(before)
