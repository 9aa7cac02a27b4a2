"""The process that counts tokens, and how long anybody waits for it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from chatproxy.accounting import counter, deepseek, tokenizers
from chatproxy.accounting.tokenizers import TokenCounter, find_counter
from chatproxy.errors import ConfigError

from .support.another import in_a_child
from .support.waiting import wait_for

QUESTION = json.dumps({"messages": [{"role": "user", "content": "one two"}]}).encode()
WORDS = """
import os, time
def count(model, text):
    if "end" in text: os._exit(1)
    if "wait" in text: time.sleep(0.5)
    if "hang" in text: time.sleep(1000)
    return None if model == "unknown" else len(text.split())
"""


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenCounter:
    """Counts words, in a process that has begun to."""
    (tmp_path / "words.py").write_text(WORDS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = find_counter("words:count")
    assert found is not None
    wait_for(lambda: found.count("m", QUESTION, "a") is not None)
    return found


def test_a_question_and_what_was_said_are_counted(words: TokenCounter) -> None:
    """Four tokens are around a question of one message. An image, and what is long, have none."""
    assert words.count("m", QUESTION, "a b c") == (2 + 4, 3)
    assert words.count("unknown", QUESTION, "a") is None
    assert words.count("m", QUESTION, "a " * 200_000) is None  # it is not even sent
    parts = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": "x"}}]
    question = json.dumps({"messages": [{"role": "user", "content": parts}]}).encode()
    assert words.count("m", question, "a") is None


def test_a_count_that_takes_long_is_waited_for_only_a_moment(words: TokenCounter) -> None:
    begun = time.monotonic()
    assert words.count("m", QUESTION, "wait") is None
    assert time.monotonic() - begun < 0.4
    wait_for(lambda: words.count("m", QUESTION, "a") == (6, 1))


def test_a_process_that_ends_is_started_anew(words: TokenCounter) -> None:
    assert words.count("m", QUESTION, "end") is None
    wait_for(lambda: words.count("m", QUESTION, "a") == (6, 1))


def test_all_that_a_model_reads_is_counted() -> None:
    question = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "see"}], "name": "Ann"},
            {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [1]},
        ],
        "tools": [2],
        "functions": [3],
        "response_format": {"a": 4},
        "user": "not read",
    }
    read = ["see", "Ann", "Hm.", "[1]", "[2]", "[3]", '{"a": 4}']
    assert [*counter.texts_of(question)] == read


def test_a_process_that_is_stuck_is_killed(
    words: TokenCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizers, "LONGEST_SECONDS", 0.1)
    assert words.count("m", QUESTION, "hang") is None
    wait_for(lambda: words.count("m", QUESTION, "a") == (6, 1))


def test_a_fork_has_a_process_of_its_own(words: TokenCounter) -> None:
    def claim() -> None:
        assert any(words.count("m", QUESTION, "a") == (6, 1) for _ in range(200))

    in_a_child(claim)
    assert words.count("m", QUESTION, "a") == (6, 1)


def test_deepseeks_tokenizer_counts_deepseeks_models_alone() -> None:
    assert deepseek.count("deepseek-flash", "The quick brown fox") == 4
    assert deepseek.count("deepseek-flash", "") == 0
    assert deepseek.count("gpt-large", "The quick brown fox") is None


def test_a_tokenizer_that_is_not_there_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"CHATPROXY_TOKENIZER: there is no function nothing\.here:x"
    ):
        find_counter("nothing.here:x")
    with pytest.raises(ConfigError, match="there is no function json:nope"):
        find_counter("json:nope")
    assert find_counter("none") is None
    monkeypatch.setattr(tokenizers, "find_spec", lambda _: None)
    assert find_counter("deepseek") is None
