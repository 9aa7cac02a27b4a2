"""Two applications of one process, made by one function, each with a chat page.

gunicorn takes ``tests.support.tenants:app``. With ``TEST_LAZY`` each is made when somebody first
asks for it.
"""

import functools
import os

from flask import Flask, jsonify, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from chatproxy import ChatProxy
from chatproxy.app import readyz
from chatproxy.observability import metrics


def create_app(tenant):
    app = Flask(__name__)
    name = tenant if os.environ.get("TEST_NAMED") else None
    chat = ChatProxy(app, owner=lambda: request.headers.get("X-User"), name=name)
    app.register_blueprint(chat.page())
    metrics.init_app(app)
    app.get("/readyz")(readyz)
    app.get("/pid")(lambda: jsonify(os.getpid()))
    return app


class _Lazy:
    def __init__(self, tenant):
        self._make = functools.cache(lambda: create_app(tenant))

    def __call__(self, environ, start_response):
        return self._make()(environ, start_response)


make = _Lazy if os.environ.get("TEST_LAZY") else create_app
app = DispatcherMiddleware(make("acme"), {"/globex": make("globex")})
