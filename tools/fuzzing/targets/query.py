"""Fuzz questions: typed text or JSON, through the whole asker, over a memory with content."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from random import Random

import cv2
import numpy as np

from edge_runtime.interfaces.cli.query_text import parse_line
from edge_runtime.query.schema import parse_query
from edge_runtime.query.timestamps import TimeReader
from tools.fuzzing.mutate import mutate_bytes, mutate_json
from tools.fuzzing.small import SmallService

PHOTO = base64.b64encode(cv2.imencode(".png", np.zeros((3, 4, 3), np.uint8))[1].tobytes()).decode()
WORDS = (
    "type", "activity", "object", "time", "photos", "box", "t", "product", "from", "to", "milk", "scan",
    "Scan", "weigh",
    "pick_belt", PHOTO, PHOTO[:20], "conceal ", "e\u0301", "1e309", "activities",
)  # fmt: skip
TYPED = tuple(
    word.encode()
    for word in (
        *WORDS, "--object ", "--box ", "--product ", "--activity ", "--from ", "--to ", "0,0,1,1@3", "nan",
        "inf", "-inf",
        "1e400", "'", '"', "\\", "\0", " ", "\n", "{", "}", "[", "]", ":", ",", "null", "true", "-",
        "ask ", "1_0", "\u0663",
    )
)  # fmt: skip


EPOCH = 1.76e9
"""Wall-clock time of the stream's second 0, for clock times."""


class Target:
    max_bytes = 4096

    def __init__(self, folder: Path) -> None:
        self._service = SmallService(folder)

    def seeds(self) -> list[bytes]:
        box = {"box": [0.1, 0.1, 0.9, 0.9], "t": 3}
        questions = [
            {"type": "activity", "object": {"photos": [PHOTO]}, "from": 0, "to": 6},
            {"type": "activity", "object": box},
            {"type": "object", "activity": "scan", "from": 1.5, "to": 4},
            {"type": "object", "activity": "scan"},
            {"type": "time", "activity": "bag", "object": box},
            {"type": "time", "object": {"product": "milk"}, "to": 9},
        ]
        lines = [
            "activity --box 0,0,1,1@3 --from 0 --to 5",
            "ask object --activity scan --from 1",
            "time --activity 'bag' --product milk",
            "time --object nothing.jpg",
        ]
        texts = [*(json.dumps(question) for question in questions), *lines]
        return [text.encode() for text in texts]

    def mutate(self, data: bytes, rng: Random) -> bytes | None:
        changed = mutate_json(data, rng, WORDS) if data.startswith(b"{") and rng.random() < 0.8 else None
        return changed if changed is not None else mutate_bytes(data, rng, TYPED)

    def run(self, data: bytes) -> None:
        try:
            question = parse_line(data.decode()).resolve(TimeReader(EPOCH))
        except UnicodeDecodeError:
            question = parse_query(data)
        answer = self._service.ask(question).model_dump(mode="json")
        json.dumps(answer, allow_nan=False)
