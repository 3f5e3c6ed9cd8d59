"""Routes of the configuration: what holds, its schema, and another one by an admin.

A PUT brings the whole file as a person writes it, so comments and `${NAME}` stay as they are sent; the file
as it was stays beside it as .bak. It may change cameras, their defaults and nothing else: paths, addresses
and tokens are changed in the file. A source that is new must match a pattern of `http.allow_sources`.
"""

from __future__ import annotations

import fnmatch
import os
import re
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from edge_runtime.config.schema import MAX_CONFIG_BYTES, Config, load_config
from edge_runtime.interfaces.http.auth import NotAllowed
from edge_runtime.interfaces.http.errors import Unknown
from edge_runtime.interfaces.http.openapi import takes, told
from edge_runtime.interfaces.http.request_bodies import Held
from edge_runtime.interfaces.http.schemas import ConfigPut
from edge_runtime.service.run import Run
from edge_runtime.system.secrets import MASK, mask_secrets
from engines.durable import fsync_folder
from engines.errors import LvmError

CHANGES = ("cameras", "defaults")
"""Sections that a PUT may change."""


def add_config_routes(app: FastAPI, run: Run, held: Held) -> None:
    writing = threading.Lock()

    @app.get("/api/v1/config", **told(dict[str, Any]))
    def config() -> Any:
        """What holds now. Secrets and credentials are left out."""
        return _masked(run.settings.model_dump(mode="json"))

    @app.get("/api/v1/config/schema.json", **told(dict[str, Any]))
    def schema() -> dict[str, Any]:
        """The JSON schema of the configuration."""
        return Config.model_json_schema()

    @app.put(
        "/api/v1/config",
        **told(ConfigPut),
        **takes({"application/yaml": {"schema": {"type": "string"}}}),
    )
    async def put(request: Request) -> dict[str, Any]:
        async with held.body(request, MAX_CONFIG_BYTES) as body:
            return await run_in_threadpool(_locked, body)

    def _locked(body: bytes) -> dict[str, Any]:
        with writing:
            return put_config(run, body)


def put_config(run: Run, text: bytes) -> dict[str, Any]:
    """Write the file anew and apply its cameras. Raises LvmError, and changes nothing."""
    if run.config_file is None or run.reload is None:
        raise Unknown("there is no configuration file to write: this run was not started with --config FILE")
    file = run.config_file.resolve()
    new = file.with_name(f".{file.name}.new")
    try:
        _write(new, text, file.stat().st_mode & 0o777)
        try:
            wanted = load_config(new)
        except LvmError as error:
            raise LvmError(str(error).replace(str(new), "configuration")) from None
        _check(run.settings, wanted)
        backup = file.with_name(f"{file.name}.bak")
        _write(backup, file.read_bytes(), file.stat().st_mode & 0o777)
        os.replace(new, file)
        fsync_folder(file.parent)
    except OSError as error:
        raise LvmError(
            f"the configuration cannot be written: {error.strerror}; change {file} by hand and reload, or "
            "keep it in a folder of the service's own"
        ) from None
    finally:
        if os.path.lexists(new):  # asked first: where nothing can be written, nothing can be unlinked either
            new.unlink()
    return {"written": str(file), "backup": str(backup), "problems": run.reload()}


def _write(file: Path, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(file, flags, mode), "wb") as opened:
        os.fchmod(opened.fileno(), mode)
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())


def _check(now: Config, wanted: Config) -> None:
    """Raise NotAllowed for what only the file itself may change."""
    for section in Config.model_fields:
        if section not in CHANGES and getattr(now, section) != getattr(wanted, section):
            raise NotAllowed(f"{section} can be changed in the file itself only, and by a restart")
    for name, camera in wanted.cameras.items():
        before = now.cameras.get(name)
        if camera.state != (before.state if before is not None else None):
            raise NotAllowed(f"cameras.{name}.state can be changed in the file itself only")
        source = str(camera.source)
        if before is not None and source == str(before.source):
            continue
        if MASK in source:
            raise LvmError(
                f"cameras.{name}.source was mask_secrets when it was read: write it whole or as ${{NAME}}"
            )
        if not allowed(source, now.http.allow_sources):
            raise NotAllowed(f"cameras.{name}.source matches no pattern of http.allow_sources")


def allowed(source: str, patterns: tuple[str, ...]) -> bool:
    """Whether a source matches one of the patterns, those of URLs without user and password."""
    if re.search(r"[\s\\\x00-\x1f\x7f]", source) and not source.startswith("gst:"):
        return False
    if "://" in source and not source.startswith("gst:"):
        try:
            parts = urlsplit(source)
            if parts.netloc.count("@") > 1:  # readers differ in which of them ends the password
                return False
            source = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        except ValueError:
            return False
    return any(fnmatch.fnmatchcase(source, pattern) for pattern in patterns)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            mask_secrets(str(key)): MASK if key == "token_hash" and one else _masked(one)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_masked(one) for one in value]
    return mask_secrets(value) if isinstance(value, str) else value
