"""An application as there are many: a login from a database with a small pool, and tracing.

``python -m tests.support.neighbours`` runs it under plain threads; gunicorn takes
``tests.support.neighbours:app``.
"""

import contextvars
import json
import os
import tempfile

from flask import Flask, jsonify, request
from flask_login import LoginManager, UserMixin, current_user
from flask_sqlalchemy import SQLAlchemy
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import QueuePool

from chatproxy import ChatProxy, stream_ended

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)

app = Flask(__name__)
app.secret_key = "neighbours"
app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tempfile.mkdtemp()}/users.db"
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
    "poolclass": QueuePool,
    "pool_size": 2,
    "max_overflow": 0,
    "pool_timeout": 2,
}
database = SQLAlchemy(app)
logins = LoginManager(app)


class User(database.Model, UserMixin):
    id = database.Column(database.Integer, primary_key=True)
    name = database.Column(database.String, unique=True)


@logins.request_loader
def load(asked):
    return User.query.filter_by(name=asked.headers.get("X-User")).first()


with app.app_context():
    database.create_all()
    for name in ("ada", "bob"):
        database.session.add(User(name=name))
    database.session.commit()

asked_by = contextvars.ContextVar("asked_by", default="nobody")
ended = []


@app.before_request
def note():
    asked_by.set(request.headers.get("X-Request-Id", "nobody"))


def owner():
    return current_user.get_id() if current_user.is_authenticated else None


FlaskInstrumentor().instrument_app(app)
URLLib3Instrumentor().instrument()
chat = ChatProxy(app, owner=owner)


@stream_ended.connect_via(app)
def keep(_app, session_id, outcome, text, **_):
    users = User.query.count()  # by a connection that the application has to spare
    ended.append(
        {
            "id": session_id,
            "outcome": outcome,
            "asked_by": asked_by.get(),
            "trace": f"{trace.get_current_span().get_span_context().trace_id:032x}",
            "request": bool(request),
            "users": users,
        }
    )


@app.get("/state")
def state():
    return jsonify(
        ended=ended,
        checked_out=database.engine.pool.checkedout(),
        spans=[json.loads(span.to_json()) for span in spans.get_finished_spans()],
        pid=os.getpid(),
    )


@app.get("/healthz")
def healthz():
    return "ok"


if __name__ == "__main__":
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"Listening at: http://127.0.0.1:{server.port} ", flush=True)
    server.serve_forever()
