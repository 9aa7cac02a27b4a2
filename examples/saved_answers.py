"""Answers kept by Flask-SQLAlchemy, also the text so far of a stopped one.

    DEEPSEEK_API_KEY=sk-... flask --app examples/saved_answers run

A client may say to which ``conversation`` its question belongs, beside ``messages``.
"""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chatproxy import ChatProxy, stream_ended


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Message(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    conversation: Mapped[str | None]
    role: Mapped[str]
    text: Mapped[str]
    outcome: Mapped[str | None]


def create_app(config=None):
    app = Flask(__name__)
    app.config.from_mapping(SQLALCHEMY_DATABASE_URI="sqlite:///answers.db")
    app.config.from_mapping(config)
    db.init_app(app)
    chat = ChatProxy(app)
    stream_ended.connect(keep, app)
    with app.app_context():
        db.create_all()

    @chat.prepare
    def prepare(payload, context):
        context["conversation"] = payload.pop("conversation", None)  # DeepSeek need not see it

    return app


def keep(app, *, payload, context, text, outcome, **_):
    """Keep the question, and what has come of its answer."""
    conversation = context["conversation"]
    asked = str(payload["messages"][-1].get("content"))
    db.session.add(Message(conversation=conversation, role="user", text=asked))
    answered = Message(conversation=conversation, role="assistant", text=text, outcome=outcome)
    db.session.add(answered)
    db.session.commit()
