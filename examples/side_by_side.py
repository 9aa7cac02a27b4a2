"""Two models that answer the same question at once; one Stop for both.

    DEEPSEEK_API_KEY=sk-... flask --app examples/side_by_side run

Ask the run ``both``. The pieces of the answers come as events called ``piece``.
"""

from flask import Flask

from chatproxy import ChatProxy

MODELS = ["deepseek-flash", "deepseek-v4-pro"]


def create_app(config=None):
    app = Flask(__name__)
    app.config.from_mapping(config)
    chat = ChatProxy(app)

    @chat.run("both")
    def answer(run, payload):
        def tell(model):
            for part in run.ask({**payload, "model": model}, show=False):
                if part.text:
                    run.emit("piece", {"model": model, "text": part.text})

        for model in MODELS:
            run.spawn(tell, model)

    return app
