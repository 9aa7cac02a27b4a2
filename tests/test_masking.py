"""What may be read of a text that repeats a secret."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.masking import one_line, passwords_in

KEY = "sk-4f9a0c7e21b85d3f6a90"
#: What each way of writing has an escape for.
ODD = "a/b+c=\"d'e&f<g>\\h%41i"


@pytest.mark.parametrize("length", range(7, len(KEY) + 1))
def test_each_part_of_seven_characters_is_masked_wherever_it_stands(length: int) -> None:
    for at in range(len(KEY) - length + 1):
        part = KEY[at : at + length]
        assert (
            one_line(f"The key {part}... is wrong, {part}", [KEY]) == "The key ***... is wrong, ***"
        )


def test_what_services_show_of_a_key_may_be_read() -> None:
    said = f"Your api key: ****{KEY[-4:]} is invalid, {KEY[:6]}...{KEY[-4:]}"
    assert one_line(said, [KEY]) == said


@pytest.mark.parametrize(
    ("secret", "said", "left"),
    [
        ("sk-no-key-required", "'model' is required, and no key", None),
        ("sk-no-key-required", "sk-no-key-required is wrong", "*** is wrong"),
        ("assistants=v2", "the role is assistant", None),
        ("abcdefghijklmnop", "abcdefghijk or abcdefghijkl", "abcdefghijk or ***"),
        ("sk-0abcdefghij", "0abcdefghij", "***"),
    ],
)
def test_a_word_of_a_sentence_may_be_read(secret: str, said: str, left: str | None) -> None:
    """Some keys are made of words."""
    assert one_line(said, [secret]) == (left or said)


def test_a_short_secret_is_masked_whole_and_one_of_words_leaves_the_words_alone() -> None:
    assert one_line("The key abc is wrong, abd", ["abc", ""]) == "The key *** is wrong, abd"
    secrets = [f"Bearer {KEY}", KEY]
    assert one_line(f"No Bearer token: Bearer {KEY}", secrets) == "No Bearer token: ***"


WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": json.dumps,
    "in PHP's JSON": lambda text: json.dumps(text).replace("/", "\\/"),
    "as a repr": repr,
    "in a URL": partial(quote, safe=""),
    "in HTML": html.escape,
    "each character in JSON": lambda text: "".join(f"\\u{ord(each):04x}" for each in text),
    "each character in a repr": lambda text: "".join(f"\\x{ord(each):02X}" for each in text),
    "each character in a URL": lambda text: "".join(f"%{ord(each):02x}" for each in text),
    "each character in HTML": lambda text: "".join(f"&#{ord(each)};" for each in text),
    "each character in HTML, as hex": lambda text: "".join(f"&#x{ord(each):X};" for each in text),
}


@pytest.mark.parametrize("again", [str, json.dumps, partial(quote, safe=""), html.escape])
@pytest.mark.parametrize("way", WRITTEN)
@pytest.mark.parametrize("secret", [KEY, ODD])
def test_a_secret_is_masked_however_it_is_written(
    secret: str, way: str, again: Callable[[str], str]
) -> None:
    """Also if what has it is itself quoted."""
    text = again(f"No <{WRITTEN[way](secret)}>.")
    left = one_line(text, [secret])
    assert "***" in left
    assert not [part for part in (KEY[:3], "a/b", "41", "61", "97", "%6") if part in left]


def test_two_secrets_of_which_one_is_in_the_other_are_masked() -> None:
    assert one_line(f"{KEY}-and-more {KEY}", [KEY, f"{KEY}-and-more"]) == "*** ***"


@pytest.mark.parametrize(
    "text", [f"100 %, {KEY[:6]}", "C:\\users\\new", "&amp; &nothing; &&", "%zz", "\\u00"]
)
def test_all_else_stays_as_it_is(text: str) -> None:
    assert one_line(text, [KEY]) == text


def test_a_line_is_printable_and_one() -> None:
    assert one_line("a\r\n[SSE] b\u2028c\x1b[2J\td\udc80 e\x00", [KEY]) == "a [SSE] b c [2J d e"


@given(st.text(max_size=40), st.text(max_size=40), st.text('ab%\\/&;u0x"', max_size=12))
def test_a_key_is_masked_whatever_is_around_it(before: str, after: str, amid: str) -> None:
    assert KEY[8:-8] not in one_line(f"{before}{KEY}{after}{amid}{KEY}", [KEY])


@pytest.mark.parametrize(
    "text", [KEY, "\\", "%25", "&amp;", "&a", "\\u00", "%", "\0", " ", KEY[:8], "x"]
)
def test_a_long_text_costs_no_more_than_its_beginning(text: str) -> None:
    left = one_line(text * 1_000_000, [KEY] * 100)
    assert len(left) <= 1000
    assert KEY[:7] not in left


def test_the_passwords_of_a_url_are_those_that_are_written_and_those_that_are_meant() -> None:
    url = "redis+sentinel://ann:s3cr%33t@a:1,b:2/main?sentinel_password=t%21&x=y"
    assert passwords_in(url) == ("s3cr%33t", "s3cr3t", "t%21", "t!")
    assert passwords_in("redis://127.0.0.1:6379/0") == passwords_in("sqlite:////a@b/c.db") == ()
