"""A real model on this machine, asked through a real server: ``make local-model``.

llama.cpp's server answers, unchanged, with a model of 270 million parameters. It has one place for
an answer: while it computes one, the next question waits. Its log says how far it has got with
each, and its CPU time whether it computes. It is not among the tests, because it takes 600 MB.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests

from benchmarks.processes import Cores, Server

from ..support.servers import ROOT, Client, Proxy, ask, data_events, new_id
from ..support.waiting import wait_for

ENVIRONMENT = ROOT / ".venv" / "local-model"
#: The most tokens that are read at once, by default and as docs/upstreams.md advises.
DEFAULT, SMALL = 2048, 256
#: Tokens of an answer that would take a minute, and of a prompt that takes half of one.
LONG, LARGE = 3000, 6000

pytestmark = pytest.mark.timeout(300)


class Llama(Server):
    """llama.cpp's server."""

    patience = 60

    def __init__(self, log_path: Path, batch: int) -> None:
        script = Path(__file__).with_name("llama_server.py")
        command = [ENVIRONMENT / "bin" / "python", script, ENVIRONMENT / "model.gguf", batch]
        super().__init__([str(each) for each in command], log_path, Cores.all_for_all().others)

    def launched(self) -> int:
        """How many questions it has begun to compute."""
        return self.log().count("launch_slot_")

    def ended(self) -> list[int]:
        """How many tokens each answer had when it ended, those of its prompt included."""
        return [int(each) for each in re.findall(r"stop processing: n_tokens = (\d+)", self.log())]

    def computes(self) -> bool:
        """Whether it uses the CPU now."""
        before = self.cpu()
        time.sleep(0.2)
        return self.cpu() - before > 0.005


class Served:
    """The model, and chatproxy in front of it."""

    def __init__(self, llama: Llama, proxy: Proxy) -> None:
        self.llama, self.proxy = llama, proxy

    def begin(self, *, prompt: int = 10, tokens: int = LONG) -> tuple[str, Client]:
        """Ask; return the id of the answer, and who reads it."""
        session_id = new_id()
        return session_id, self.proxy.start(session_id, **question(prompt, tokens))

    def tokens_before_the_next(self) -> int:
        """Ask for three tokens more, and wait for them; how far it got with what it did before."""
        answer = ask(self.proxy, **question(tokens=3))
        assert answer.text.endswith("data: [DONE]\n\n")
        wait_for(lambda: not self.llama.computes(), 100)
        return self.llama.ended()[-2]


def question(prompt: int = 10, tokens: int = LONG) -> dict[str, Any]:
    """A question of so many words, whose answer has so many tokens, whatever it says."""
    content = f"{new_id()} " + "word " * prompt
    return {
        "model": "gemma",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "ignore_eos": True,
    }


@pytest.fixture(scope="module")
def serve(logs: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Served]]:
    """Serves the model, with so many tokens of a prompt at once."""
    with ExitStack() as stack:

        @cache
        def start(batch: int) -> Served:
            llama = stack.enter_context(Llama(logs("llama"), batch))
            path = tmp_path_factory.mktemp("upstreams") / "upstreams.toml"
            path.write_text(
                f'others = "refuse"\n[upstreams.llama]\nbase_url = "{llama.url}/v1"\n'
                '[models]\ngemma = { upstream = "llama", model = "model.gguf" }\n'
            )
            settings = {"CHATPROXY_UPSTREAMS": str(path), "CHATPROXY_MODEL": "gemma"}
            proxy = Proxy("gunicorn", "https://api.deepseek.com", logs("proxy"), **settings)
            return Served(llama, stack.enter_context(proxy))

        yield start


@pytest.fixture(scope="module")
def served(serve: Callable[[int], Served]) -> Served:
    return serve(SMALL)


def test_an_answer_comes_whole(served: Served) -> None:
    answer = ask(served.proxy, **question(tokens=20), stream_options={"include_usage": True})
    *_, last = data_events(answer.content)
    assert '"completion_tokens":20' in last["data"]
    assert answer.text.endswith("data: [DONE]\n\n")
    session_id = answer.headers["X-Session-Id"]
    assert re.search(r"tokens=\d+\+20 usage=provider", served.proxy.closing_line(session_id))


def test_an_answer_comes_whole_in_openai_s_protocol(served: Served) -> None:
    url = f"{served.proxy.url}/v1/chat/completions"
    answer = requests.post(url, json=question(tokens=20), timeout=60).json()
    assert len(answer["choices"][0]["message"]["content"]) > 20
    assert answer["choices"][0]["finish_reason"] == "length"


def test_a_stop_in_mid_answer_ends_the_computing(served: Served) -> None:
    session_id, client = served.begin()
    client.read_until(b"id: 20\n")
    assert served.llama.computes()
    status, receipt = served.proxy.cancel(session_id)
    assert (status, receipt["phase"], receipt["upstreamClosed"]) == (200, "streaming", True)
    assert receipt["upstream"] == "llama"
    assert served.tokens_before_the_next() < LONG / 2


def test_a_client_that_leaves_ends_the_computing(served: Served) -> None:
    _, client = served.begin()
    client.read_until(b"id: 20\n")
    client.leave()
    assert served.tokens_before_the_next() < LONG / 2


@pytest.mark.parametrize(("batch", "most"), [(SMALL, DEFAULT), (DEFAULT, 2 * DEFAULT + 1)])
def test_a_stop_while_it_reads_the_prompt_lets_it_read_the_present_batch(
    serve: Callable[[int], Served], batch: int, most: int
) -> None:
    served = serve(batch)
    before = served.llama.launched()
    session_id, _ = served.begin(prompt=LARGE)
    wait_for(lambda: served.llama.launched() > before)
    assert served.llama.computes()
    status, receipt = served.proxy.cancel(session_id)
    assert (status, receipt["phase"], receipt["upstreamClosed"]) == (200, "waiting", True)
    assert served.tokens_before_the_next() <= most < LARGE


def test_the_guide_has_these_versions() -> None:
    guide = (ROOT / "docs" / "upstreams.md").read_text()
    for requirement in (Path(__file__).parent / "local-model.txt").read_text().splitlines()[1:]:
        assert "`{}` {}".format(*requirement.split("==")) in guide
