"""``stream_options``: an upstream is asked for its count of tokens, whatever the client asks for.

The count comes with the last event or, from vLLM and SGLang, with each one, so that there is one
for an answer that is stopped. A client that has not asked for it does not get it (``chunks``).

The field is OpenAI's (https://platform.openai.com/docs/api-reference/chat/create), which DeepSeek
has too; ``continuous_usage_stats`` is vLLM's and SGLang's.
"""

from __future__ import annotations

import msgspec

from ..answers.foreign_json import decoded
from ..answers.upstream import UsageStats

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TRUE = msgspec.Raw(b"true")

_ASKED_FOR = {
    UsageStats.FINAL: {"include_usage": _TRUE},
    UsageStats.CONTINUOUS: {"include_usage": _TRUE, "continuous_usage_stats": _TRUE},
    UsageStats.NONE: {},
}
_ALONE = {stats: msgspec.json.encode(asked) for stats, asked in _ASKED_FOR.items() if asked}


def to_send(text: bytes, stats: UsageStats) -> bytes:
    """The options for an upstream, as JSON.

    :param text: the client's, as JSON; b"" if it has none. What can't be read is for the upstream
        to refuse.
    """
    asked = _ASKED_FOR[stats]
    if not text or not asked:
        return text or _ALONE.get(stats, b"")
    fields = decoded(_FIELDS.decode, text)
    return text if fields is None else msgspec.json.encode({**fields, **asked})


def asks_for(text: bytes, name: str) -> bool:
    """Whether the client has asked for what has this name."""
    fields = decoded(_FIELDS.decode, text)
    return fields is not None and bytes(fields.get(name, b"")) == b"true"
