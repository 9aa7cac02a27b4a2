"""What the simulation says: a built-in demonstration, as many words as asked for, or tool calls."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from .scenario import Scenario

_THOUGHT = """\
The user talks to a simulation, so there is no model here and nothing to work out. \
I should say so plainly, then show what a streamed answer looks like: a heading, a list, \
a table, some code. Short is better."""

_ANSWER = """\
## This is a simulation

No language model wrote this answer. It comes from the **simulated DeepSeek**, which speaks \
DeepSeek's wire format on a real socket, so that a proxy and a page can be tried without a key \
and without a bill.

What you see is real all the same:

1. each word was sent as an event of its own,
2. the thinking came first, as `reasoning_content`,
3. and if you press *Stop*, the connection closes and the words end at once.

| Part | Here | At DeepSeek |
| --- | --- | --- |
| Wire format | the same | the same |
| Words | fixed | made for you |
| Price | nothing | per token |

```python
def stop(session):
    session.cancel()  # the ledger shows when the peer went away
```

Whatever you asked, the answer stays the same. Have a pleasant day! ☕
"""

# fmt: off
_WORDS = (
    "amber ", "birch ", "cloud ", "delta ", "ember ", "fjord ", "grove ", "harbour ",
    "island ", "juniper ", "kelp ", "lantern ", "meadow ", "north ", "opal ", "pebble ",
    "quartz ", "river ", "stone ", "thistle ", "umbra ", "valley ", "willow ", "yarrow ",
)
# fmt: on


@dataclass(frozen=True)
class Passage:
    """``count`` tokens, taken from ``pieces`` over and over; iterating gives their texts."""

    pieces: tuple[str, ...]
    count: int

    def __iter__(self) -> Iterator[str]:
        return islice(cycle(self.pieces), self.count)

    def shortened(self, most: int) -> Passage:
        """This passage with at most ``most`` tokens."""
        return Passage(self.pieces, min(self.count, max(0, most)))

    @property
    def text(self) -> str:
        """All the tokens, joined."""
        return "".join(self)


def _told(text: str) -> Passage:
    pieces = tuple(re.findall(r"\s*\S+|\s+\Z", text))
    return Passage(pieces, len(pieces))


NOTHING = Passage((), 0)
THOUGHT = _told(_THOUGHT)
ANSWER = _told(_ANSWER)


@dataclass(frozen=True)
class Script:
    """All the tokens of one answer, and the ``finish_reason`` that they end with."""

    reasoning: Passage
    content: Passage
    finish_reason: str
    tool_calls: tuple[dict[str, Any], ...] = ()
    """The pieces of tool calls, as a delta has them; each counts as a token."""

    @property
    def tokens(self) -> int:
        """How many tokens there are, reasoning, content and tool calls together."""
        return self.reasoning.count + self.content.count + len(self.tool_calls)


def script(
    scenario: Scenario, *, thinking: bool, max_tokens: int | None, calls_tools: bool = False
) -> Script:
    """The script of an answer; ``max_tokens`` bounds reasoning and content together.

    Without a text or a number of tokens it is the built-in demonstration. Who asks for either
    gets no more reasoning than asked for, so that counts are exact.
    Plain mode has no reasoning at all. An answer that calls tools says nothing else.
    """
    if calls_tools and scenario.tool_calls:
        return Script(NOTHING, NOTHING, "tool_calls", tuple(_pieces_of(scenario.tool_calls)))
    reasoning = _reasoning(scenario) if thinking else NOTHING
    content = _content(scenario)
    most = reasoning.count + content.count if max_tokens is None else max_tokens
    kept = reasoning.shortened(most)
    rest = content.shortened(most - kept.count)
    whole = kept.count + rest.count == reasoning.count + content.count
    return Script(kept, rest, "stop" if whole else "length")


def _pieces_of(calls: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each call comes as its id and name, then its arguments in pieces of JSON."""
    for index, call in enumerate(calls):
        function = {"name": call["name"], "arguments": ""}
        called = {"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": function}
        yield {"index": index, **called}
        for piece in re.findall(".{1,8}", json.dumps(call["arguments"])):
            yield {"index": index, "function": {"arguments": piece}}


def _content(scenario: Scenario) -> Passage:
    if scenario.text is None:
        return ANSWER if scenario.tokens is None else Passage(_WORDS, scenario.tokens)
    told = _told(scenario.text)
    return told if scenario.tokens is None else Passage(told.pieces, scenario.tokens)


def _reasoning(scenario: Scenario) -> Passage:
    if scenario.reasoning_tokens is not None:
        return Passage(_WORDS, scenario.reasoning_tokens)
    return THOUGHT if scenario.tokens is None and scenario.text is None else NOTHING
