"""The relay in FastAPI and httpx that most people write.

A ``stream`` of httpx for each answer, and a dictionary from which a Stop takes the task to cancel.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import Body, FastAPI, Header
from fastapi.responses import JSONResponse, StreamingResponse

URL = f"{os.environ['DEEPSEEK_BASE_URL']}/chat/completions"
HEADERS = {
    "Authorization": f"Bearer {os.environ['DEEPSEEK_API_KEY']}",
    "Accept-Encoding": "identity",  # the bytes are passed on as they come
}

client = httpx.AsyncClient(
    headers=HEADERS,
    limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
    timeout=httpx.Timeout(10, read=300),
)
running: dict[str, asyncio.Task[Any]] = {}


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    async with client:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/api/chat/stream")
async def stream(
    payload: Annotated[dict[str, Any], Body()], x_session_id: Annotated[str, Header()]
) -> StreamingResponse:
    return StreamingResponse(
        relay(x_session_id, {**payload, "stream": True}),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


@app.post("/api/chat/cancel/{session_id}")
async def cancel(session_id: str) -> JSONResponse:
    task = running.get(session_id)
    if task is None:
        return JSONResponse({"success": False, "message": "Session not found"}, 404)
    task.cancel()
    return JSONResponse({"success": True})


async def relay(session_id: str, payload: dict[str, Any]) -> AsyncIterator[bytes]:
    task = asyncio.current_task()
    assert task is not None
    running[session_id] = task
    try:
        async with client.stream("POST", URL, json=payload) as answer:
            answer.raise_for_status()
            async for piece in answer.aiter_raw():
                yield piece
    except asyncio.CancelledError:
        pass  # A Stop, or the client has gone: either way this is the end of the answer.
    finally:
        running.pop(session_id, None)
