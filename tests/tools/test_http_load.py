"""Those who mean harm change nothing for those who ask: a short version of tools/reliability/http_load.py."""

import asyncio

import pytest

from edge_runtime.config.access_tokens import hash_token, new_token
from edge_runtime.config.http import HttpSettings
from edge_runtime.config.schema import Config
from edge_runtime.interfaces.http.server import HttpServer
from edge_runtime.service.run import Run
from tools.fuzzing.small import small_service
from tools.reliability.http_load import HARMS, Target, ask_all, harm

REFUSED = {"hung up on", "gone in the middle", "held until the end", "401", "404", "413", "422", "429", "503"}


@pytest.fixture
def target(tmp_path):
    token = new_token()
    tokens = [{"name": "load", "token_hash": hash_token(token)}]
    settings = HttpSettings.model_validate({"tokens": tokens, "queries_per_s": None})
    with small_service(tmp_path) as service:
        with HttpServer(service, "127.0.0.1:0", Run(service, Config(http=settings))) as server:
            yield Target(int(server.address.rpartition(":")[2]), token)


def test_many_who_ask_at_once_are_all_answered(target):
    asked = asyncio.run(ask_all(target, 50, 2.0))
    assert asked.failed == {} and len(asked.took_ms) >= 50


def test_beside_those_who_mean_harm_every_question_is_answered(target):
    async def both():
        return await asyncio.gather(ask_all(target, 4, 3.0), harm(target, 3.0))

    wanted = {("a gigabyte", "413"), ("a forged token", "401"), ("a wrong type", "422")}
    for _ in range(10):  # a busy machine may need longer for one of each
        asked, came = asyncio.run(both())
        assert asked.failed == {} and asked.took_ms
        assert set(came) == set(HARMS) and all(set(found) <= REFUSED for found in came.values()), came
        wanted -= {(name, status) for name, found in came.items() for status in found}
        if not wanted:
            return
    raise AssertionError(f"never came: {wanted}")
