"""Values: how each kind of setting is read from its text, or from an application's config.

Each function returns the value as it is used, or raises ``ValueError`` with the end of a sentence
that begins with the name of the setting. The text never repeats what was given: it may be a key.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from .hosts import Hosts

#: The longest time, in seconds, that the operating system's timers can surely take.
_LONGEST = 10_000_000
#: A Stop is answered after two seconds at the most, by another worker a little earlier.
_LONGEST_RUN_GRACE = 1.5

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!\"$-&(->@-~]*)?",
    re.IGNORECASE,
)


def _is_host(host: str, port: str | None) -> bool:
    if not 0 < int(port or 1) < 65536:
        return False
    if not host.startswith("["):
        return all(host.split("."))
    try:
        return bool(ipaddress.IPv6Address(host[1:-1]))
    except ValueError:
        return False


def as_text(value: Any) -> str:
    """Printable text on one line."""
    text = str(value).strip()
    if not text.isprintable():
        raise ValueError("must be printable text on one line")
    return text


def as_header_text(value: Any) -> str:
    """Text that a header can carry: plain ASCII on one line."""
    text = as_text(value)
    if not text.isascii():
        raise ValueError("must be plain ASCII text")
    return text


def as_seconds(value: Any) -> float:
    """A number of seconds, greater than 0."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:  # false for NaN
        raise ValueError(f"must be a number of seconds greater than 0, and at most {_LONGEST}")
    return seconds


def as_run_grace(value: Any) -> float:
    """Seconds that leave a receipt time to tell of what has not ended."""
    seconds = as_seconds(value)
    if seconds > _LONGEST_RUN_GRACE:
        raise ValueError(
            f"must be at most {_LONGEST_RUN_GRACE} seconds, so that a receipt can tell of the code"
        )
    return seconds


def as_seconds_or_none(value: Any) -> float:
    """A number of seconds, or 0."""
    if str(value).strip() in ("0", "0.0"):
        return 0.0
    try:
        return as_seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}, or 0") from None


def as_count(value: Any) -> int:
    """A whole number greater than 0."""
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError("must be a whole number greater than 0")
    return count


def as_base_url(value: Any) -> str:
    """The URL below which an upstream has its routes, as it is used.

    :raises ValueError: if it can't be one. The text has no word of it: it may have a password.
    """
    found = _URL.fullmatch(as_header_text(value).rstrip("/"))
    if found is None or not _is_host(found["host"], found["port"]):
        raise ValueError("must be a URL such as https://api.deepseek.com, without a query")
    return found["scheme"].lower() + found[0][len(found["scheme"]) :]


def as_on_disconnect(value: Any) -> float:
    """``stop``, which is 0, or a number of seconds."""
    if str(value).strip() == "stop":
        return 0.0
    try:
        return as_seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}, or 'stop'") from None


_PEERS = re.compile(r"(redis|rediss|unix|redis\+sentinel|rediss\+sentinel)://[!-~]+")


def as_peers(value: Any) -> str:
    """``local``, or the URL of a Redis."""
    peers = as_header_text(value)
    if peers != "local" and not _PEERS.fullmatch(peers):
        raise ValueError("must be 'local' or a URL such as redis://127.0.0.1:6379/0")
    return peers


#: With a file: what is only in memory would be no record, and each connection's own.
_RECORDS = re.compile(r"sqlite:///(?!:memory:)[!-~]+|postgresql(?:\+psycopg)?://[!-~]+")


def as_records(value: Any) -> str:
    """The URL of a SQLite file or a PostgreSQL."""
    url = as_header_text(value)
    if not _RECORDS.fullmatch(url):
        raise ValueError(
            "must be a URL such as sqlite:////var/lib/chatproxy/records.db or "
            "postgresql://user:password@host/database"
        )
    return url


def as_without_peers(value: Any) -> str:
    """``refuse`` or ``run``."""
    if str(value).strip() not in ("refuse", "run"):
        raise ValueError("must be 'refuse' or 'run'")
    return str(value).strip()


def as_on_active(value: Any) -> str:
    """What a new question does while another of its chat is live.

    :raises ValueError: if it is none of the three words.
    """
    if str(value).strip() not in ("reject", "replace", "enqueue"):
        raise ValueError("must be 'reject', 'replace' or 'enqueue'")
    return str(value).strip()


def as_log_format(value: Any) -> str:
    """``text`` or ``json``."""
    if str(value).strip() not in ("text", "json"):
        raise ValueError("must be 'text' or 'json'")
    return str(value).strip()


def as_absolute_path(value: Any) -> str:
    """The absolute path of a file or a directory."""
    path = as_text(value)
    if not path.startswith("/"):
        raise ValueError("must be an absolute path")
    return path


#: What a header can carry (RFC 6750), and nobody can guess.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")


def _token(entry: Any) -> tuple[str, str]:
    owner, _, token = (part.strip() for part in str(entry).partition(":"))
    if not owner or not owner.isprintable() or not _TOKEN.fullmatch(token):
        raise ValueError(
            "must be comma-separated owner:token, each token 16 or more of A-Z a-z 0-9 - . _ ~ + /"
        )
    return owner, token


_TOKENIZER = re.compile(r"deepseek|none|[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def as_tokenizer(value: Any) -> str:
    """The name of a tokenizer."""
    name = str(value).strip()
    if not _TOKENIZER.fullmatch(name):
        raise ValueError("must be 'deepseek', 'none' or a function, as module:function")
    return name


def as_tokens(value: Any) -> tuple[tuple[str, str], ...]:
    """Pairs of an owner and a token."""
    listed = value if isinstance(value, (list, tuple)) else str(value).split(",")
    tokens = tuple(_token(entry) for entry in listed if str(entry).strip())
    if not tokens:  # a list without entries must not leave the server open
        raise ValueError("must have at least one owner:token")
    if len({token for _, token in tokens}) < len(tokens):
        raise ValueError("must not have the same token twice")
    return tokens


def as_origins(value: Any) -> tuple[str, ...]:
    """Origins of pages, such as ``https://chat.example.com``."""
    listed = value if isinstance(value, (list, tuple)) else str(value).split(",")
    origins = tuple(str(origin).strip().rstrip("/") for origin in listed if str(origin).strip())
    for origin in origins:
        found = _URL.fullmatch(origin)
        if found is None or found["path"] or not _is_host(found["host"], found["port"]):
            raise ValueError("must be comma-separated origins such as https://chat.example.com")
    return origins


def as_hosts(value: Any) -> tuple[str, ...]:
    """What ``Hosts`` takes."""
    listed = value if isinstance(value, (list, tuple)) else str(value).split(",")
    hosts = tuple(str(host).strip() for host in listed if str(host).strip())
    try:
        Hosts(hosts)
    except ValueError:
        hosts = ()
    if not hosts:  # an empty list must neither allow every host nor refuse all
        raise ValueError(
            "must be comma-separated host names without ports, such as chat.example.com, "
            ".example.com, 10.0.0.0/8 or *"
        )
    return hosts


_BUDGET = re.compile(
    r"(?:(?P<tokens>[1-9][0-9]{0,14}) tokens|(?P<amount>[0-9]{1,6}(?:\.[0-9]{1,6})?) "
    r"(?P<currency>[A-Z]{3}))/(?P<per>day|month)"
)


def as_budgets(value: Any) -> tuple[dict[str, Any], ...]:
    """Budgets: what ``accounting.budgets.Budget`` takes."""
    listed = value if isinstance(value, (list, tuple)) else str(value).split(",")
    found = [_BUDGET.fullmatch(str(budget).strip()) for budget in listed if str(budget).strip()]
    budgets = []
    for each in found:
        if each is None or not float(each["tokens"] or each["amount"]):
            raise ValueError(
                "must be comma-separated budgets such as '100000 tokens/day' or '5.50 USD/month'"
            )
        fields = {name: text for name, text in each.groupdict().items() if text is not None}
        budgets.append(fields | ({"tokens": int(each["tokens"])} if each["tokens"] else {}))
    if len({(each.get("currency"), each["per"]) for each in budgets}) < len(budgets):
        raise ValueError("must not have two budgets of one unit for the same period")
    return tuple(budgets)


def as_models(value: Any) -> tuple[str, ...]:
    """The names of models."""
    listed = value if isinstance(value, (list, tuple)) else str(value).split(",")
    return tuple(as_text(model) for model in listed if str(model).strip())


#: The fields of a question that the page lets its user set, with the values that DeepSeek takes
#: (https://api-docs.deepseek.com/api/create-chat-completion).
_PAGE_DEFAULTS: dict[str, Callable[[Any], bool]] = {
    "system": lambda value: isinstance(value, str),
    "temperature": lambda value: type(value) in (int, float) and 0 <= value <= 2,
    "max_tokens": lambda value: type(value) is int and 1 <= value <= 393_216,
    "reasoning_effort": lambda value: value in ("low", "high", "max"),
}


def as_page_defaults(value: Any) -> tuple[tuple[str, Any], ...]:
    """What a chat on the page begins with."""
    try:
        chosen = dict(value) if isinstance(value, Mapping) else json.loads(str(value))
        sound = isinstance(chosen, dict)
        sound = sound and all(_PAGE_DEFAULTS[name](chosen[name]) for name in chosen)
    except (ValueError, KeyError):
        sound = False
    if not sound:
        raise ValueError(
            "must be a JSON object of system (text), temperature (0 to 2), "
            "max_tokens (1 to 393216) and reasoning_effort (low, high or max), all optional"
        )
    return tuple(chosen.items())


def as_switch(value: Any) -> bool:
    """On or off."""
    switches = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    try:
        return switches[str(value).strip().lower()]
    except KeyError:
        raise ValueError("must be 1 or 0") from None


_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


def as_prefix(value: Any) -> str:
    """A path, or nothing."""
    prefix = str(value).strip()
    if prefix and not _PREFIX.fullmatch(prefix.rstrip("/")):
        raise ValueError("must be a path such as /v1, or empty")
    return prefix.rstrip("/")
