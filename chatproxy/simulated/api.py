"""The routes: DeepSeek's, and the ledger's beside them.

=======  ==========================================  =========================================
method   path                                        answer
=======  ==========================================  =========================================
POST     ``/chat/completions``                       what the request's scenario says
GET      ``/models``                                 the models
GET      ``/user/balance``                           what the key has left, see :mod:`.billing`
GET      ``/ledger``, ``/ledger?tag=x``              the ledger, see :mod:`.ledger`
DELETE   ``/ledger``                                 the ledger forgets
=======  ==========================================  =========================================

The first two are also under ``/v1`` and ``/beta``. A request without a key is accepted, and billed
to one account. The key ``invalid`` is refused with 401, and the key ``broke`` with 402, as is any
other that has no balance left, as DeepSeek does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from . import wire
from .answer import answer
from .exchange import Exchange
from .ledger import Ledger
from .order import Refused, order_of, payload_of, tag_of
from .wire import Json

#: Called with each payload; what it returns is answered in its place.
Direct = Callable[[Json], Json]
_Route = Callable[[Exchange, Ledger, Direct], Awaitable[None]]

LEDGER_PATH = "/ledger"


async def respond(exchange: Exchange, ledger: Ledger, direct: Direct) -> None:
    """Answer the request, whatever it is."""
    request = exchange.request
    methods = _ROUTES.get(request.path)
    route = methods.get(request.method) if methods else None
    try:
        if methods is None:
            raise Refused(404, f"Nothing is at {request.path}")
        if route is None:
            raise Refused(405, f"{request.path} takes {' and '.join(methods)} only")
        await route(exchange, ledger, direct)
    except Refused as refusal:
        body = wire.error_body(refusal.status, refusal.message)
        allow = [("Allow", ", ".join(methods))] if methods and route is None else []
        await exchange.reply(refusal.status, body, allow)


async def _completions(exchange: Exchange, ledger: Ledger, direct: Direct) -> None:
    payload = direct(payload_of(exchange.request.body))
    tag = exchange.entry.tag = tag_of(payload)
    model = payload.get("model")
    exchange.entry.model = model[:100] if isinstance(model, str) else None
    if await _key_refused(exchange) or await _is_broke(exchange, ledger):
        return
    order = order_of(payload)
    attempt = 1 if tag is None else ledger.attempt(tag)
    await answer(exchange, order, attempt, ledger.accounts.of(_key(exchange)))


async def _models(exchange: Exchange, ledger: Ledger, direct: Direct) -> None:
    if not await _key_refused(exchange):
        await exchange.reply(200, wire.models_body())


async def _balance(exchange: Exchange, ledger: Ledger, direct: Direct) -> None:
    if not await _key_refused(exchange):
        account = ledger.accounts.of(_key(exchange))
        body = wire.balance_body(account.balance, available=account.is_available)
        await exchange.reply(200, body)


async def _show_ledger(exchange: Exchange, ledger: Ledger, direct: Direct) -> None:
    tags = parse_qs(exchange.request.query).get("tag")
    await exchange.reply(200, wire.compact(ledger.as_json(tags[0] if tags else None)))


async def _erase_ledger(exchange: Exchange, ledger: Ledger, direct: Direct) -> None:
    ledger.erase()
    await exchange.reply(200, b"{}")


def _key(exchange: Exchange) -> str:
    return exchange.request.headers.get("authorization", "").removeprefix("Bearer ").strip()


async def _key_refused(exchange: Exchange) -> bool:
    is_wrong = _key(exchange) == "invalid"
    if is_wrong:
        await exchange.reply(401, wire.error_body(401))
    return is_wrong


async def _is_broke(exchange: Exchange, ledger: Ledger) -> bool:
    is_broke = not ledger.accounts.of(_key(exchange)).is_available
    if is_broke:
        await exchange.reply(402, wire.error_body(402))
    return is_broke


_ROUTES: dict[str, dict[str, _Route]] = {
    **{f"{above}/chat/completions": {"POST": _completions} for above in ("", "/v1", "/beta")},
    **{f"{above}/models": {"GET": _models} for above in ("", "/v1", "/beta")},
    "/user/balance": {"GET": _balance},
    LEDGER_PATH: {"GET": _show_ledger, "DELETE": _erase_ledger},
}
