"""Fuzz configurations: any text to settings, with a secret in the environment that no error may repeat."""

from __future__ import annotations

from pathlib import Path
from random import Random

from edge_runtime.config.paths import configs
from edge_runtime.config.schema import Config
from edge_runtime.config.yaml_loader import read_settings
from engines.errors import LvmError
from tools.fuzzing.mutate import mutate_bytes

SECRET = "s3cret-value"
WORDS = tuple(
    word.encode()
    for word in (
        "${CAM} ${NO} ${NO:-x} $${ ${ } &a *a <<: !!int !!binary !x ? : - [ ] { } , ' \" | >- # ~ null "
        ".inf -.nan 0x 1e999 "
        '1:30:00 2024-02-30 yes \\u0000 "\\UFFFFFFFF" \ufeff version cameras source model bundle '
        "backend threads sampler "
        "state directory save_interval_s http enabled listen objects catalogue lane1"
    ).split(" ")
    + [
        "\n",
        "\n  ",
        "\n    ",
        "|\n  ",
        ">-\n  ",
        "---\n",
        "...\n",
        "\t",
        " ",
        "%YAML 1.2\n",
        "%TAG ! x\n",
        "9" * 400,
    ]
    + ["\u2028", ": ", "- ", "? ", "!!int ", "<<: "]
)


class Target:
    max_bytes = 4096

    def __init__(self, folder: Path) -> None:
        self._file = folder / "case.yaml"

    def seeds(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted(configs().glob("*.yaml"))] + [
            b"",
            b"version: 1\n",
            b"cameras:\n  lane1:\n    source: rtsp://u:${CAM}@host/live\nmodel: {threads: 2}\n",
            b"cameras:\n  a: {source: '${CAM}'}\nstate:\n  directory: /x/${NO:-y}\n  save_interval_s: 0.5\n",
            b"http: {enabled: no, listen: '127.0.0.1:1'}\nobjects:\n  catalogue: a/b\n",
            b"version: 2\n",
            b"cameras:\n  lane1:\n    sorce: 1\n",
        ]

    def mutate(self, data: bytes, rng: Random) -> bytes | None:
        return mutate_bytes(data, rng, WORDS)

    def run(self, data: bytes) -> None:
        self._file.write_bytes(data)
        try:
            read_settings(self._file, Config, {"CAM": SECRET})
        except LvmError as error:
            assert SECRET not in str(error) or SECRET.encode() in data, "the environment is in an error"
            raise
