"""Questions that come over MQTT: a short line of them, one answered at a time, the rest told that it is busy.

{"id": "7", "camera": "lane1", "type": "object", "activity": "scan"}     the question of every other door
{"id": "7", "camera": "lane1", "type": "object", "answer": …}           the answer
{"id": "7", "error": "…"}     why there is none; "busy": true beside it says to ask again
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_runtime.config.mqtt import MqttSettings
from edge_runtime.interfaces.mqtt.outbox import Message
from edge_runtime.interfaces.mqtt.payloads import as_bytes
from edge_runtime.interfaces.mqtt.topics import Names, Topics
from edge_runtime.query.schema import make_request
from edge_runtime.service.runtime import Service
from edge_runtime.system.errors import QueryError
from edge_runtime.system.secrets import mask_secrets
from engines.errors import LvmError

log = logging.getLogger(__name__)

MAX_WAITING = 16
MAX_CORRELATION_BYTES = 1024
NOBODY = "unknown"
"""Where the error goes that belongs to no id."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_ID_IN_TEXT = re.compile(rb'(?<!\\)"id"\s*:\s*"([A-Za-z0-9_-]{1,64})"')
_NEEDS_ID = "a question needs an id of up to 64 letters, digits, - and _"


@dataclass(frozen=True)
class Question:
    """As it came: `response_topic` and `correlation` are those of MQTT 5."""

    payload: bytes
    response_topic: str | None = None
    correlation: bytes | None = None


class Questions:
    """`put` and `work` belong to the event loop; `reply` gets each answer there."""

    def __init__(
        self,
        service: Service,
        settings: MqttSettings,
        topics: Topics,
        names: Names,
        reply: Callable[[Message], None],
    ) -> None:
        self._service, self._settings, self._topics, self._names = service, settings, topics, names
        self._reply = reply
        self._waiting: deque[Question] = deque()
        self._some = asyncio.Event()
        self._held = 0
        self._most_bytes = round(settings.max_query_mb * 1e6)
        self.answered = self.refused = self.busy = 0

    def put(self, question: Question) -> None:
        """Take it in, or say that there is no room. Costs next to nothing, whatever came."""
        size = len(question.payload)
        room = len(self._waiting) < MAX_WAITING and self._held + size <= 2 * self._most_bytes
        if size <= self._most_bytes and room:
            self._waiting.append(question)
            self._held += size
            self._some.set()
            return
        found = _ID_IN_TEXT.search(question.payload[:2048]) or _ID_IN_TEXT.search(question.payload[-2048:])
        name = found[1].decode() if found else None
        if size > self._most_bytes:
            self._say(question, name, _error(f"a question has at most {self._most_bytes} bytes"))
        else:
            said = {"error": "other questions are being answered; ask again", "busy": True}
            self._say(question, name, said)

    async def work(self) -> None:
        """Answer one after the other, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._some.clear()
                await self._some.wait()
            question = self._waiting.popleft()
            try:
                name, said = await loop.run_in_executor(None, self._answered, question)
            finally:
                self._held -= len(question.payload)
            self._say(question, name, said)

    def as_json(self) -> dict[str, int]:
        return {
            "answered": self.answered,
            "refused": self.refused,
            "busy": self.busy,
            "waiting": len(self._waiting),
        }

    def _answered(self, question: Question) -> tuple[str | None, dict[str, Any]]:
        """The id and what is to be said; not in the event loop."""
        name: str | None = None
        try:
            name, fields = _parts(question)
            camera = fields.get("camera")
            if isinstance(camera, str) and camera not in self._service.cameras:
                fields["camera"] = self._names.real(camera) or camera
            answer = self._service.ask(make_request(fields))
        except LvmError as error:
            return name, _error(str(error))
        except Exception:
            # Whoever asks must not end the door for all; the log has what happened.
            log.exception("a question that came over MQTT could not be answered")
            return name, _error("the question could not be answered; the device's log says why")
        return name, answer.json_fields

    def _say(self, question: Question, name: str | None, said: dict[str, Any]) -> None:
        topic, correlation = question.response_topic, question.correlation
        if correlation is not None and len(correlation) > MAX_CORRELATION_BYTES:
            correlation = None
            said = _error(f"correlation data has at most {MAX_CORRELATION_BYTES} bytes")
        if topic is not None and not self._topics.may_answer_at(topic, self._settings.response_topics):
            topic = None
            said = _error(
                f"the response topic must lie below {self._topics.responses}/ or one of mqtt.response_topics"
            )
        if "error" not in said:
            self.answered += 1
        elif "busy" in said:
            self.busy += 1
        else:
            self.refused += 1
        topic = topic or f"{self._topics.responses}/{name or NOBODY}"
        self._reply(Message(topic, as_bytes({"id": name} | said), correlation=correlation))


def _error(said: str) -> dict[str, Any]:
    return {"error": mask_secrets(said)[:1000]}


def _parts(question: Question) -> tuple[str | None, dict[str, Any]]:
    """The id, and the question without it. Raises QueryError."""
    try:
        fields = json.loads(question.payload)
    except (ValueError, RecursionError):
        raise QueryError("a question must be a JSON object in UTF-8") from None
    if not isinstance(fields, dict):
        raise QueryError("a question must be a JSON object in UTF-8")
    name = fields.pop("id", None)
    if name is None and question.response_topic is not None:
        return None, fields
    if not isinstance(name, str) or not _ID.match(name):
        raise QueryError(_NEEDS_ID)
    return name, fields
