"""Every phase in which an answer can be ended, each as a stream that stays in it.

``Phases(…).reach(phase, kind)`` begins such a stream and returns it once it is there. With ``run``
the answer is that of a run (:mod:`tests.support.runs`), whose own call is in that phase.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

from .servers import Client, Proxy, black_hole, mute_listener, new_id
from .waiting import wait_for

#: The name of each phase, and what a receipt calls it.
PHASES = {
    "resolving": "connecting",
    "connecting": "connecting",
    "socks_handshake": "connecting",
    "tunnel": "connecting",
    "tls_handshake": "connecting",
    "before_headers": "waiting",
    "silent": "waiting",
    "queued": "waiting",
    "between_retries": "connecting",
    "mid_stream": "streaming",
    "silent_mid_stream": "streaming",
    "client_does_not_read": "streaming",
}

_SIMULATED = {
    "before_headers": {"never": "headers"},
    "silent": {"never": "tokens"},
    "queued": {"never": "tokens", "keep_alive_every": 0.05},
    "between_retries": {"status": 503, "retry_after": 15},
    "mid_stream": {"rate": 50, "tokens": 100_000},
    "silent_mid_stream": {"rate": 0, "tokens": 100, "silence_after": 10},
    "client_does_not_read": {"rate": 0, "tokens": 10_000_000},
}

#: Whose silence keeps a stream in a phase: what the environment calls it, and its first byte, of
#: SOCKS 5 (RFC 1928), of CONNECT, or of a TLS handshake (RFC 8446, section 5.1).
_SILENT_PEERS = {
    "socks_handshake": ("ALL_PROXY", "socks5h", b"\x05"),
    "tunnel": ("HTTPS_PROXY", "http", b"C"),
    "tls_handshake": ("DEEPSEEK_BASE_URL", "https", b"\x16"),
}

LOG_BYTES = 200_000


@dataclass
class Stream:
    """A stream that stays in one phase.

    ``upstream_gone()`` waits until DeepSeek's side saw its peer go away, and returns the
    ledger's entry where there is one.
    """

    id: str
    phase: str
    proxy: Proxy
    client: Client
    upstream_gone: Any


class _Begin:
    """Where a stream begins: under which kind of server, and whether it is a run."""

    def __init__(self, start_proxy, kind, run):
        self._start_proxy = start_proxy
        self._kind = kind
        self._settings = {"TEST_RUNS": 1} if run else {}
        self.is_run = run is not None
        self.path = f"runs/{run}" if run else "stream"

    def proxy(self, url, **settings):
        return self._start_proxy(self._kind, url, **settings, **self._settings)

    def phase_of(self, name):
        """A run that shows nothing yet is waiting, wherever its call is."""
        phase = PHASES[name]
        return "waiting" if self.is_run and phase == "connecting" else phase


class Phases:
    """Begins streams that stay in a phase; what keeps them there is shared by all of a phase."""

    def __init__(self, start_proxy, deepseek):
        self._start_proxy = start_proxy
        self._deepseek = deepseek
        self._stack = contextlib.ExitStack()
        self._silent_peers = {}

    def close(self):
        self._stack.close()

    @contextlib.contextmanager
    def reach(self, name, kind, run=None):
        """A stream in the phase of this name, under a server of this kind."""
        begin = _Begin(self._start_proxy, kind, run)
        with contextlib.ExitStack() as stack:
            if name in _SIMULATED:
                stream = self._simulated(name, begin)
            elif name in _SILENT_PEERS:
                stream = self._beside_a_silent_peer(name, begin, stack)
            else:
                stream = self._unconnected(name, begin)
            stack.callback(stream.client.leave)
            yield stream

    def _simulated(self, name, begin):
        deepseek = self._deepseek
        proxy = begin.proxy(deepseek.url, CHATPROXY_LOG_BYTES=LOG_BYTES)
        session_id, phase = new_id(), begin.phase_of(name)
        simulate = {"tag": session_id, **_SIMULATED[name]}
        client = Client(proxy.port, receive_buffer=4096)
        client.post_stream(session_id, begin.path, simulate=simulate)
        entry = deepseek.entry(session_id)
        if name == "between_retries":
            deepseek.entry(session_id, lambda entry: not entry["open"])
        elif name == "queued":
            client.read_until(b": keep-alive")
        elif name == "client_does_not_read":
            _wait_until_generation_stalls(deepseek, session_id)
        elif PHASES[name] == "streaming":
            client.read_until(b"id: 10\n")
        proxy.wait_for_phase(session_id, phase)

        def upstream_gone():
            if name == "between_retries":
                return wait_for(lambda: entry and deepseek.entries(session_id)[-1])
            return deepseek.gone(session_id)

        return Stream(session_id, phase, proxy, client, upstream_gone)

    def _unconnected(self, name, begin):
        if name == "resolving":
            url = "http://slow.test:1"
            settings = {"TEST_UNRESOLVABLE_HOST": "slow.test", "DEEPSEEK_API_KEY": "sk-test"}
        else:
            url, settings = self._shared(name, black_hole), {}
        return self._connecting(name, begin, url, settings)

    def _beside_a_silent_peer(self, name, begin, stack):
        variable, scheme, first = _SILENT_PEERS[name]
        listener = self._shared(name, mute_listener)
        url, settings = "{}://{}:{}".format(scheme, *listener.getsockname()), {}
        if variable != "DEEPSEEK_BASE_URL":
            settings = {variable: url, "DEEPSEEK_API_KEY": "sk-test"}
            url = "https://deepseek.test"
        stream = self._connecting(name, begin, url, settings)
        accepted = stack.enter_context(listener.accept()[0])
        accepted.settimeout(10)
        assert accepted.recv(1) == first

        def gone():
            with contextlib.suppress(ConnectionResetError):
                while accepted.recv(65536):
                    continue

        stream.upstream_gone = gone
        return stream

    def _shared(self, name, make):
        if name not in self._silent_peers:
            self._silent_peers[name] = self._stack.enter_context(make())
        return self._silent_peers[name]

    def _connecting(self, name, begin, url, settings):
        proxy, session_id, phase = begin.proxy(url, **settings), new_id(), begin.phase_of(name)
        client = Client(proxy.port).post_stream(session_id, begin.path)
        proxy.wait_for_phase(session_id, phase)
        if begin.is_run:  # which is in its phase before its call is
            proxy.wait_for_call(session_id)
        return Stream(session_id, phase, proxy, client, lambda: None)


def _wait_until_generation_stalls(deepseek, tag):
    seen = []

    def stalled():
        seen.append(deepseek.entries(tag)[-1]["tokens"])
        return len(seen) > 20 and seen[-1] == seen[-20] > 0

    wait_for(stalled, 20, "a stalled upstream")
