"""The balance of a key at DeepSeek (https://api-docs.deepseek.com/api/get-user-balance)."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import msgspec

from ..answers.foreign_json import NO_JSON
from ..answers.usage import Cost
from ..errors import Aborted, UpstreamError
from .attempt import TRANSPORT_ERRORS
from .chat_completions import ChatCompletions
from .documents import document


class _Info(msgspec.Struct, gc=False):
    currency: str
    total_balance: str


class _Balance(msgspec.Struct, gc=False):
    balance_infos: list[_Info]


def balance_of(upstreams: ChatCompletions) -> list[Cost]:
    """What is left for the configured key, in each of its currencies.

    :raises UpstreamError: if that can't be learned; its message is one sentence.
    """
    try:
        found = msgspec.json.decode(
            document(upstreams.configured, "/user/balance"), type=_Balance
        ).balance_infos
        return [Cost(_amount(each.total_balance), each.currency[:3]) for each in found]
    except (Aborted, *TRANSPORT_ERRORS):
        raise UpstreamError("DeepSeek could not be asked for the balance.") from None
    except (*NO_JSON, InvalidOperation):
        raise UpstreamError("DeepSeek's answer is no balance.") from None


def _amount(text: str) -> Decimal:
    amount = Decimal(text[:40])
    if not amount.is_finite():
        raise InvalidOperation
    return amount
