"""The command ``chatproxy new app``: a small, tested application to begin with.

What it writes are the files of ``new_app``, each without the ``-tpl`` at the end of its name, which
keeps tools from taking them for code of this package.
"""

from __future__ import annotations

import re
import secrets
from importlib.resources import files
from pathlib import Path

import click

#: Where each file is below the folder of the application, and below ``new_app``.
FILES = {
    "README.md": "README.md-tpl",
    "requirements.txt": "requirements.txt-tpl",
    ".gitignore": "gitignore-tpl",
    "app.py": "app.py-tpl",
    "chat.py": "chat.py-tpl",
    "models.py": "models.py-tpl",
    "templates/chat.html": "templates/chat.html-tpl",
    "templates/login.html": "templates/login.html-tpl",
    "conftest.py": "conftest.py-tpl",
    "test_app.py": "test_app.py-tpl",
    "instance/settings.py": "settings.py-tpl",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


@click.group()
def new() -> None:
    """Write something to begin with."""


@new.command()
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
def app(folder: Path) -> None:
    """Write a small Flask application, with its tests.

    It has a login, a database, answers that can be stopped and are kept, and a run.

    DIR is made if it is not there; the present folder if left out. Nothing is overwritten.
    """
    name = folder.resolve().name
    if not _NAME.fullmatch(name):
        raise click.ClickException(
            f"An application can't be called {name!r}: its folder must have a name of 1 to 64 "
            "letters, digits, spaces and . _ -, and begin with a letter or digit."
        )
    if taken := sorted(each for each in FILES if (folder / each).exists()):
        raise click.ClickException(f"{folder / taken[0]} is there already; nothing was written.")
    try:
        _write(folder, {"@NAME@": name, "@SECRET@": secrets.token_hex(32)})
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    click.echo(f"{folder / 'README.md'} tells how to go on.")


def _write(folder: Path, words: dict[str, str]) -> None:
    source = files(__package__) / "new_app"
    for target, template in FILES.items():
        text = (source / template).read_text(encoding="utf-8")
        for mark, word in words.items():
            text = text.replace(mark, word)
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600 if path.parent.name == "instance" else 0o666)  # it holds a secret
        path.write_text(text, encoding="utf-8")
