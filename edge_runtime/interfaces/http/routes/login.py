"""Routes of the page's session: sign in with a token, see who one is, sign out."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_runtime.config.access_tokens import MAX_TOKEN_CHARACTERS, Role
from edge_runtime.interfaces.http.auth import COOKIE, LASTS_S, Access, session_of
from edge_runtime.interfaces.http.openapi import json_of, takes
from edge_runtime.interfaces.http.request_bodies import Held
from engines.errors import LvmError


class SignIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    token: str = Field(min_length=1, max_length=MAX_TOKEN_CHARACTERS)


class Session(BaseModel):
    """`role` is null for somebody who must sign in first; `required` whether there are tokens at all."""

    role: Role | None
    required: bool


def add_session_routes(app: FastAPI, access: Access, held: Held) -> None:
    @app.get("/api/v1/session", response_model=Session)
    async def session(request: Request) -> Session:
        holder = request.scope.get("holder")
        return Session(role=holder.role if holder else None, required=bool(access.tokens))

    @app.post("/api/v1/session", response_model=Session, **takes(json_of(SignIn)))
    async def sign_in(request: Request, response: Response) -> Session:
        async with held.body(request) as body:
            try:
                said = SignIn.model_validate_json(body)
            except ValidationError:
                # What came is not repeated: it may be most of a token.
                raise LvmError('sign in with {"token": "…"}') from None
        if not access.tokens:
            return Session(role="admin", required=False)
        holder = access.sign_in(said.token, request.client.host if request.client else "unknown")
        response.set_cookie(
            COOKIE,
            access.sessions.begin(holder),
            max_age=LASTS_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return Session(role=holder.role, required=True)

    @app.delete("/api/v1/session", response_model=Session)
    async def sign_out(request: Request, response: Response) -> Session:
        value = session_of(request.headers)
        if value:
            access.sessions.end(value)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return Session(role=None if access.tokens else "admin", required=bool(access.tokens))
