"""The route for Prometheus, by its public name: ``chatproxy.metrics.init_app(app)``."""

from .observability.metrics import init_app

__all__ = ["init_app"]
