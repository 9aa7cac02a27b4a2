"""A model that calls a tool, which asks a slow HTTP service; a Stop ends that request too.

    DEEPSEEK_API_KEY=sk-... WEATHER_URL=https://... flask --app examples/tool_loop run

Ask the run ``assistant``.
"""

import os
from typing import Annotated, Any

from flask import Flask, current_app
from msgspec import Meta

from chatproxy import ChatProxy, Run, tools


def weather(run: Run, city: Annotated[str, Meta(description="Its name.")], days: int = 1) -> Any:
    """The weather of a city in the next days."""
    asked = {"city": city, "days": days}
    response = run.http.get(current_app.config["WEATHER_URL"], params=asked, timeout=60)
    response.raise_for_status()
    return response.json()


def create_app(config=None):
    app = Flask(__name__)
    app.config.from_mapping(WEATHER_URL=os.environ.get("WEATHER_URL"))
    app.config.from_mapping(config)
    chat = ChatProxy(app)

    @chat.run("assistant")
    def answer(run, payload):
        yield from tools.ask(run, payload, [weather])

    return app
