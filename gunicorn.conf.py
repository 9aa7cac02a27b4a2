"""gunicorn reads this by itself when it is started in this folder."""

from chatproxy.gunicorn_config import *  # noqa: F403
