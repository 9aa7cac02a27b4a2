"""Performing one answer as its scenario asks: delays, tokens at their pace, and the ending.

An answer is one task. It ends with the answer, or is cancelled by the connection when the peer
goes away; cancelling takes effect at the first ``await``, so no token is made after that.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator
from itertools import islice

from . import wire
from .billing import PRICES, Account
from .body import Body
from .exchange import Exchange, Headers
from .order import Order

_STREAM_HEADERS: Headers = [
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache"),
    ("Connection", "keep-alive"),
    ("Transfer-Encoding", "chunked"),
]
_MOST_AT_ONCE = 64
_READING_TIME = 0.05
_GARBAGE_SEED = 20_260_724
_GARBAGE_PART = 65_536


async def answer(exchange: Exchange, order: Order, attempt: int, account: Account) -> None:
    """Answer ``order``, which is request number ``attempt`` (from 1) with its tag.

    It is billed to ``account``.
    """
    scenario = order.scenario
    await asyncio.sleep(scenario.headers_delay)
    if attempt <= scenario.disconnect_times:
        exchange.hang_up()
    elif scenario.status is not None and scenario.refuses(attempt):
        await _refuse(exchange, scenario.status, scenario.retry_after)
    elif scenario.redirect is not None:
        await exchange.reply(307, b"{}", [("Location", scenario.redirect)])
    elif scenario.instead is not None:
        await _answer_otherwise(exchange, scenario.instead)
    elif scenario.never == "headers":
        await _for_ever()
    elif order.stream:
        await _Stream(exchange, order, account).perform()
    else:
        await _whole(exchange, order, account)


async def _refuse(exchange: Exchange, status: int, retry_after: float | None) -> None:
    headers = [] if retry_after is None else [("Retry-After", f"{retry_after:g}")]
    await exchange.reply(status, wire.error_body(status), headers)


async def _answer_otherwise(exchange: Exchange, kind: str) -> None:
    if kind == "html":
        await exchange.reply(200, wire.PAGE, content_type="text/html; charset=utf-8")
    else:
        await exchange.reply(200, wire.error_body(503))


async def _whole(exchange: Exchange, order: Order, account: Account) -> None:
    """An answer that is not streamed: the same text, without its pace or its endings."""
    first_token_delay = order.scenario.first_token_delay
    await asyncio.sleep(math.inf if order.scenario.never else first_token_delay)
    script = order.script
    _begin_to_bill(exchange, order, account)
    exchange.entry.made(script.tokens)
    reasoning = script.reasoning.text if order.thinking else None
    counts = _usage(order, script.content.count)
    body = wire.completion(
        order.model, script.content.text, reasoning, script.finish_reason, counts
    )
    await exchange.reply(200, body)


def _begin_to_bill(exchange: Exchange, order: Order, account: Account) -> None:
    exchange.entry.begin(order.prompt_tokens, order.cached_tokens, account, PRICES[order.model])


def _usage(order: Order, said: int) -> wire.Json:
    return wire.usage(order.prompt_tokens, order.cached_tokens, order.script.reasoning.count, said)


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


class _Stream:
    """A streamed answer."""

    def __init__(self, exchange: Exchange, order: Order, account: Account) -> None:
        self._exchange = exchange
        self._account = account
        self._order = order
        self._scenario = order.scenario
        self._body = Body(exchange, order.scenario)
        self._chunks = wire.Chunks(order.model, thinking=order.thinking)
        self._made = 0

    async def perform(self) -> None:
        gzip = [("Content-Encoding", "gzip")] if self._scenario.gzip else []
        self._exchange.head(200, [*_STREAM_HEADERS, *gzip])
        await self._queue()
        _begin_to_bill(self._exchange, self._order, self._account)
        if self._scenario.garbage:
            await self._garbage()
            return
        if self._scenario.huge_event:
            await self._body.events(self._chunks.huge(self._scenario.huge_event))
        await self._body.events(self._chunks.first())
        await self._speak(int(min(self._order.script.tokens, self._scenario.lasts)))
        await self._end()

    async def _queue(self) -> None:
        """Be a request that waits for its turn, and say so in comments if asked to."""
        clock = asyncio.get_running_loop().time
        wait = math.inf if self._scenario.never else self._scenario.first_token_delay
        every = self._scenario.keep_alive_every
        turn = clock() + wait
        while (left := turn - clock()) > 0:
            if every:
                await self._body.events(wire.KEEP_ALIVE)
            await asyncio.sleep(min(left, every or left))

    async def _speak(self, total: int) -> None:
        """Make the tokens up to ``total``, at the rate of the scenario."""
        events = self._events()
        if self._scenario.rate:
            await self._paced(events, total, self._scenario.rate)
        while self._made < total:
            await self._make(events, min(_MOST_AT_ONCE, total - self._made))
            await asyncio.sleep(0)

    async def _paced(self, events: Iterator[bytes], total: int, rate: float) -> None:
        """Make each token when it is due; late ones go out together, up to a second's worth.

        So a busy machine keeps the rate, and a peer that stopped reading gets no flood later.
        """
        clock = asyncio.get_running_loop().time
        due = clock()
        while self._made < total:
            late = clock() - due
            if late < 0:
                await asyncio.sleep(-late)
                continue
            tokens = min(1 + int(late * rate), total - self._made)
            await self._make(events, tokens)
            due = max(due + tokens / rate, clock() - 1)

    async def _make(self, events: Iterator[bytes], tokens: int) -> None:
        self._made += tokens
        self._exchange.entry.made(tokens)
        await self._body.events(*islice(events, tokens))

    def _events(self) -> Iterator[bytes]:
        yield from map(self._chunks.reasoning, self._order.script.reasoning)
        yield from map(self._chunks.content, self._order.script.content)
        yield from map(self._chunks.tool_call, self._order.script.tool_calls)

    async def _end(self) -> None:
        if self._scenario.silence_after is not None:
            await _for_ever()
        elif self._scenario.bad_chunking:
            await self._body.nonsense()
            await _for_ever()
        elif self._scenario.end == "reset":
            # A reset may overtake what the peer's kernel has and the peer has not read yet.
            await asyncio.sleep(_READING_TIME)
            self._exchange.reset()
        elif self._scenario.end == "cut":
            await self._body.half(self._last())
            self._exchange.hang_up()
        elif self._scenario.end in ("eof", "error"):
            if self._scenario.end == "error":
                await self._body.events(wire.error_event(503))
            await self._body.close_encoding()
            await self._exchange.finish_early()
        elif self._scenario.end in ("hold", "bare"):
            bare = [wire.DONE.rstrip()] if self._scenario.end == "bare" else []
            await self._body.events(self._last(), *bare)
            await _for_ever()
        elif self._scenario.end == "finish":
            await self._body.events(self._last())
            await self._body.close_encoding()
            await self._exchange.finish()
        else:
            await self._body.events(self._last(), wire.DONE)
            await self._body.close_encoding()
            await self._exchange.finish()

    def _last(self) -> bytes:
        script = self._order.script
        said = script.tokens - script.reasoning.count
        return self._chunks.last(script.finish_reason, _usage(self._order, said))

    async def _garbage(self) -> None:
        source = random.Random(_GARBAGE_SEED)  # noqa: S311 - the same bytes each time
        for begin in range(0, self._scenario.garbage, _GARBAGE_PART):
            size = min(_GARBAGE_PART, self._scenario.garbage - begin)
            await self._body.octets(source.randbytes(size))
        await self._body.close_encoding()
        await self._exchange.finish()
