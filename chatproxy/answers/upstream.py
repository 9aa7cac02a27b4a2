"""Upstream: a service that a question can be put to: its address, its key, what is known of it.

The application or the operator's file says which it is, never a client. Its name is told to clients
and operators: in receipts, in sentences, in log lines. Nothing else of it is: a key, a header or a
query is in no ``repr`` and no error, and is masked in whatever the service says (``secrets``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ..hosts import is_loopback
from ..values import as_base_url

#: What the upstream of the settings is called, to which most questions go.
CONFIGURED = "DeepSeek"

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}")
#: The name of a field (RFC 9110, section 5.1), and a value of plain ASCII on one line.
_FIELD_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_FIELD_VALUE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
#: What frames a request, or says what is in it: these are the transport's.
_RESERVED = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-length", "content-type", "expect"),
        *("host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
#: Fields and parameters whose values anybody may read. All others may be secrets.
_OPEN = frozenset({"api-version", "http-referer", "referer", "user-agent", "x-title"})
_NAME_IS_WRONG = "name must be 1 to 64 characters of A-Z a-z 0-9 . _ : -"
#: Shorter values are no secrets, and would be found in many texts.
_SHORTEST_SECRET = 8


class BillingStops(str, Enum):
    """Whether a service bills nothing more once its connection is closed.

    The values are part of receipts.
    """

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class UsageStats(str, Enum):
    """When a service tells how many tokens an answer has taken, if it is asked to.

    The values are those of ``Upstream(usage=...)`` and of the file of upstreams.
    """

    #: With the last event, as most do.
    FINAL = "final"
    #: With every event, as vLLM and SGLang can.
    CONTINUOUS = "continuous"
    #: It can't be asked: it would refuse ``stream_options``.
    NONE = "none"


@dataclass(frozen=True, eq=False)
class Upstream:
    """A service that answers chat completions.

    :param base_url: below which it has ``/chat/completions``: ``https://api.openai.com/v1``, say.
    :param api_key: sent as ``Authorization: Bearer …``; none if it is empty.
    :param name: what clients and operators are told; the host, with its port, if left out. 1 to 64
        characters of A-Z a-z 0-9 . _ : - .
    :param api_key_header: another header for the key, which is then sent without ``Bearer``. Azure
        has ``api-key``.
    :param headers: further headers of each request.
    :param query: the parameters of each request's query, such as Azure's ``api-version``.
    :param model: what this service calls the model; as the client does if left out.
    :param limit: the most calls at once, of one worker, with this key and model.
    :param billing_stops: whether closing the connection stops the bill. Left out, it is what is
        known of the host.
    :param usage: when it tells how many tokens an answer has taken: "final" (with the last event),
        "continuous" (with each one, as vLLM and SGLang can) or "none" (if it refuses to be asked).
    :raises ValueError: if one of these can't be used; the text names it, and has no value.
    """

    base_url: str
    api_key: str = field(default="", repr=False)
    _: KW_ONLY
    name: str = ""
    api_key_header: str = "Authorization"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    model: str = ""
    limit: int | None = None
    billing_stops: bool | None = None
    usage: str = UsageStats.FINAL.value

    def __post_init__(self) -> None:
        """Check all of it, and keep copies of what the caller could change."""
        put = partial(object.__setattr__, self)
        put("base_url", _base_url(self.base_url))
        put("headers", dict(self.headers))
        put("query", dict(self.query))
        _require(not self.name or bool(_NAME.fullmatch(self.name)), _NAME_IS_WRONG)
        put("name", self.name or urlsplit(self.base_url).netloc)
        _check_value("api_key", self.api_key)
        _check_headers(self.headers, self.api_key_header if self.api_key else "")
        is_text = all(isinstance(each, str) for pair in self.query.items() for each in pair)
        _require(is_text, "query must have names and values that are text")
        _require(isinstance(self.model, str), "model must be text")
        is_count = type(self.limit) is int and self.limit > 0
        _require(self.limit is None or is_count, "limit must be a whole number greater than 0")
        _require(self.billing_stops in (True, False, None), "billing_stops must be true or false")
        is_known = self.usage in [stats.value for stats in UsageStats]
        _require(is_known, "usage must be 'final', 'continuous' or 'none'")

    @property
    def host(self) -> str:
        """The name or address of its host, in lower case."""
        return urlsplit(self.base_url).hostname or ""

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, and so needs no proxy."""
        return is_loopback(self.host)

    @property
    def shows_a_secret(self) -> bool:
        """Whether a key goes over a network in plain text."""
        return self.base_url.startswith("http://") and not self.is_local and any(self.secrets)

    @property
    def credentials(self) -> dict[str, str]:
        """All of its own headers, the one with the key among them."""
        if not self.api_key:
            return dict(self.headers)
        is_bearer = self.api_key_header.lower() == "authorization"
        return {
            **self.headers,
            self.api_key_header: f"Bearer {self.api_key}" if is_bearer else self.api_key,
        }

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may read, the longest first."""
        return tuple(sorted({self.api_key, *self._values()} - {""}, key=len, reverse=True))

    def _values(self) -> Iterator[str]:
        for name, value in (*self.headers.items(), *self.query.items()):
            if name.lower() not in _OPEN:
                forms = {value, *value.split()}
                yield from (each for each in forms if len(each) >= _SHORTEST_SECRET)


def listed(chosen: Upstream | Sequence[Upstream] | None) -> tuple[Upstream, ...]:
    """What an application has chosen, in its order; nothing if that is None.

    :raises TypeError: if it has chosen something else.
    """
    if chosen is None:
        return ()
    upstreams = (chosen,) if isinstance(chosen, Upstream) else tuple(chosen)
    if not upstreams or not all(isinstance(each, Upstream) for each in upstreams):
        raise TypeError("What is chosen must be Upstreams, at least one, or None.")
    return upstreams


def _require(is_so: bool, sentence: str) -> None:
    if not is_so:
        raise ValueError(sentence)


def _base_url(value: object) -> str:
    try:
        return as_base_url(value)
    except ValueError as error:
        raise ValueError(f"base_url {error}") from None


def _check_value(place: str, value: object) -> None:
    usable = isinstance(value, str) and _FIELD_VALUE.fullmatch(value)
    _require(bool(usable), f"{place} must be plain ASCII text on one line")


def _check_headers(headers: Mapping[Any, Any], key_header: object) -> None:
    """Check headers, and that of the key, if there is one."""
    fields = [*headers, *([key_header] if key_header else [])]
    for name in fields:
        usable = isinstance(name, str) and _FIELD_NAME.fullmatch(name)
        _require(bool(usable), "headers and api_key_header must have the names of HTTP headers")
    names = {name.lower() for name in fields}
    _require(len(names) == len(fields), "headers must not have a name twice, nor the key's")
    taken = ", ".join(sorted(_RESERVED & names))
    _require(not taken, f"headers must not have {taken}")
    for name, value in headers.items():
        _check_value(f"headers[{name!r}]", value)
