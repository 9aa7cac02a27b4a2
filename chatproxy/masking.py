r"""Masking: text of peers and of exceptions without the secrets that it may repeat.

Whoever is told a key may say it again, in a sentence for the client or in an error for the log.
``one_line`` makes such text fit to be read by anybody. Rules:

* All of a secret is masked, and so is each part of ``_SHORTEST_PART`` or more characters, wherever
  it stands: many services shorten a key that they show. What they show of it to tell keys apart,
  such as its last four characters, may be read. So may what looks like a word of the sentence: of
  the key ``sk-no-key-required`` (llama.cpp's own example) that is "required".
* It is masked as well if it is escaped as in JSON (``\u0073``), a ``repr``, a URL (``%73``) or HTML
  (``&#115;``), or in several of these.
* Of a text, however long, the beginning alone is read. The cost grows with the lengths of that and
  of the secrets, and not with their product. Nothing is prepared for it: errors are rare.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from urllib.parse import unquote, urlsplit

#: The least characters of a secret that nobody may read.
_SHORTEST_PART = 7
#: What is a word rather than a part of a secret.
_WORD = re.compile("[a-z_-]{,11}")
#: What a character is, if it is not to be read: one of a whole secret, or of a part.
_WHOLE, _PART = b"w", b"p"
#: The characters of a text that are read, and those that are left of its line.
_MOST_READ = 2000
_LONGEST_LINE = 1000
#: How often a text may have been escaped.
_MOST_LEVELS = 6
_ESCAPE = re.compile(
    r"""
    \\ (?: u (?P<json>[0-9A-Fa-f]{4}) | x (?P<repr>[0-9A-Fa-f]{2}) | (?P<itself>["'/\\]) )
    | % (?P<url>[0-9A-Fa-f]{2})
    | (?P<html> & (?: [#][0-9]{1,7} | [#][xX][0-9A-Fa-f]{1,6} | [A-Za-z]{2,8} ) ; )
    """,
    re.VERBOSE,
)


def one_line(text: str, secrets: Iterable[str]) -> str:
    """The beginning of a text, as one printable line of at most 1000 characters without secrets.

    :param text: may be cut amid a secret.
    """
    line = " ".join(printable(text[:_MOST_READ]).split())
    return _masked(line, secrets)[:_LONGEST_LINE]


def printable(text: str) -> str:
    """This text with a space for each character that may end a line or direct a terminal."""
    return "".join(each if each.isprintable() else " " for each in text)


def passwords_in(url: str) -> tuple[str, ...]:
    """Every password in a URL, as it is written there and as it is meant."""
    parts = urlsplit(url)
    written = [parts.netloc.rpartition("@")[0].partition(":")[2]]
    written += re.findall("password=([^&]*)", parts.query)
    return tuple(text for each in written for text in (each, unquote(each)) if text)


def _masked(text: str, secrets: Iterable[str]) -> str:
    meant, begins = _unescaped(text)
    hidden = bytearray(len(meant))
    wholes = [whole for whole, _ in map(_unescaped, secrets) if whole]
    # With a space it would be "Bearer ".
    parts = {part for whole in wholes for part in _parts_of(whole) if " " not in part}
    for at, part in enumerate(_parts_of(meant)):
        if part in parts:
            hidden[at : at + _SHORTEST_PART] = _PART * _SHORTEST_PART
    for whole in wholes:
        at = meant.find(whole)
        while at >= 0:
            hidden[at : at + len(whole)] = _WHOLE * len(whole)
            at = meant.find(whole, at + len(whole))
    shown, end = "", 0
    for run in re.finditer(rb"[^\0]+", hidden):
        if _WHOLE in run[0] or not _WORD.fullmatch(meant, *run.span()):
            shown += text[end : begins[run.start()]] + "***"
            end = begins[run.end()]
    return shown + text[end:]


def _parts_of(text: str) -> Iterable[str]:
    """Each part of the least length, from the first on."""
    return (text[at : at + _SHORTEST_PART] for at in range(len(text) - _SHORTEST_PART + 1))


def _unescaped(text: str) -> tuple[str, Sequence[int]]:
    """The characters that a text means, and where it has each; its own length is the last."""
    begins: Sequence[int] = range(len(text) + 1)
    for _ in range(_MOST_LEVELS):
        before = len(text)
        text, kept = _unescaped_once(text)
        if len(text) == before:
            break
        begins = [begins[at] for at in kept]
    return text, begins


def _unescaped_once(text: str) -> tuple[str, list[int]]:
    meant: list[str] = []
    begins: list[int] = []
    end = 0
    for escape in _ESCAPE.finditer(text):
        character = _character(escape)
        if len(character) == 1:
            meant += text[end : escape.start()], character
            begins += range(end, escape.start() + 1)
            end = escape.end()
    return "".join([*meant, text[end:]]), [*begins, *range(end, len(text) + 1)]


def _character(escape: re.Match[str]) -> str:
    kind = escape.lastgroup or ""
    if kind == "itself":
        return escape[kind]
    return html.unescape(escape[kind]) if kind == "html" else chr(int(escape[kind], 16))
