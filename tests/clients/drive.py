"""Drives the clients in Python: ``python drive.py BASE_URL``, with what tests/clients.txt names.

A line of JSON comes for each question, and one goes back with what its user gets: the text, the
``finish_reason``, or the error. Questions run side by side. The line with the number 0 goes back
first, with the versions of all clients. They share one process, because some take seconds to
import.

    → {"number": 1, "client": "llm", "text": "Hello", "id": "a", "stream": true, "leave": false}
    ← {"number": 1, "text": "Hi!", "finish": "stop", "error": null}
    → {"number": 2, "code": "print(1)"}
    ← {"number": 2, "text": "1\n", "finish": null, "error": null}

A client here is a class that makes an iterator of the pieces of an answer, and notes its
``finish_reason``. Each is used as its own documents say.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import io
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODEL = "deepseek-flash"
_REPLIES = os.fdopen(os.dup(1), "w")  # some clients print what they think
os.dup2(2, 1)


class Question:
    """What is asked, and what came of it."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.text: str = fields["text"]
        self.stream: bool = fields["stream"]
        self.headers = {"X-Session-Id": fields["id"]} if fields["id"] else {}
        self.finish: str | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.text}]

    def read(self, answer: Any) -> Iterator[str]:
        """Read a completion, or the chunks of one, as openai-python has them."""
        if not self.stream:
            self.finish = answer.choices[0].finish_reason
            yield answer.choices[0].message.content or ""
            return
        with contextlib.closing(answer):
            for chunk in answer:
                self.finish = chunk.choices[0].finish_reason or self.finish
                yield chunk.choices[0].delta.content or ""


class OpenAI:
    """openai-python."""

    package = "openai"

    def __init__(self, base_url: str) -> None:
        import openai

        self._client = openai.OpenAI(base_url=base_url, api_key="-")

    def ask(self, question: Question) -> Iterator[str]:
        answer: Any = self._client.chat.completions.create(
            model=MODEL,
            messages=question.messages,
            stream=question.stream,
            extra_headers=question.headers,
        )
        yield from question.read(answer)


class LangChain:
    """langchain-openai."""

    package = "langchain-openai"

    def __init__(self, base_url: str) -> None:
        from langchain_openai import ChatOpenAI

        self._model: Any = ChatOpenAI(model=MODEL, base_url=base_url, api_key="-")

    def ask(self, question: Question) -> Iterator[str]:
        model = self._model.bind(extra_headers=question.headers)
        answers = model.stream(question.text) if question.stream else [model.invoke(question.text)]
        for each in answers:
            question.finish = each.response_metadata.get("finish_reason") or question.finish
            yield each.content


class LangChainDeepSeek(LangChain):
    """langchain-deepseek."""

    package = "langchain-deepseek"

    def __init__(self, base_url: str) -> None:
        from langchain_deepseek import ChatDeepSeek

        self._model = ChatDeepSeek(model=MODEL, base_url=base_url, api_key="-")


class LiteLLM:
    """LiteLLM, with its provider ``openai``."""

    package = "litellm"
    provider = "openai"

    def __init__(self, base_url: str) -> None:
        import litellm

        litellm.suppress_debug_info = True
        self._litellm, self._base_url = litellm, base_url

    def ask(self, question: Question) -> Iterator[str]:
        answer: Any = self._litellm.completion(
            model=f"{self.provider}/{MODEL}",
            messages=question.messages,
            api_base=self._base_url,
            api_key="-",
            stream=question.stream,
            extra_headers=question.headers,
        )
        yield from question.read(answer)


class LiteLLMDeepSeek(LiteLLM):
    """LiteLLM, with its provider ``deepseek``, which does not use openai-python."""

    provider = "deepseek"


class LLM:
    """``llm``, with a model of its ``extra-openai-models.yaml``, where headers are fixed."""

    package = "llm"

    def __init__(self, base_url: str) -> None:
        import llm

        self._llm, self._base_url = llm, base_url
        self._folder = Path(tempfile.mkdtemp())
        self._lock = threading.Lock()
        os.environ["LLM_USER_PATH"] = str(self._folder)

    def ask(self, question: Question) -> Iterator[str]:
        entry = {"model_id": "it", "model_name": MODEL, "api_base": self._base_url}
        with self._lock:  # YAML can be JSON
            written = json.dumps([{**entry, "headers": question.headers}])
            (self._folder / "extra-openai-models.yaml").write_text(written)
            model = self._llm.get_model("it")
        model.key = "-"
        response = model.prompt(question.text, stream=question.stream)
        try:
            yield from response
        finally:
            said, response = response.response_json or {}, None
            gc.collect()  # it has no close
        question.finish = said.get("finish_reason") or said["choices"][0]["finish_reason"]


CLIENTS: dict[str, Any] = {
    "openai-python": OpenAI,
    "langchain-openai": LangChain,
    "langchain-deepseek": LangChainDeepSeek,
    "litellm, openai/": LiteLLM,
    "litellm, deepseek/": LiteLLMDeepSeek,
    "llm": LLM,
}


def answer(clients: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """What the user of a client gets."""
    if "code" in fields:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(fields["code"], {"__name__": "snippet"})
        return {"text": printed.getvalue(), "finish": None, "error": None}
    question, pieces, error = Question(fields), [], None
    try:
        with contextlib.closing(clients[fields["client"]].ask(question)) as answers:
            for piece in answers:
                pieces.append(piece)
                if fields["leave"] and piece:
                    break
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {"text": "".join(pieces), "finish": question.finish, "error": error}


def main() -> None:
    """Serve standard input."""
    gc.disable()
    clients = {name: kind(sys.argv[1]) for name, kind in CLIENTS.items()}
    gc.freeze()  # what is imported takes half a second to look through
    gc.enable()
    lock = threading.Lock()

    def reply(said: dict[str, Any]) -> None:
        with lock:
            print(json.dumps(said), file=_REPLIES, flush=True)

    def serve(fields: dict[str, Any]) -> None:
        reply({"number": fields["number"], **answer(clients, fields)})

    versions = {name: importlib.metadata.version(each.package) for name, each in clients.items()}
    reply({"number": 0, **versions})
    for line in sys.stdin:
        threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()


main()
