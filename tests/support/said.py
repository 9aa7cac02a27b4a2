"""Any answers of DeepSeek, as chunks, with what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from chatproxy import sse

from .spoken import chunk

USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
    "prompt_cache_hit_tokens": 2,
}
FINISH_REASONS = ("stop", "length", "content_filter", "tool_calls", "insufficient_system_resource")

texts = st.text(max_size=6) | st.sampled_from(["", "\n", '"', "\\", "\u2028", "\x7f", "😀"])
#: Of tool calls; some are no JSON.
arguments = st.sampled_from(["{}", '{"a": 1}', '{"a": "\\u00e9 😀"}', "", " ", "[1,", "null"])


@dataclass
class Said:
    """What an answer says.

    :ivar calls: name and arguments of each tool call, by its id.
    """

    text: str = ""
    reasoning: str = ""
    calls: dict[str, tuple[str, str]] = field(default_factory=dict)
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[bytes], Said]:
    """The events of a whole answer, without numbers, and what they say."""
    wholes = draw(st.lists(arguments, max_size=3))
    pieces = {index: _cut(draw, whole) for index, whole in enumerate(wholes)}
    said = Said(finish_reason=draw(st.sampled_from(FINISH_REASONS)))
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    kinds = ["content", "reasoning_content", *pieces]
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=20)):
        if isinstance(kind, int):
            deltas += _next_piece(kind, pieces, said)
        else:
            piece = draw(texts)
            deltas.append({"content": None, "reasoning_content": None, kind: piece})
            said.text += piece if kind == "content" else ""
            said.reasoning += piece if kind == "reasoning_content" else ""
    for index, rest in pieces.items():
        while rest:
            deltas += _next_piece(index, pieces, said)
    said.usage = draw(st.sampled_from([None, USAGE]))
    last = {"content": draw(texts)}
    said.text += last["content"]
    blocks = [*map(chunk, deltas), chunk(last, finish_reason=said.finish_reason)]
    if said.usage is not None:
        if draw(st.booleans()):
            blocks[-1] = chunk(last, finish_reason=said.finish_reason, usage=USAGE)
        else:
            blocks.append(chunk(None, choices=[], usage=USAGE))
    return [*blocks, sse.DONE], said


def _cut(draw: st.DrawFn, text: str) -> list[str]:
    at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]


def _next_piece(index: int, pieces: dict[int, list[str]], said: Said) -> list[dict[str, Any]]:
    """The delta with the next piece of a tool call, if there is one."""
    if not pieces[index]:
        return []
    piece = pieces[index].pop(0)
    call: dict[str, Any] = {"index": index, "function": {"arguments": piece}}
    call_id, name = f"call_{index}", f"tool_{index}"
    if call_id not in said.calls:
        call |= {"id": call_id, "type": "function"}
        call["function"]["name"] = name
    said.calls[call_id] = (name, said.calls.get(call_id, ("", ""))[1] + piece)
    return [{"tool_calls": [call]}]
