"""An answer made by a Celery worker, read and stopped in the web application.

    export BROKER=redis://127.0.0.1:6379/0
    celery --app examples.celery_task:queue worker
    flask --app examples.celery_task run

``POST /reports/<id>`` with a topic begins one. From then on it is an answer like any other:
``GET /api/chat/stream/<id>`` reads it, ``POST /api/chat/cancel/<id>`` stops it, on whatever host
the Celery worker is. For that, both find each other in the broker's Redis or Valkey.
"""

import os

from celery import Celery
from flask import Flask, request

from chatproxy import ChatProxy, Refusal

BROKER = os.environ.get("BROKER", "redis://127.0.0.1:6379/0")

app = Flask("celery_task")
app.config.from_mapping(CHATPROXY_PEERS=BROKER)
chat = ChatProxy(app)
queue = Celery("celery_task", broker=BROKER)


@app.post("/reports/<report_id>")
def begin(report_id):
    write_report.delay(report_id, request.get_json()["topic"])
    return {"id": report_id}, 202


@queue.task(name="write_report")  # however this module is imported
def write_report(report_id, topic):
    """Have a report written; as long as it takes, or until somebody stops it."""
    question = {"role": "user", "content": f"Write a report on {topic}."}
    try:
        answer = chat.start({"messages": [question]}, session_id=report_id)
    except Refusal as refusal:  # it was stopped before it began, for example
        return refusal.message
    with answer:
        return f"{answer.wait()}: {answer.text}"
