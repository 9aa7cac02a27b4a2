"""Two applications of one process, made by one function, for gunicorn: ``tests.tenants:app``."""

import os

from flask import Flask, jsonify, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from chatproxy import ChatProxy, metrics
from chatproxy.app import readyz


def create_app(tenant):
    app = Flask(__name__)
    name = tenant if os.environ.get("TEST_NAMED") else None
    ChatProxy(app, owner=lambda: request.headers.get("X-User"), name=name)
    metrics.init_app(app)
    app.get("/readyz")(readyz)
    app.get("/pid")(lambda: jsonify(os.getpid()))
    return app


app = DispatcherMiddleware(create_app("acme"), {"/globex": create_app("globex")})
