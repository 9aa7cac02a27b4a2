"""Settings: every option with its environment variable, its default, unit and meaning.

An option is read from the application's config if it is set there, else from the environment; else
it has its default. All are checked when the application starts: a wrong value raises
``ConfigError`` with one sentence that names the setting.

An unknown ``CHATPROXY_`` name is only warned about, because Kubernetes injects such names
(``CHATPROXY_SERVICE_HOST``, ``CHATPROXY_PORT``) beside a service called chatproxy. For the same
reason no setting has a name like those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from . import scopes, values
from .errors import ConfigError
from .hosts import is_loopback

#: The settings that lead out of an application: to an upstream and its key, to other workers, a
#: database, a collector; and who may come in. A test or a demo, which must stay by itself, has each
#: of them empty; so none that its environment sets counts.
LEADING_OUT = (
    "DEEPSEEK_API_KEY",
    "DEEPSEEK_BASE_URL",
    "CHATPROXY_UPSTREAMS",
    "CHATPROXY_TOKENS",
    "CHATPROXY_PEERS",
    "CHATPROXY_RUN_DIR",
    "CHATPROXY_RECORDS",
    "CHATPROXY_CONVERSATIONS",
    "CHATPROXY_TELEMETRY",
)


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
    secret = name in (
        "DEEPSEEK_API_KEY",
        "CHATPROXY_TOKENS",
        "CHATPROXY_PEERS",
        "CHATPROXY_RECORDS",
    )
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

    api_key: str = _option("DEEPSEEK_API_KEY", values.as_header_text, "", "the key for DeepSeek")
    base_url: str = _option(
        "DEEPSEEK_BASE_URL",
        values.as_base_url,
        "https://api.deepseek.com",
        "where DeepSeek answers",
    )
    model: str = _option(
        "CHATPROXY_MODEL", values.as_text, "deepseek-flash", "the model, if a request names none"
    )
    upstreams: str = _option(
        "CHATPROXY_UPSTREAMS",
        values.as_absolute_path,
        "",
        "a TOML file of models and the upstreams that answer them",
    )
    connect_timeout: float = _option(
        "CHATPROXY_CONNECT_TIMEOUT",
        values.as_seconds,
        10.0,
        "seconds until a request can be sent: resolving, connecting, a proxy and TLS together",
    )
    tries: int = _option(
        "CHATPROXY_TRIES", values.as_count, 3, "requests to upstreams for one question, at most"
    )
    queue: float = _option(
        "CHATPROXY_QUEUE",
        values.as_seconds_or_none,
        0.0,
        "seconds that a question waits for an upstream with as many calls as it may have",
    )
    prices: str = _option(
        "CHATPROXY_PRICES",
        values.as_absolute_path,
        "",
        "a TOML file of what tokens cost; DeepSeek's own prices are known",
    )
    tokenizer: str = _option(
        "CHATPROXY_TOKENIZER",
        values.as_tokenizer,
        "deepseek",
        "what counts the tokens of stopped answers: deepseek, if it is installed, "
        "module:function, or none",
    )
    idle_timeout: float = _option(
        "CHATPROXY_IDLE_TIMEOUT",
        values.as_seconds,
        300.0,
        "seconds without an event; keep-alives do not count",
    )
    deadline: float = _option(
        "CHATPROXY_DEADLINE", values.as_seconds, 1800.0, "seconds that a whole answer may take"
    )
    heartbeat: float = _option(
        "CHATPROXY_HEARTBEAT",
        values.as_seconds,
        15.0,
        "seconds of silence before a comment is sent",
    )
    reader_timeout: float = _option(
        "CHATPROXY_READER_TIMEOUT",
        values.as_seconds,
        60.0,
        "seconds after which a client that takes nothing is disconnected",
    )
    max_body_bytes: int = _option(
        "CHATPROXY_MAX_BODY_BYTES", values.as_count, 1 << 20, "the largest request body, in bytes"
    )
    body_timeout: float = _option(
        "CHATPROXY_BODY_TIMEOUT",
        values.as_seconds,
        30.0,
        "seconds in which a whole request must come",
    )
    log_bytes: int = _option(
        "CHATPROXY_LOG_BYTES",
        values.as_count,
        4 << 20,
        "bytes of an answer that are kept for its readers",
    )
    retain: float = _option(
        "CHATPROXY_RETAIN", values.as_seconds, 60.0, "seconds for which an ended answer can be read"
    )
    retain_bytes: int = _option(
        "CHATPROXY_RETAIN_BYTES",
        values.as_count,
        256 << 20,
        "bytes of ended answers that a worker keeps",
    )
    on_disconnect: float = _option(
        "CHATPROXY_ON_DISCONNECT",
        values.as_on_disconnect,
        0.0,
        "when the last reader has left: stop, or the seconds in which one may come back",
        shown="stop",
    )
    on_active: str = _option(
        "CHATPROXY_ON_ACTIVE",
        values.as_on_active,
        "reject",
        "a new question while one of its chat is live: reject, replace it, or enqueue",
    )
    max_sessions: int = _option(
        "CHATPROXY_MAX_SESSIONS", values.as_count, 2000, "live sessions in one worker"
    )
    max_sessions_per_owner: int = _option(
        "CHATPROXY_MAX_SESSIONS_PER_OWNER",
        values.as_count,
        20,
        "live sessions of one owner, if known",
    )
    budgets: tuple[dict[str, Any], ...] = _option(
        "CHATPROXY_BUDGET",
        values.as_budgets,
        (),
        "what each owner may spend, comma-separated: 100000 tokens/day, 5 USD/month",
    )
    budget_max_tokens: int = _option(
        "CHATPROXY_BUDGET_MAX_TOKENS",
        values.as_count,
        8192,
        "the longest answer under a budget, in tokens, if its client does not say",
    )
    name: str = _option(
        "CHATPROXY_NAME", scopes.check_name, "", "the application's name, if several share a server"
    )
    grace: float = _option(
        "CHATPROXY_GRACE",
        values.as_seconds,
        25.0,
        "seconds for running answers to end after a SIGTERM",
    )
    run_grace: float = _option(
        "CHATPROXY_RUN_GRACE",
        values.as_run_grace,
        1.0,
        "seconds for the code of a run to end after a Stop",
    )
    tokens: tuple[tuple[str, str], ...] = _option(
        "CHATPROXY_TOKENS",
        values.as_tokens,
        (),
        "comma-separated owner:token: who may use the standalone server",
    )
    peers: str = _option(
        "CHATPROXY_PEERS",
        values.as_peers,
        "local",
        "how workers find each other: local, or a redis:// URL",
    )
    run_dir: str = _option(
        "CHATPROXY_RUN_DIR",
        values.as_absolute_path,
        "",
        "the private directory that the workers share",
    )
    lease: float = _option(
        "CHATPROXY_LEASE",
        values.as_seconds,
        20.0,
        "seconds after which a dead host's sessions are given up",
    )
    without_peers: str = _option(
        "CHATPROXY_WITHOUT_PEERS",
        values.as_without_peers,
        "refuse",
        "new streams while Redis is unreachable: refuse, or run",
    )
    records: str = _option(
        "CHATPROXY_RECORDS",
        values.as_records,
        "",
        "a database in which each answer has a row: the URL of a SQLite file or a PostgreSQL",
    )
    records_buffer: int = _option(
        "CHATPROXY_RECORDS_BUFFER",
        values.as_count,
        10_000,
        "answers of a worker that wait while that database is away",
    )
    cors_origins: tuple[str, ...] = _option(
        "CHATPROXY_CORS_ORIGINS",
        values.as_origins,
        (),
        "comma-separated other origins whose pages may use this server",
    )
    hosts: tuple[str, ...] = _option(
        "CHATPROXY_HOSTS",
        values.as_hosts,
        (),
        "comma-separated host names of the standalone server; .example.com, 10.0.0.0/8, * for any",
        shown="loopback names, on a loopback address",
    )
    log_format: str = _option(
        "CHATPROXY_LOG_FORMAT",
        values.as_log_format,
        "text",
        "the log of the standalone server: text, or json, an object a line",
    )
    telemetry: bool = _option(
        "CHATPROXY_TELEMETRY",
        values.as_switch,
        False,
        "1: spans and metrics by OpenTelemetry; the standalone server sends them by OTLP",
    )
    telemetry_content: bool = _option(
        "CHATPROXY_TELEMETRY_CONTENT",
        values.as_switch,
        False,
        "1: the spans have the messages and the answers, too",
    )
    propagate_trace: bool = _option(
        "CHATPROXY_PROPAGATE_TRACE",
        values.as_switch,
        False,
        "1: upstreams are told the trace (the header traceparent)",
    )
    insecure: bool = _option(
        "CHATPROXY_INSECURE",
        values.as_switch,
        False,
        "1: no warnings about what is open to strangers",
    )
    notice: str = _option(
        "CHATPROXY_NOTICE", values.as_text, "", "a line at the top of the chat page"
    )
    vision_models: tuple[str, ...] = _option(
        "CHATPROXY_VISION_MODELS",
        values.as_models,
        (),
        "comma-separated models that take images, so that the chat page sends them some",
    )
    page_defaults: tuple[tuple[str, Any], ...] = _option(
        "CHATPROXY_PAGE_DEFAULTS",
        values.as_page_defaults,
        (),
        "what a chat on the page begins with, as JSON: system, temperature, max_tokens, "
        "reasoning_effort",
    )
    conversations: bool = _option(
        "CHATPROXY_CONVERSATIONS",
        values.as_switch,
        False,
        "1: the chats of owners are kept in the database of the records, for their other devices",
    )
    conversation_bytes: int = _option(
        "CHATPROXY_CONVERSATION_BYTES",
        values.as_count,
        2 << 20,
        "the largest chat that is kept there, in bytes",
    )
    conversations_per_owner: int = _option(
        "CHATPROXY_CONVERSATIONS_PER_OWNER",
        values.as_count,
        2000,
        "chats of one owner that are kept there",
    )
    conversation_bytes_per_owner: int = _option(
        "CHATPROXY_CONVERSATION_BYTES_PER_OWNER",
        values.as_count,
        256 << 20,
        "bytes of one owner's chats that are kept there",
    )
    openai_prefix: str = _option(
        "CHATPROXY_OPENAI_PREFIX",
        values.as_prefix,
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
        found = {}
        for option in fields(cls):
            name = option.metadata["name"]
            raw = config.get(name) if config.get(name) is not None else environ.get(name)
            is_empty = isinstance(raw, str) and not raw.strip()
            if raw is None or (is_empty and not option.metadata["may_be_empty"]):
                continue
            try:
                found[option.name] = option.metadata["read"](raw)
            except ValueError as error:
                raise ConfigError(f"{name} {error}.") from None
        return cls(**found)


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
