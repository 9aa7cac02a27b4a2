"""Settings: every option with its environment variable, its default, unit and meaning.

An option is read from the application's config if it is set there, else from the environment; else
it has its default. All are checked when the application starts: a wrong value raises
``ConfigError`` with one sentence that names the setting.

An unknown ``CHATPROXY_`` name is only warned about, because Kubernetes injects such names
(``CHATPROXY_SERVICE_HOST``, ``CHATPROXY_PORT``) beside a service called chatproxy. For the same
reason no setting has a name like those.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from . import scopes
from .errors import ConfigError
from .hosts import Hosts, is_loopback

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


def _text(value: Any) -> str:
    text = str(value).strip()
    if not text.isprintable():
        raise ValueError("must be printable text on one line")
    return text


def _header_text(value: Any) -> str:
    text = _text(value)
    if not text.isascii():
        raise ValueError("must be plain ASCII text")
    return text


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = 0.0
    if not 0 < seconds <= _LONGEST:  # false for NaN
        raise ValueError(f"must be a number of seconds greater than 0, and at most {_LONGEST}")
    return seconds


def _run_grace(value: Any) -> float:
    seconds = _seconds(value)
    if seconds > _LONGEST_RUN_GRACE:
        raise ValueError(
            f"must be at most {_LONGEST_RUN_GRACE} seconds, so that a receipt can tell of the code"
        )
    return seconds


def _seconds_or_none(value: Any) -> float:
    if str(value).strip() in ("0", "0.0"):
        return 0.0
    try:
        return _seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}, or 0") from None


def _count(value: Any) -> int:
    try:
        count = int(str(value))
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError("must be a whole number greater than 0")
    return count


def check_base_url(value: Any) -> str:
    """The URL below which an upstream has its routes, as it is used.

    :raises ValueError: if it can't be one. The text has no word of it: it may have a password.
    """
    found = _URL.fullmatch(_header_text(value).rstrip("/"))
    if found is None or not _is_host(found["host"], found["port"]):
        raise ValueError("must be a URL such as https://api.deepseek.com, without a query")
    return found["scheme"].lower() + found[0][len(found["scheme"]) :]


def _on_disconnect(value: Any) -> float:
    if str(value).strip() == "stop":
        return 0.0
    try:
        return _seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}, or 'stop'") from None


_PEERS = re.compile(r"(redis|rediss|unix|redis\+sentinel|rediss\+sentinel)://[!-~]+")


def _peers(value: Any) -> str:
    peers = _header_text(value)
    if peers != "local" and not _PEERS.fullmatch(peers):
        raise ValueError("must be 'local' or a URL such as redis://127.0.0.1:6379/0")
    return peers


def _without_peers(value: Any) -> str:
    if str(value).strip() not in ("refuse", "run"):
        raise ValueError("must be 'refuse' or 'run'")
    return str(value).strip()


def check_on_active(value: Any) -> str:
    """What a new question does while another of its chat is live.

    :raises ValueError: if it is none of the three words.
    """
    if str(value).strip() not in ("reject", "replace", "enqueue"):
        raise ValueError("must be 'reject', 'replace' or 'enqueue'")
    return str(value).strip()


def _absolute_path(value: Any) -> str:
    path = _text(value)
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


def _tokens(value: Any) -> tuple[tuple[str, str], ...]:
    listed = value if isinstance(value, (list, tuple)) else str(value).split(",")
    tokens = tuple(_token(entry) for entry in listed if str(entry).strip())
    if not tokens:  # a list without entries must not leave the server open
        raise ValueError("must have at least one owner:token")
    if len({token for _, token in tokens}) < len(tokens):
        raise ValueError("must not have the same token twice")
    return tokens


def _origins(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, (list, tuple)) else str(value).split(",")
    origins = tuple(str(origin).strip().rstrip("/") for origin in listed if str(origin).strip())
    for origin in origins:
        found = _URL.fullmatch(origin)
        if found is None or found["path"] or not _is_host(found["host"], found["port"]):
            raise ValueError("must be comma-separated origins such as https://chat.example.com")
    return origins


def _hosts(value: Any) -> tuple[str, ...]:
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


def _models(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, (list, tuple)) else str(value).split(",")
    return tuple(_text(model) for model in listed if str(model).strip())


#: The fields of a question that the page lets its user set, with the values that DeepSeek takes
#: (https://api-docs.deepseek.com/api/create-chat-completion).
_PAGE_DEFAULTS: dict[str, Callable[[Any], bool]] = {
    "system": lambda value: isinstance(value, str),
    "temperature": lambda value: type(value) in (int, float) and 0 <= value <= 2,
    "max_tokens": lambda value: type(value) is int and 1 <= value <= 393_216,
    "reasoning_effort": lambda value: value in ("low", "high", "max"),
}


def _page_defaults(value: Any) -> tuple[tuple[str, Any], ...]:
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


def _switch(value: Any) -> bool:
    switches = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    try:
        return switches[str(value).strip().lower()]
    except KeyError:
        raise ValueError("must be 1 or 0") from None


_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


def _prefix(value: Any) -> str:
    prefix = str(value).strip()
    if prefix and not _PREFIX.fullmatch(prefix.rstrip("/")):
        raise ValueError("must be a path such as /v1, or empty")
    return prefix.rstrip("/")


def _option(
    name: str,
    read: Callable[[Any], Any],
    default: Any,
    meaning: str,
    shown: str | None = None,
    *,
    may_be_empty: bool = False,
) -> Any:
    """A field of ``Settings``: the name of its setting, how to read it, and what it means.

    :param shown: its default as one would write it, if that is not what Python shows.
    :param may_be_empty: whether an empty string is a value; otherwise it counts as not set.
    """
    secret = name in ("DEEPSEEK_API_KEY", "CHATPROXY_TOKENS", "CHATPROXY_PEERS")
    metadata = {
        "name": name,
        "read": read,
        "meaning": meaning,
        "shown": shown,
        "may_be_empty": may_be_empty,
    }
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The settings of one application. Durations are seconds, sizes are bytes."""

    api_key: str = _option("DEEPSEEK_API_KEY", _header_text, "", "the key for DeepSeek")
    base_url: str = _option(
        "DEEPSEEK_BASE_URL", check_base_url, "https://api.deepseek.com", "where DeepSeek answers"
    )
    model: str = _option(
        "CHATPROXY_MODEL", _text, "deepseek-flash", "the model, if a request names none"
    )
    upstreams: str = _option(
        "CHATPROXY_UPSTREAMS",
        _absolute_path,
        "",
        "a TOML file of models and the upstreams that answer them",
    )
    connect_timeout: float = _option(
        "CHATPROXY_CONNECT_TIMEOUT",
        _seconds,
        10.0,
        "seconds for each step: resolving, connecting, TLS",
    )
    tries: int = _option(
        "CHATPROXY_TRIES", _count, 3, "requests to upstreams for one question, at most"
    )
    queue: float = _option(
        "CHATPROXY_QUEUE",
        _seconds_or_none,
        0.0,
        "seconds that a question waits for an upstream with as many calls as it may have",
    )
    idle_timeout: float = _option(
        "CHATPROXY_IDLE_TIMEOUT",
        _seconds,
        300.0,
        "seconds without an event; keep-alives do not count",
    )
    deadline: float = _option(
        "CHATPROXY_DEADLINE", _seconds, 1800.0, "seconds that a whole answer may take"
    )
    heartbeat: float = _option(
        "CHATPROXY_HEARTBEAT", _seconds, 15.0, "seconds of silence before a comment is sent"
    )
    reader_timeout: float = _option(
        "CHATPROXY_READER_TIMEOUT",
        _seconds,
        60.0,
        "seconds after which a client that takes nothing is disconnected",
    )
    max_body_bytes: int = _option(
        "CHATPROXY_MAX_BODY_BYTES", _count, 1 << 20, "the largest request body, in bytes"
    )
    body_timeout: float = _option(
        "CHATPROXY_BODY_TIMEOUT", _seconds, 30.0, "seconds in which a whole request must come"
    )
    log_bytes: int = _option(
        "CHATPROXY_LOG_BYTES", _count, 4 << 20, "bytes of an answer that are kept for its readers"
    )
    retain: float = _option(
        "CHATPROXY_RETAIN", _seconds, 60.0, "seconds for which an ended answer can be read"
    )
    retain_bytes: int = _option(
        "CHATPROXY_RETAIN_BYTES", _count, 256 << 20, "bytes of ended answers that a worker keeps"
    )
    on_disconnect: float = _option(
        "CHATPROXY_ON_DISCONNECT",
        _on_disconnect,
        0.0,
        "when the last reader has left: stop, or the seconds in which one may come back",
        shown="stop",
    )
    on_active: str = _option(
        "CHATPROXY_ON_ACTIVE",
        check_on_active,
        "reject",
        "a new question while one of its chat is live: reject, replace it, or enqueue",
    )
    max_sessions: int = _option(
        "CHATPROXY_MAX_SESSIONS", _count, 2000, "live sessions in one worker"
    )
    max_sessions_per_owner: int = _option(
        "CHATPROXY_MAX_SESSIONS_PER_OWNER", _count, 20, "live sessions of one owner, if known"
    )
    name: str = _option(
        "CHATPROXY_NAME", scopes.check_name, "", "the application's name, if several share a server"
    )
    grace: float = _option(
        "CHATPROXY_GRACE", _seconds, 25.0, "seconds for running answers to end after a SIGTERM"
    )
    run_grace: float = _option(
        "CHATPROXY_RUN_GRACE", _run_grace, 1.0, "seconds for the code of a run to end after a Stop"
    )
    tokens: tuple[tuple[str, str], ...] = _option(
        "CHATPROXY_TOKENS",
        _tokens,
        (),
        "comma-separated owner:token: who may use the standalone server",
    )
    peers: str = _option(
        "CHATPROXY_PEERS", _peers, "local", "how workers find each other: local, or a redis:// URL"
    )
    run_dir: str = _option(
        "CHATPROXY_RUN_DIR", _absolute_path, "", "the private directory that the workers share"
    )
    lease: float = _option(
        "CHATPROXY_LEASE", _seconds, 20.0, "seconds after which a dead host's sessions are given up"
    )
    without_peers: str = _option(
        "CHATPROXY_WITHOUT_PEERS",
        _without_peers,
        "refuse",
        "new streams while Redis is unreachable: refuse, or run",
    )
    cors_origins: tuple[str, ...] = _option(
        "CHATPROXY_CORS_ORIGINS",
        _origins,
        (),
        "comma-separated other origins whose pages may use this server",
    )
    hosts: tuple[str, ...] = _option(
        "CHATPROXY_HOSTS",
        _hosts,
        (),
        "comma-separated host names of the standalone server; .example.com, 10.0.0.0/8, * for any",
        shown="loopback names, on a loopback address",
    )
    insecure: bool = _option(
        "CHATPROXY_INSECURE", _switch, False, "1: no warnings about what is open to strangers"
    )
    notice: str = _option("CHATPROXY_NOTICE", _text, "", "a line at the top of the chat page")
    vision_models: tuple[str, ...] = _option(
        "CHATPROXY_VISION_MODELS",
        _models,
        (),
        "comma-separated models that take images, so that the chat page sends them some",
    )
    page_defaults: tuple[tuple[str, Any], ...] = _option(
        "CHATPROXY_PAGE_DEFAULTS",
        _page_defaults,
        (),
        "what a chat on the page begins with, as JSON: system, temperature, max_tokens, "
        "reasoning_effort",
    )
    openai_prefix: str = _option(
        "CHATPROXY_OPENAI_PREFIX",
        _prefix,
        "/v1",
        "the path of the routes for OpenAI's clients; empty for none",
        may_be_empty=True,
    )

    def require_key(self) -> None:
        """Check that there is a key if one is needed.

        :raises ConfigError: if it is missing.
        """
        if self.lacks_key:
            raise ConfigError(
                "DEEPSEEK_API_KEY is not set; only a DEEPSEEK_BASE_URL on this machine needs none."
            )

    @property
    def lacks_key(self) -> bool:
        """Whether there is no key for DeepSeek, and it needs one."""
        return not self.api_key and not self.upstream_is_local

    @property
    def upstream_is_local(self) -> bool:
        """Whether the upstream is on this machine, and so needs no key and no proxy."""
        return is_loopback(urlsplit(self.base_url).hostname or "")

    @property
    def shows_its_key(self) -> bool:
        """Whether the key goes over a network in plain text."""
        plain = self.base_url.startswith("http://")
        return bool(self.api_key) and plain and not self.upstream_is_local

    @classmethod
    def load(cls, config: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
        """Read the settings from an application's config, then from the environment.

        An empty string counts as not set, unless the option may be empty.

        :raises ConfigError: with one sentence, for the first setting that is wrong.
        """
        values = {}
        for option in fields(cls):
            name = option.metadata["name"]
            raw = config.get(name) if config.get(name) is not None else environ.get(name)
            is_empty = isinstance(raw, str) and not raw.strip()
            if raw is None or (is_empty and not option.metadata["may_be_empty"]):
                continue
            try:
                values[option.name] = option.metadata["read"](raw)
            except ValueError as error:
                raise ConfigError(f"{name} {error}.") from None
        return cls(**values)


def describe() -> Iterable[tuple[str, str, str]]:
    """Every setting as (name, default, meaning), in order, for help texts and documents."""
    for option in fields(Settings):
        default = option.default
        shown = f"{default:g}" if isinstance(default, float) else str(default or "")
        yield option.metadata["name"], option.metadata["shown"] or shown, option.metadata["meaning"]


def unknown_names(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that begin like a setting of ours and are not one."""
    known = {name for name, _, _ in describe()}
    return sorted(name for name in names if name.startswith("CHATPROXY_") and name not in known)
