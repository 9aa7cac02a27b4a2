"""TOML files of the operator's: what is wrong in one is a sentence that names the place.

Who reads a file has a function that makes something of its document, and raises ``Mistake``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_T = TypeVar("_T")


class Mistake(ValueError):
    """What is wrong in a file, the place first. It has no value of the file."""


def load(setting: str, path: str, read: Callable[[dict[str, Any]], _T]) -> _T:
    """What ``read`` makes of a file.

    :param setting: the name of the setting that names the file.
    :raises ConfigError: if it can't be read or used; the text names the setting and the file.
    """
    try:
        with open(path, "rb") as file:
            return read(tomllib.load(file))
    except OSError as error:
        problem = error.strerror or "it can't be read"
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are some
        problem = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    raise ConfigError(f"{setting}: {path}: {problem.rstrip('.')}.")


def at(place: str, read: Callable[..., _T], *given: Any) -> _T:
    """What ``read`` makes of a part of a document.

    :raises Mistake: with the place, if it can't be used.
    """
    try:
        return read(*given)
    except (ValueError, TypeError) as error:
        raise Mistake(f"{place}: {error}") from None


def table(place: str, value: object) -> dict[str, Any]:
    """A value that must be a table.

    :raises Mistake: if it is none.
    """
    if not isinstance(value, dict):
        raise Mistake(f"{place} must be a table")
    return value
