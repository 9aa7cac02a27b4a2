"""Estimates of tokens: from lengths, better with each finished answer."""

from __future__ import annotations

import random

import pytest

from chatproxy.accounting.estimates import UNKNOWN_SPREAD, Estimates, size_of, size_of_json


@pytest.mark.parametrize(("text", "tokens"), [("a" * 100, 30), ("你" * 100, 60), ("é" * 100, 45)])
def test_a_text_has_as_many_tokens_as_deepseek_says_of_its_characters(
    text: str, tokens: int
) -> None:
    assert size_of(text) == pytest.approx(tokens)
    assert size_of_json(text.encode()) == pytest.approx(tokens)


def test_what_is_escaped_counts_as_what_it_stands_for() -> None:
    assert size_of_json(b"\\u4f60" * 100) == pytest.approx(60)
    assert size_of_json(b"\\\\u" * 100) == pytest.approx(60)  # a backslash that is escaped itself
    assert size_of_json(b"\\\\\\u4f60" * 100) == pytest.approx(90)


def test_nothing_is_learned_from_too_few() -> None:
    estimates = Estimates()
    for _ in range(4):
        estimates.learn("m", (10, 20), (100, 200))
    assert estimates.completion("m", 100) == (100, UNKNOWN_SPREAD)
    assert estimates.wants_to_learn("m")


def test_nineteen_of_twenty_answers_lie_within_the_spread() -> None:
    chance = random.Random(1)
    estimates = Estimates()

    def tokens_of(size: float) -> int:
        return round(size * 1.7 * chance.lognormvariate(0, 0.1))

    for _ in range(300):
        estimates.learn("m", (10, 20), (500, tokens_of(500)))
    assert not estimates.wants_to_learn("m")
    within = 0
    for _ in range(1000):
        true, (estimate, spread) = tokens_of(400), estimates.completion("m", 400)
        within += abs(estimate - true) <= spread * estimate
    assert within > 900
    assert estimates.completion("m", 4000)[1] == pytest.approx(0.22, abs=0.04)
    assert estimates.completion("m", 10)[1] > 0.3
    assert estimates.prompt("m", 10) == 20


def test_models_are_learned_apart_and_the_oldest_is_forgotten() -> None:
    estimates = Estimates()
    for number in range(101):
        for _ in range(5):
            estimates.learn(str(number), (10, 20), (10, 30))
    assert estimates.completion("0", 10) == (10, UNKNOWN_SPREAD)
    assert estimates.completion("100", 10)[0] == 30


def test_the_rest_of_an_answer_is_told_if_enough_longer_ones_are_known() -> None:
    estimates = Estimates()
    estimates.learn("m", (1, 1), None)
    for tokens in range(101):
        estimates.learn_length("m", tokens)
    median, low, high = estimates.rest("m", 60) or (0, 0, 0)
    assert (low, median, high) == (10, 20, 31)
    assert estimates.rest("m", 81) is None
    assert estimates.rest("n", 0) is None
