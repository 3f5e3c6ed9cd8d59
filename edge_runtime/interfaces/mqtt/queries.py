"""Questions over MQTT: a short queue, answered one at a time; where it is full the reply says busy.

{"id": "7", "camera": "lane1", "type": "object", "activity": "scan"}     the question as everywhere
{"id": "7", "camera": "lane1", "type": "object", "answer": …}           the answer
{"id": "7", "error": "…"}     the error; with "busy": true ask again
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
from edge_runtime.interfaces.mqtt.topics import TopicNames, Topics
from edge_runtime.query.schema import make_request
from edge_runtime.service.runtime import Service
from edge_runtime.system.errors import QueryError
from edge_runtime.system.secrets import mask_secrets
from engines.errors import LvmError

log = logging.getLogger(__name__)

MAX_WAITING = 16
MAX_CORRELATION_BYTES = 1024
NO_ID = "unknown"
"""The id in the topic of errors of messages without a valid id."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_ID_IN_TEXT = re.compile(rb'(?<!\\)"id"\s*:\s*"([A-Za-z0-9_-]{1,64})"')
_NEEDS_ID = "a question needs an id of up to 64 ASCII letters, digits, - and _"


@dataclass(frozen=True)
class QueryMessage:
    """A question as received; `response_topic` and `correlation` are those of MQTT 5."""

    payload: bytes
    response_topic: str | None = None
    correlation: bytes | None = None


class QueryQueue:
    """`put` and `work` belong to the event loop; `reply` gets each answer there."""

    def __init__(
        self,
        service: Service,
        settings: MqttSettings,
        topics: Topics,
        names: TopicNames,
        reply: Callable[[Message], None],
    ) -> None:
        self._service, self._settings, self._topics, self._names = service, settings, topics, names
        self._reply = reply
        self._waiting: deque[QueryMessage] = deque()
        self._arrived = asyncio.Event()
        self._held_bytes = 0
        self._max_bytes = round(settings.max_query_mb * 1e6)
        self.answered = self.refused = self.busy = 0

    def put(self, question: QueryMessage) -> None:
        """Queue a question, or reply that there is no room. Takes little time, whatever came."""
        size = len(question.payload)
        room = len(self._waiting) < MAX_WAITING and self._held_bytes + size <= 2 * self._max_bytes
        if size <= self._max_bytes and room:
            self._waiting.append(question)
            self._held_bytes += size
            self._arrived.set()
            return
        match = _ID_IN_TEXT.search(question.payload[:2048]) or _ID_IN_TEXT.search(question.payload[-2048:])
        name = match[1].decode() if match else None
        if size > self._max_bytes:
            self._send_reply(question, name, _error(f"a question has at most {self._max_bytes} bytes"))
        else:
            reply = {"error": "other questions are being answered; ask again", "busy": True}
            self._send_reply(question, name, reply)

    async def work(self) -> None:
        """Answer the questions one by one, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            question = self._waiting.popleft()
            try:
                name, reply = await loop.run_in_executor(None, self._answer, question)
            finally:
                self._held_bytes -= len(question.payload)
            self._send_reply(question, name, reply)

    def as_json(self) -> dict[str, int]:
        return {
            "answered": self.answered,
            "refused": self.refused,
            "busy": self.busy,
            "waiting": len(self._waiting),
        }

    def _answer(self, question: QueryMessage) -> tuple[str | None, dict[str, Any]]:
        """Return the id and the reply. Blocks: not for the event loop."""
        name: str | None = None
        try:
            name, fields = _split_id(question)
            camera = fields.get("camera")
            if isinstance(camera, str) and camera not in self._service.cameras:
                fields["camera"] = self._names.camera(camera) or camera
            answer = self._service.ask(make_request(fields))
        except LvmError as error:
            return name, _error(str(error))
        except Exception:
            # One question must not end the client; the log has the error.
            log.exception("a question that came over MQTT could not be answered")
            return name, _error("the question could not be answered; the device's log says why")
        return name, answer.json_fields

    def _send_reply(self, question: QueryMessage, name: str | None, reply: dict[str, Any]) -> None:
        topic, correlation = question.response_topic, question.correlation
        if correlation is not None and len(correlation) > MAX_CORRELATION_BYTES:
            correlation = None
            reply = _error(f"correlation data has at most {MAX_CORRELATION_BYTES} bytes")
        if topic is not None and not self._topics.may_answer_at(topic, self._settings.response_topics):
            topic = None
            reply = _error(
                f"the response topic must lie below {self._topics.responses}/ or one of mqtt.response_topics"
            )
        if "error" not in reply:
            self.answered += 1
        elif "busy" in reply:
            self.busy += 1
        else:
            self.refused += 1
        topic = topic or f"{self._topics.responses}/{name or NO_ID}"
        self._reply(Message(topic, as_bytes({"id": name} | reply), correlation=correlation))


def _error(reply: str) -> dict[str, Any]:
    return {"error": mask_secrets(reply)[:1000]}


def _split_id(question: QueryMessage) -> tuple[str | None, dict[str, Any]]:
    """Split a question into its id and the rest. Raises QueryError."""
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
