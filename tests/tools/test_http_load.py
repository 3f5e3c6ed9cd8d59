"""Hostile clients do not disturb the others: a short version of tools/reliability/http_load.py."""

import asyncio

import pytest

from edge_runtime.config.access_tokens import hash_token, new_token
from edge_runtime.config.http import HttpSettings
from edge_runtime.config.schema import Config
from edge_runtime.interfaces.http.server import HttpServer
from edge_runtime.service.run import Run
from tools.fuzzing.small import small_service
from tools.reliability.http_load import ATTACKS, Server, run_askers, run_attacks

REFUSED = {"hung up on", "gone in the middle", "held until the end", "401", "404", "413", "422", "429", "503"}


@pytest.fixture
def server(tmp_path):
    token = new_token()
    tokens = [{"name": "load", "token_hash": hash_token(token)}]
    settings = HttpSettings.model_validate({"tokens": tokens, "queries_per_s": None})
    with small_service(tmp_path) as service:
        with HttpServer(service, "127.0.0.1:0", Run(service, Config(http=settings))) as running:
            yield Server(int(running.address.rpartition(":")[2]), token)


def test_many_clients_at_once_are_all_answered(server):
    stats = asyncio.run(run_askers(server, 50, 2.0))
    assert stats.failed == {} and len(stats.took_ms) >= 50


def test_every_question_is_answered_beside_hostile_clients(server):
    async def both():
        return await asyncio.gather(run_askers(server, 4, 3.0), run_attacks(server, 3.0))

    expected = {("a gigabyte", "413"), ("a forged token", "401"), ("a wrong type", "422")}
    for _ in range(10):  # a busy machine may need longer for one of each
        stats, outcomes = asyncio.run(both())
        assert stats.failed == {} and stats.took_ms
        assert set(outcomes) == set(ATTACKS) and all(
            set(counts) <= REFUSED for counts in outcomes.values()
        ), outcomes
        expected -= {(name, status) for name, counts in outcomes.items() for status in counts}
        if not expected:
            return
    raise AssertionError(f"never came: {expected}")
