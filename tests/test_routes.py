"""The file of upstreams: what it says, and one sentence for each mistake, which names the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chatproxy.config import Settings
from chatproxy.errors import ConfigError, Refusal
from chatproxy.upstreams.routes import Routes

KEY = "sk-0123456789abcdef"
WHOLE = """
others = "refuse"

[upstreams.azure-eu]
base_url = "https://example.openai.azure.com/openai/deployments/gpt-large/"
api_key_env = "AZURE_KEY"
api_key_header = "api-key"
query = { api-version = "2024-10-21" }
limit = 100

[upstreams.router]
base_url = "https://openrouter.ai/api/v1"
api_key = "sk-or-0123456789"
headers = { HTTP-Referer = "https://chat.example", X-Title = "Chat" }
billing_stops = false

[upstreams.ollama]
base_url = "http://127.0.0.1:11434/v1"

[models]
gpt-large = ["azure-eu", { upstream = "router", model = "openai/gpt-large" }]
small = { upstream = "ollama", model = "gemma3:270m" }
deepseek-flash = "DeepSeek"
"""
Load = Callable[..., Routes]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str | bytes, **settings: object) -> Routes:
        path = tmp_path / "upstreams.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        given = {"api_key": KEY, **settings}
        return Routes.load(
            Settings(upstreams=str(path), **given),  # type: ignore[arg-type]
            {"AZURE_KEY": "azure-0123456789", "EMPTY": " "},
        )

    return load


def test_the_file_says_all_that_an_upstream_has(load: Load) -> None:
    routes = load(WHOLE)
    azure, router = routes.upstreams_of("gpt-large")
    assert azure.base_url == "https://example.openai.azure.com/openai/deployments/gpt-large"
    assert (azure.name, azure.limit, azure.query) == (
        *("azure-eu", 100),
        {"api-version": "2024-10-21"},
    )
    assert azure.credentials == {"api-key": "azure-0123456789"}
    assert (router.model, router.billing_stops) == ("openai/gpt-large", False)
    assert router.credentials["Authorization"] == "Bearer sk-or-0123456789"
    (ollama,) = routes.upstreams_of("small")
    assert (ollama.model, ollama.credentials) == ("gemma3:270m", {})


def test_the_upstream_of_the_settings_can_be_named(load: Load) -> None:
    (deepseek,) = load(WHOLE).upstreams_of("deepseek-flash")
    assert (deepseek.name, deepseek.api_key) == ("DeepSeek", KEY)


def test_an_unknown_model_is_refused_or_left_to_deepseek(load: Load) -> None:
    with pytest.raises(Refusal) as caught:
        load(WHOLE).upstreams_of("other")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")
    assert load(WHOLE.replace('"refuse"', '"DeepSeek"')).upstreams_of("other") == ()


@pytest.mark.parametrize(
    ("text", "needs_key"),
    [
        (WHOLE, True),
        (WHOLE.replace('"DeepSeek"', '"ollama"'), False),
        (WHOLE.replace('others = "refuse"', "").replace('"DeepSeek"', '"ollama"'), True),
    ],
)
def test_a_key_for_deepseek_is_needed_if_it_may_be_asked(
    load: Load, text: str, needs_key: bool
) -> None:
    assert load(text).needs_key is needs_key


def test_without_a_file_all_models_are_deepseeks() -> None:
    assert Routes.load(Settings(), {}).upstreams_of("any") == ()


#: What is put into the whole file, in place of what, and what the sentence says.
MISTAKES = [
    ("[models]", "[modles]", "the file must not have 'modles'"),
    ('others = "refuse"', 'others = "ollama"', "others must be 'DeepSeek' or 'refuse'"),
    ('"AZURE_KEY"', '"EMPTY"', "[upstreams.azure-eu]: api_key_env must be the name of a variable"),
    ('"AZURE_KEY"', '"sk-0123456789"', "[upstreams.azure-eu]: api_key_env must be the name of a"),
    ("limit = 100", 'api_key = "x"', "[upstreams.azure-eu]: must have api_key or api_key_env"),
    ("limit = 100", "limit = 0", "[upstreams.azure-eu]: limit must be a whole number"),
    ("limit = 100", "limit = true", "[upstreams.azure-eu]: limit must be a whole number"),
    ("limit = 100", "limt = 100", "[upstreams.azure-eu]: it must not have 'limt'"),
    ("billing_stops = false", 'billing_stops = "no"', "[upstreams.router]: billing_stops must be"),
    ('"https://openrouter.ai/api/v1"', '"openrouter.ai"', "[upstreams.router]: base_url must be a"),
    ('base_url = "http://127.0.0.1:11434/v1"', "", "[upstreams.ollama]: must have a base_url"),
    ("127.0.0.1", "10.0.0.1", "[upstreams.ollama]: must have an api_key or api_key_env"),
    ('X-Title = "Chat"', "X-Title = 5", "[upstreams.router]: headers['X-Title'] must be plain"),
    ("HTTP-Referer", "Host", "[upstreams.router]: headers must not have host"),
    ("HTTP-Referer", "authorization", "[upstreams.router]: headers must not have a name twice"),
    ("[upstreams.ollama]", "[upstreams.DeepSeek]", "[upstreams.DeepSeek]: is the upstream of the"),
    ("[upstreams.ollama]", '[upstreams."a b"]', "[upstreams.a b]: name must be 1 to 64"),
    ('"azure-eu", {', '"azure", {', "[models] gpt-large: 'azure' is none of [upstreams]"),
    ('"azure-eu", {', "5, {", "[models] gpt-large: must be names of [upstreams], or tables"),
    ('"azure-eu", {', '"ollama", "ollama", "ollama", {', "[models] gpt-large: must have 1 to 3"),
    ("small = {", "small = []\nx = {", "[models] small: must have 1 to 3 upstreams"),
    ('upstream = "router",', "", "[models] gpt-large: None is none of [upstreams]"),
    ('deepseek-flash = "DeepSeek"', "", "[models] must have deepseek-flash, which is"),
    ("[models]", "[models", "(at line "),
]


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES, ids=[said for *_, said in MISTAKES])
def test_a_mistake_stops_the_start_with_one_sentence_that_names_the_place(
    load: Load, old: str, new: str, said: str
) -> None:
    assert old in WHOLE
    with pytest.raises(ConfigError) as caught:
        load(WHOLE.replace(old, new))
    sentence = str(caught.value)
    assert sentence.startswith("CHATPROXY_UPSTREAMS: /")
    assert f"upstreams.toml: {said}" in sentence or said in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "0123456789" not in sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xff", "it is not UTF-8"),
        (b"", "[models] must name at least one model"),
        (b"models = 5", "[models] must be a table"),
        (b"upstreams = 5", "[upstreams] must be a table"),
        (b"[upstreams]\na = 5\n[models]\nb = 'a'", "[upstreams.a]: it must be a table"),
        (b"a = " + b"[" * 100_000, ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_none_stops_the_start(load: Load, text: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match="CHATPROXY_UPSTREAMS") as caught:
        load(text)
    assert said in str(caught.value)


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing.toml: No such file or directory\."):
        Routes.load(Settings(upstreams=str(tmp_path / "missing.toml")), {})


def test_as_many_upstreams_may_be_listed_as_may_be_asked(load: Load) -> None:
    with pytest.raises(ConfigError, match="must have 1 to 1 upstreams, as CHATPROXY_TRIES is 1"):
        load(WHOLE, tries=1)
