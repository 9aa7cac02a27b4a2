"""gunicorn's own log, with another formatter."""

from __future__ import annotations

import logging
from typing import Any

from gunicorn.glogging import Logger


def with_formatter(formatter: logging.Formatter) -> type[Logger]:
    """A ``logger_class`` for gunicorn, whose lines this formatter makes."""

    class Formatted(Logger):
        def setup(self, cfg: Any) -> None:
            super().setup(cfg)
            for log in (self.error_log, self.access_log):
                for handler in log.handlers:
                    handler.setFormatter(formatter)

    return Formatted
