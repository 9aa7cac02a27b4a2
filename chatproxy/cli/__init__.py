"""The command line: ``chatproxy serve``, ``demo``, ``sessions``, ``report`` and the others.

The server's master forks workers that patch with gevent. So nothing here imports ``requests``, and
the worker, not the master, imports the application. gunicorn and h11 are imported only by the
commands that need them, because they need not be installed.
"""

from __future__ import annotations

import click

from .. import __version__
from .conversations import conversations
from .new import new
from .reconcile import reconcile
from .report import report
from .servers import demo, serve, simulate
from .sessions import cancel, sessions


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="chatproxy")
def main() -> None:
    """Stream chat answers from DeepSeek, with a Stop that really stops them.

    \b
    Try it without a key:       chatproxy demo
    Run it against DeepSeek:    DEEPSEEK_API_KEY=sk-... chatproxy serve
    Begin an application:       chatproxy new app my-chat
    """


for _command in (serve, demo, simulate, sessions, cancel, report, reconcile, conversations, new):
    main.add_command(_command)
