"""Settings: every option by its name, the order of the sources, one sentence for each mistake."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest

from chatproxy.config import LEADING_OUT, Settings, describe, unknown_names
from chatproxy.errors import ConfigError

KEY = "sk-0123456789abcdef"
WITH_KEY = {"DEEPSEEK_API_KEY": KEY}

#: For each setting: its field, values as an environment gives them with what they mean, and values
#: that are refused.
CASES: dict[str, tuple[str, dict[str, Any], list[Any]]] = {
    "DEEPSEEK_API_KEY": ("api_key", {"sk-1": "sk-1", " sk-1\n": "sk-1"}, ["sk-ä", "sk\n-1"]),
    "CHATPROXY_PRICES": ("prices", {"/etc/prices.toml": "/etc/prices.toml"}, ["prices.toml"]),
    "CHATPROXY_TOKENIZER": (
        "tokenizer",
        {"deepseek": "deepseek", "none": "none", "my.tokens:count": "my.tokens:count"},
        ["gpt", "a b:c", ":count"],
    ),
    "DEEPSEEK_BASE_URL": (
        "base_url",
        {
            "https://api.deepseek.com/": "https://api.deepseek.com",
            "http://gateway.example:8080/v1": "http://gateway.example:8080/v1",
            "http://[::1]:8001": "http://[::1]:8001",
            "HTTPS://api.deepseek.com/V1": "https://api.deepseek.com/V1",
        },
        [
            *("api.deepseek.com", "ftp://api.deepseek.com", "https://", "https://[::1"),
            *("http://[v1.x]", "https://*", "https://api..deepseek.com"),
            *("https://api deepseek.com", "https://api.deepseek.com/\tv1"),
            *("https://api.deepseek.com:seven", "https://api.deepseek.com:70000"),
            *("https://user:password@api.deepseek.com", "https://api.deepseek.com/?key=1"),
            *("https://api.deepseek.com/#top", "https://api.deepseek.com\r\nX: y"),
        ],
    ),
    "CHATPROXY_MODEL": ("model", {"deepseek-pro": "deepseek-pro"}, ["a\nb", "a\x00"]),
    "CHATPROXY_NAME": (
        "name",
        {"acme": "acme", "a" * 64: "a" * 64, "Acme-2.eu_west": "Acme-2.eu_west", "7": "7"},
        ["a b", "a/b", "a#2", "a:b", "-a", ".", "a" * 65, "é", "a\n"],
    ),
    "CHATPROXY_OPENAI_PREFIX": (
        "openai_prefix",
        {"/v1": "/v1", " /openai/v1.1/ ": "/openai/v1.1", "": "", " ": ""},
        ["v1", "/", "//v1", "/v1//x", "/a b", "/v1?x", "/{x}", "/<x>", "https://a.example/v1"],
    ),
    "CHATPROXY_VISION_MODELS": (
        "vision_models",
        {"qwen-vl": ("qwen-vl",), " a, b ,,": ("a", "b"), ",": ()},
        ["a\nb", "a,b\x00"],
    ),
    "CHATPROXY_PAGE_DEFAULTS": (
        "page_defaults",
        {
            "{}": (),
            '{"temperature": 0, "max_tokens": 9}': (("temperature", 0), ("max_tokens", 9)),
            '{"system": "Kurz.", "reasoning_effort": "max"}': (
                *(("system", "Kurz."), ("reasoning_effort", "max")),
            ),
        },
        [
            *("{", "[]", '"system"', '{"top_p": 1}', '{"system": 1}'),
            *('{"temperature": 2.1}', '{"temperature": NaN}', '{"temperature": true}'),
            *('{"max_tokens": 0}', '{"max_tokens": 1.5}', '{"reasoning_effort": "none"}'),
        ],
    ),
    "CHATPROXY_NOTICE": ("notice", {" A word. ": "A word.", "Ä €": "Ä €"}, ["a\nb"]),
    "CHATPROXY_MAX_BODY_BYTES": ("max_body_bytes", {"1": 1, "2048": 2048}, []),
    "CHATPROXY_BODY_TIMEOUT": ("body_timeout", {"0.5": 0.5}, ["0"]),
    "CHATPROXY_CONVERSATIONS": ("conversations", {"1": True, "0": False}, ["maybe"]),
    "CHATPROXY_CONVERSATION_BYTES": ("conversation_bytes", {"65536": 65536}, []),
    "CHATPROXY_CONVERSATIONS_PER_OWNER": ("conversations_per_owner", {"10": 10}, []),
    "CHATPROXY_CONVERSATION_BYTES_PER_OWNER": ("conversation_bytes_per_owner", {"10": 10}, []),
    "CHATPROXY_LOG_BYTES": ("log_bytes", {"65536": 65536}, []),
    "CHATPROXY_MAX_SESSIONS": ("max_sessions", {"10": 10}, []),
    "CHATPROXY_MAX_SESSIONS_PER_OWNER": ("max_sessions_per_owner", {"3": 3}, []),
    "CHATPROXY_CONNECT_TIMEOUT": ("connect_timeout", {"0.5": 0.5, "3": 3.0}, []),
    "CHATPROXY_TRIES": ("tries", {"1": 1}, []),
    "CHATPROXY_QUEUE": ("queue", {"0": 0.0, "2.5": 2.5}, []),
    "CHATPROXY_UPSTREAMS": (
        "upstreams",
        {"/etc/chatproxy/upstreams.toml": "/etc/chatproxy/upstreams.toml"},
        ["upstreams.toml", "/a\nb"],
    ),
    "CHATPROXY_BUDGET": (
        "budgets",
        {
            "100000 tokens/day": ({"tokens": 100_000, "per": "day"},),
            " 1 tokens/month,5 USD/day ,": (
                {"tokens": 1, "per": "month"},
                {"amount": "5", "currency": "USD", "per": "day"},
            ),
            "0.5 EUR/month": ({"amount": "0.5", "currency": "EUR", "per": "month"},),
        },
        [
            *("5", "5 tokens", "0 tokens/day", "5 tokens/day,6 tokens/day"),
            *("5 USD/hour", "0.0 USD/day", "5 usd/day", "-5 USD/day"),
        ],
    ),
    "CHATPROXY_BUDGET_MAX_TOKENS": ("budget_max_tokens", {"500": 500}, []),
    "CHATPROXY_ON_ACTIVE": (
        "on_active",
        {"reject": "reject", " replace ": "replace", "enqueue": "enqueue"},
        ["stop", "Replace", "1"],
    ),
    "CHATPROXY_IDLE_TIMEOUT": ("idle_timeout", {"60": 60.0}, []),
    "CHATPROXY_DEADLINE": ("deadline", {"600": 600.0}, []),
    "CHATPROXY_HEARTBEAT": ("heartbeat", {"1e1": 10.0}, []),
    "CHATPROXY_READER_TIMEOUT": ("reader_timeout", {"2.5": 2.5}, []),
    "CHATPROXY_RETAIN": ("retain", {"0.1": 0.1}, []),
    "CHATPROXY_GRACE": ("grace", {"5": 5.0}, []),
    "CHATPROXY_RUN_GRACE": ("run_grace", {"0.5": 0.5}, []),
    "CHATPROXY_RETAIN_BYTES": ("retain_bytes", {"1000000": 1_000_000}, []),
    "CHATPROXY_ON_DISCONNECT": (
        "on_disconnect",
        {"stop": 0.0, " stop ": 0.0, "30": 30.0},
        ["wait", "0", "-1"],
    ),
    "CHATPROXY_TOKENS": (
        "tokens",
        {
            "ann:0123456789abcdef": (("ann", "0123456789abcdef"),),
            " Änne B. : abc-._~+/ABC01234== ,\nbob:0123456789abcdef,": (
                ("Änne B.", "abc-._~+/ABC01234=="),
                ("bob", "0123456789abcdef"),
            ),
            "ann:0123456789abcdef,ann:fedcba9876543210": (
                ("ann", "0123456789abcdef"),
                ("ann", "fedcba9876543210"),
            ),
        },
        [
            *(5, ",", [], "0123456789abcdef", ":0123456789abcdef", "ann:", "ann:0123456789abcde"),
            *("ann:0123456789abcdeä", "ann:0123456789 abcdef", "ann:0123456789abcdef:g"),
            *("ann:0123456789=abcdef", "ann:0123456789abcdef;bob:fedcba9876543210"),
            *("a\nn:0123456789abcdef", "ann:0123456789abcdef,bob"),
            "ann:0123456789abcdef,bob:0123456789abcdef",
        ],
    ),
    "CHATPROXY_PEERS": (
        "peers",
        {
            "local": "local",
            " redis://127.0.0.1:6379/0 ": "redis://127.0.0.1:6379/0",
            "rediss://:secret@redis.example": "rediss://:secret@redis.example",
            "unix:///run/redis.sock?db=1": "unix:///run/redis.sock?db=1",
        },
        ["remote", "redis://", "redis.example:6379", "http://redis.example", "redis://a b", 6379],
    ),
    "CHATPROXY_RECORDS": (
        "records",
        {
            " sqlite:////var/lib/records.db ": "sqlite:////var/lib/records.db",
            "postgresql://a:secret@db.example/records": "postgresql://a:secret@db.example/records",
            "postgresql+psycopg://db/records": "postgresql+psycopg://db/records",
        },
        ["sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://a@b/c", "postgresql://", "x", 1],
    ),
    "CHATPROXY_RECORDS_BUFFER": ("records_buffer", {"5": 5}, []),
    "CHATPROXY_RUN_DIR": (
        "run_dir",
        {"/run/chatproxy ": "/run/chatproxy"},
        ["run", "./run", "/a\nb"],
    ),
    "CHATPROXY_LEASE": ("lease", {"5": 5.0}, []),
    "CHATPROXY_WITHOUT_PEERS": (
        "without_peers",
        {"refuse": "refuse", " run ": "run"},
        ["wait", "Run", "1"],
    ),
    "CHATPROXY_CORS_ORIGINS": (
        "cors_origins",
        {
            "https://a.example": ("https://a.example",),
            "https://a.example/, http://b.example:3000,": (
                "https://a.example",
                "http://b.example:3000",
            ),
        },
        [
            *(5, "*", "null", "a.example", "https://*.example", "https://a.example?x"),
            *("https://a.example#f", "https://u:p@a.example", "https://a.example:99999"),
            *("https://a b", "http://[::1", "https://a.example/chat"),
            "https://a.example,b.example",
        ],
    ),
    "CHATPROXY_HOSTS": (
        "hosts",
        {
            "chat.example.com": ("chat.example.com",),
            " .example.com, 10.0.0.0/8,[::1],": (".example.com", "10.0.0.0/8", "[::1]"),
            "*": ("*",),
        },
        [
            *(",", [], "a.example:80", "http://a.example", "a b", "a..b", "*.a.example"),
            *("10.0.0.1/8", "."),
        ],
    ),
    "CHATPROXY_INSECURE": (
        "insecure",
        {"1": True, "Yes": True, "true": True, "0": False, "no": False, "false": False},
        ["2", "maybe", []],
    ),
    "CHATPROXY_LOG_FORMAT": (
        "log_format",
        {"text": "text", " json ": "json"},
        ["JSON", "logfmt", []],
    ),
    "CHATPROXY_TELEMETRY": ("telemetry", {"1": True, "0": False}, ["otlp"]),
    "CHATPROXY_TELEMETRY_CONTENT": ("telemetry_content", {"1": True}, ["all"]),
    "CHATPROXY_PROPAGATE_TRACE": ("propagate_trace", {"1": True}, ["always"]),
}
#: Those that may stay as the environment of a test or a demo has them: they lead nowhere.
WITHIN = {
    *("CHATPROXY_MODEL", "CHATPROXY_VISION_MODELS", "CHATPROXY_TRIES", "CHATPROXY_QUEUE"),
    *("CHATPROXY_PRICES", "CHATPROXY_TOKENIZER", "CHATPROXY_BUDGET", "CHATPROXY_BUDGET_MAX_TOKENS"),
    *("CHATPROXY_CONNECT_TIMEOUT", "CHATPROXY_IDLE_TIMEOUT", "CHATPROXY_DEADLINE"),
    *("CHATPROXY_HEARTBEAT", "CHATPROXY_READER_TIMEOUT", "CHATPROXY_BODY_TIMEOUT"),
    *("CHATPROXY_MAX_BODY_BYTES", "CHATPROXY_LOG_BYTES", "CHATPROXY_RETAIN"),
    *("CHATPROXY_RETAIN_BYTES", "CHATPROXY_ON_DISCONNECT", "CHATPROXY_ON_ACTIVE"),
    *("CHATPROXY_MAX_SESSIONS", "CHATPROXY_MAX_SESSIONS_PER_OWNER"),
    *("CHATPROXY_GRACE", "CHATPROXY_RUN_GRACE", "CHATPROXY_NAME"),
    *("CHATPROXY_LEASE", "CHATPROXY_WITHOUT_PEERS", "CHATPROXY_RECORDS_BUFFER"),
    *("CHATPROXY_CONVERSATION_BYTES", "CHATPROXY_CONVERSATIONS_PER_OWNER"),
    *("CHATPROXY_CONVERSATION_BYTES_PER_OWNER", "CHATPROXY_TELEMETRY_CONTENT"),
    *("CHATPROXY_PROPAGATE_TRACE", "CHATPROXY_LOG_FORMAT", "CHATPROXY_INSECURE"),
    *("CHATPROXY_CORS_ORIGINS", "CHATPROXY_HOSTS", "CHATPROXY_OPENAI_PREFIX"),
    *("CHATPROXY_NOTICE", "CHATPROXY_PAGE_DEFAULTS"),
}
WRONG_SECONDS = ["soon", "0", "-1", "nan", "inf", "1e400", 10**400, "1e10", []]
WRONG_COUNTS = ["many", "0", "-1", "1.5", "1e3", 2.5, []]
INJECTED_BY_KUBERNETES = re.compile(r"CHATPROXY(_\w+)?_(SERVICE_(HOST|PORT\w*)|PORT(_\w+)?)")


def wrong_values(name: str) -> list[Any]:
    option = next(option for option in fields(Settings) if option.metadata["name"] == name)
    shared = {float: WRONG_SECONDS, int: WRONG_COUNTS}.get(type(option.default), [])
    return [*CASES[name][2], *(each for each in shared if each not in list(CASES[name][1]))]


def load(**environ: str) -> Settings:
    return Settings.load({}, {**WITH_KEY, **environ})


def test_every_setting_is_in_the_table_above() -> None:
    assert set(CASES) == {name for name, _, _ in describe()}


@pytest.mark.parametrize(
    ("name", "raw", "meant"),
    [(name, raw, meant) for name, case in CASES.items() for raw, meant in case[1].items()],
)
def test_a_setting_is_read_by_its_name(name: str, raw: str, meant: Any) -> None:
    assert getattr(load(**{name: raw}), CASES[name][0]) == meant


@pytest.mark.parametrize(
    ("name", "raw"), [(name, raw) for name in CASES for raw in wrong_values(name)], ids=repr
)
def test_a_wrong_value_is_refused_with_one_sentence_that_names_the_setting(
    name: str, raw: Any
) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.load({**WITH_KEY, name: raw}, {})
    sentence = str(caught.value)
    assert sentence.startswith(f"{name} must ")
    assert sentence.endswith(".")
    assert sentence.count("\n") == 0


@pytest.mark.parametrize(
    ("config", "meant"),
    [
        ({"CHATPROXY_MODEL": "from-config"}, "from-config"),
        ({}, "from-environment"),
        ({"CHATPROXY_MODEL": None}, "from-environment"),
        ({"CHATPROXY_MODEL": ""}, "deepseek-flash"),
    ],
)
def test_the_config_of_the_application_goes_before_the_environment(
    config: dict[str, Any], meant: str
) -> None:
    """An empty string there too: a test's application can be free of what the machine has."""
    environ = {"CHATPROXY_MODEL": "from-environment"}
    assert Settings.load({**WITH_KEY, **config}, environ).model == meant


@pytest.mark.parametrize("empty", ["", "   "])
@pytest.mark.parametrize("name", CASES)
def test_an_empty_string_counts_as_not_set(name: str, empty: str) -> None:
    local = {"DEEPSEEK_BASE_URL": "http://localhost:8001"}
    assert Settings.load({}, {**local, name: empty} if name != "DEEPSEEK_BASE_URL" else WITH_KEY)


def test_each_setting_leads_out_of_an_application_or_stays_within() -> None:
    """Decide it for a new one: would a test that has it from its environment reach anything?"""
    assert sorted([*LEADING_OUT, *WITHIN]) == sorted(CASES)
    outside = {name: next(iter(CASES[name][1])) for name in LEADING_OUT}
    assert Settings.load({}, outside) != Settings()
    assert Settings.load(dict.fromkeys(LEADING_OUT, ""), outside) == Settings()


def test_the_config_may_hold_numbers_lists_and_mappings() -> None:
    config = {
        "CHATPROXY_GRACE": 3,
        "CHATPROXY_MAX_SESSIONS": 5,
        "CHATPROXY_CORS_ORIGINS": ["https://a.example", "https://b.example"],
        "CHATPROXY_TOKENS": ["ann:0123456789abcdef", "bob:fedcba9876543210"],
        "CHATPROXY_PAGE_DEFAULTS": {"temperature": 0.5},
    }
    settings = Settings.load({**config, **WITH_KEY}, {})
    assert (settings.grace, settings.max_sessions) == (3.0, 5)
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.tokens == (("ann", "0123456789abcdef"), ("bob", "fedcba9876543210"))
    assert dict(settings.page_defaults) == {"temperature": 0.5}


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"\ADEEPSEEK_API_KEY is not set.*\.\Z"):
        Settings.load({}, {}).require_key()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8001",
        "http://127.8.9.10",
        "https://localhost:8443",
        "http://LOCALHOST",
        "http://deepseek.localhost",
        "http://[::1]:8001",
    ],
)
def test_a_loopback_upstream_needs_no_key(url: str) -> None:
    settings = Settings.load({}, {"DEEPSEEK_BASE_URL": url})
    assert settings.upstream_is_local
    assert settings.api_key == ""


@pytest.mark.parametrize(
    "url", ["https://api.deepseek.com", "http://10.0.0.1", "http://localhost.example"]
)
def test_any_other_upstream_needs_a_key(url: str) -> None:
    with pytest.raises(ConfigError, match="DEEPSEEK_API_KEY"):
        Settings.load({}, {"DEEPSEEK_BASE_URL": url}).require_key()
    assert not load(DEEPSEEK_BASE_URL=url).upstream_is_local


def test_keys_tokens_and_passwords_of_services_are_not_in_the_repr() -> None:
    settings = load(
        CHATPROXY_TOKENS="ann:geheim-geheim-geheim",
        CHATPROXY_PEERS="redis://:geheim@127.0.0.1",
        CHATPROXY_RECORDS="postgresql://a:geheim@127.0.0.1/records",
    )
    assert settings.tokens
    assert "api.deepseek.com" in repr(settings)
    assert "geheim" not in repr(settings)
    assert KEY not in repr(settings)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("DEEPSEEK_API_KEY", "sk-geheim-ß"),
        ("CHATPROXY_TOKENS", "ann:geheim"),
        ("CHATPROXY_TOKENS", "ann:geheim-geheim-geheim,bob:geheim-geheim-geheim"),
        ("CHATPROXY_PEERS", "redsi://:geheim@127.0.0.1"),
        ("CHATPROXY_RECORDS", "mysql://a:geheim@127.0.0.1/records"),
    ],
)
def test_a_wrong_secret_is_not_repeated_in_the_error(name: str, raw: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**{name: raw})
    assert "geheim" not in str(caught.value)


def test_unknown_names_of_ours_are_found_and_those_of_others_are_not() -> None:
    names = ["CHATPROXY_MODLE", "PATH", "CHATPROXY_MODEL", "DEEPSEEK_X", "CHATPROXY_A"]
    assert unknown_names(names) == ["CHATPROXY_A", "CHATPROXY_MODLE"]


def test_what_kubernetes_injects_is_no_error() -> None:
    """It sets these in every container beside a service called chatproxy."""
    injected = {
        "CHATPROXY_SERVICE_HOST": "10.0.0.1",
        "CHATPROXY_SERVICE_PORT": "80",
        "CHATPROXY_PORT": "tcp://10.0.0.1:80",
        "CHATPROXY_PORT_80_TCP": "tcp://10.0.0.1:80",
        "CHATPROXY_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert load(**injected) == load()
    assert unknown_names(injected) == sorted(injected)


@pytest.mark.parametrize("name", [name for name, _, _ in describe()])
def test_no_setting_bears_a_name_that_kubernetes_injects(name: str) -> None:
    assert not INJECTED_BY_KUBERNETES.fullmatch(name)


def test_the_description_names_every_setting_with_its_default_and_meaning() -> None:
    described = {name: (default, meaning) for name, default, meaning in describe()}
    assert len(described) == len(fields(Settings))
    assert described["CHATPROXY_HEARTBEAT"][0] == "15"
    assert described["CHATPROXY_MAX_SESSIONS"][0] == "2000"
    assert described["DEEPSEEK_API_KEY"][0] == ""
    assert all(meaning for _, meaning in described.values())
