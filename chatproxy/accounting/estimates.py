"""Estimates: how many tokens a text has, by its length, and how long an answer would have become.

DeepSeek says that a character of English is about 0.3 tokens, and one of Chinese about 0.6
(https://api-docs.deepseek.com/quick_start/token_usage). How far that is from the truth, each
finished answer of a model tells: it has the provider's own count. So an estimate gets better, and
has a *spread*: about 19 of 20 answers lie within it.

What is learned is kept in memory, for some hundred models, by each worker for itself.
"""

from __future__ import annotations

import math
import statistics
import threading
from collections import OrderedDict, deque

_NARROW = 0.3
_WIDE = 0.6

#: The spread of an estimate for a model of which too little is known.
UNKNOWN_SPREAD = 0.5
#: So many answers must have finished before anything is learned from them.
_FEWEST = 5
#: The least spread, and that of one token: the words of a short text may all be long or short,
#: those of a text that is four times as long are half as far from the usual.
_LEAST_SPREAD = 0.02
_SHORT_SPREAD = 1.5
#: How many answers of a model are remembered.
_REMEMBERED = 500
_MOST_MODELS = 100
#: What would have become of an answer is told only if so many longer ones are known.
_FEWEST_LONGER = 20


def size_of(text: str) -> float:
    """The size of a text, in tokens of a model of which nothing is known."""
    return _size(len(text), len(text.encode("utf-8", "replace")))


def size_of_json(text: bytes) -> float:
    """The same for a text as JSON, which may have all that is not ASCII escaped."""
    text = text.replace(b"\\\\", b"/")  # a backslash, and no escape of what follows it
    characters = len(text) if text.isascii() else len(text.decode("utf-8", "replace"))
    escaped = text.count(b"\\u")
    return _size(characters, len(text)) + (_WIDE - 6 * _NARROW) * escaped


def _size(characters: int, utf_8: int) -> float:
    # A character of Chinese, Japanese or Korean takes three bytes.
    wide = (utf_8 - characters) / 2
    return _NARROW * (characters - wide) + _WIDE * wide


class _Ratio:
    """How many tokens there are for each that is expected."""

    def __init__(self) -> None:
        self._logarithms: deque[float] = deque(maxlen=_REMEMBERED)

    def learn(self, size: float, tokens: int) -> None:
        if size > 0 and tokens > 0:
            self._logarithms.append(math.log(tokens / size))

    @property
    def is_known(self) -> bool:
        return len(self._logarithms) >= _FEWEST

    def estimate(self, size: float) -> tuple[int, float]:
        """The tokens and the spread."""
        if not self.is_known:
            return round(size), UNKNOWN_SPREAD
        middle = statistics.fmean(self._logarithms)
        tokens = round(size * math.exp(middle))
        spread = math.expm1(2 * statistics.stdev(self._logarithms, middle))
        return tokens, max(_LEAST_SPREAD, spread, _SHORT_SPREAD / math.sqrt(max(1, tokens)))


class _Model:
    def __init__(self) -> None:
        self.prompts = _Ratio()
        self.completions = _Ratio()
        self.lengths: deque[int] = deque(maxlen=_REMEMBERED)


class Estimates:
    """What has been learned from finished answers. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: OrderedDict[str, _Model] = OrderedDict()

    def learn(
        self,
        model: str,
        prompt: tuple[float, int] | None,
        completion: tuple[float, int] | None,
    ) -> None:
        """Learn from a finished answer.

        :param prompt: the size of the question, and its tokens; None to learn nothing of that.
        :param completion: the same of the answer.
        """
        with self._lock:
            known = self._models.setdefault(model, _Model())
            self._models.move_to_end(model)
            if len(self._models) > _MOST_MODELS:
                self._models.popitem(last=False)
            if prompt is not None:
                known.prompts.learn(*prompt)
            if completion is not None:
                known.completions.learn(*completion)

    def learn_length(self, model: str, tokens: int) -> None:
        """Learn how long an answer became by itself."""
        with self._lock:
            if model in self._models:
                self._models[model].lengths.append(tokens)

    def wants_to_learn(self, model: str) -> bool:
        """Whether too little is known of how the answers of this model are written."""
        with self._lock:
            known = self._models.get(model)
            return known is None or not known.completions.is_known

    def prompt(self, model: str, size: float) -> int:
        """About how many tokens a question of this size has."""
        with self._lock:
            known = self._models.get(model)
            return round(size) if known is None else known.prompts.estimate(size)[0]

    def completion(self, model: str, size: float) -> tuple[int, float]:
        """About how many tokens an answer of this size has, and the spread of that."""
        with self._lock:
            known = self._models.get(model)
            return (known or _Model()).completions.estimate(size)

    def rest(self, model: str, tokens: int) -> tuple[int, int, int] | None:
        """What longer answers of this model had beyond so many tokens.

        :returns: the median, the lower and the upper quartile; None if too few are known.
        """
        with self._lock:
            known = self._models.get(model)
            longer = [] if known is None else [each for each in known.lengths if each > tokens]
        if len(longer) < _FEWEST_LONGER:
            return None
        low, median, high = statistics.quantiles([each - tokens for each in longer], n=4)
        return round(median), round(low), round(high)
