"""The standalone application, with a window into its process for the tests.

``python -m tests.support.serving werkzeug`` runs it under plain threads, ``… pywsgi`` under
gevent's own server, and so on; gunicorn takes ``tests.support.serving:app``.
"""

import sys

if sys.argv[1:] == ["pywsgi"]:
    from gevent import monkey

    monkey.patch_all()

import gc
import json
import os
import socket
import threading
import time

from flask import Flask, jsonify
from greenlet import greenlet

from chatproxy import stream_ended
from chatproxy.app import load

from . import runs
from .descriptors import open_descriptors

if host := os.environ.get("TEST_UNRESOLVABLE_HOST"):
    _getaddrinfo = socket.getaddrinfo

    def _hang(name, *args, **kwargs):
        if name == host:
            threading.Event().wait()
        return _getaddrinfo(name, *args, **kwargs)

    socket.getaddrinfo = _hang

#: Of the servers that have a pool of threads.
THREADS = 8

app: Flask = load()

if path := os.environ.get("TEST_KEEP_IN"):

    @stream_ended.connect_via(app)
    def _keep(_app, outcome, text, **_):
        time.sleep(3)
        with open(path, "w") as kept:
            kept.write(f"{outcome} {text}")


if os.environ.get("TEST_SCENARIO_IN_TEXT"):
    # For clients that can't send a field of their own.

    def _take_scenario(payload, context):
        text = payload["messages"][-1]["content"]
        if text.startswith("{"):
            payload["simulate"] = json.loads(text)

    app.extensions["chatproxy"].preparers.append(_take_scenario)


if os.environ.get("TEST_RUNS"):
    runs.register(app.extensions["chatproxy"].runs)


if os.environ.get("TEST_HIDE_SOCKET"):
    # As under a WSGI server that does not tell where the client's socket is.
    _wsgi_app = app.wsgi_app

    def _without_socket(environ, start_response):
        for name in ("gunicorn.socket", "werkzeug.socket"):
            environ.pop(name, None)
        return _wsgi_app(environ, start_response)

    app.wsgi_app = _without_socket


if os.environ.get("TEST_WITHOUT_COLLECTOR"):
    gc.disable()


@app.get("/answers")
def answers():
    """What there is of answers, without having garbage collected."""
    parts = {
        *("StreamSession", "AnswerLog", "LogReader", "EventStream", "DirectWriter", "HTTPResponse"),
        *("ChatCompletionCall", "Exchange", "_GeventWatch", "_SelectorWatch"),
    }
    return jsonify(sorted(parts.intersection(type(each).__name__ for each in gc.get_objects())))


@app.get("/full-collections")
def full_collections():
    return jsonify(gc.get_stats()[2]["collections"])


@app.get("/live")
def live():
    """The sessions that live, and their phases."""
    return jsonify({s.id: s.phase for s in app.extensions["chatproxy"].registry.live()})


@app.get("/calls")
def calls():
    """How many calls each run that lives has begun."""
    live = app.extensions["chatproxy"].registry.live()
    return jsonify({s.id: s.calls.count for s in live if s.calls is not None})


@app.get("/resources")
def resources():
    """What this process uses, having garbage collected; that takes a while."""
    gc.collect()
    found = gc.get_objects()
    return jsonify(
        descriptors=open_descriptors(),
        threads=len(os.listdir("/proc/self/task")),
        greenlets=sum(isinstance(each, greenlet) and not each.dead for each in found),
        running=sorted(thread.name for thread in threading.enumerate()),
    )


@app.get("/held")
def held():
    """The number of the newest event of each answer that runs."""
    live = app.extensions["chatproxy"].registry.live()
    return jsonify({session.id: session.log.last for session in live})


@app.get("/pid")
def pid():
    return jsonify(os.getpid())


def _say(port):
    print(f"Listening at: http://127.0.0.1:{port} ", flush=True)


def _serve_with_werkzeug():
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, app, threaded=True)
    _say(server.port)
    server.serve_forever()


def _serve_with_pywsgi():
    from gevent.pywsgi import WSGIServer

    server = WSGIServer(("127.0.0.1", 0), app, log=None)
    server.start()
    _say(server.server_port)
    server.serve_forever()


def _serve_with_waitress():
    import waitress

    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=THREADS)
    _say(server.effective_port)
    server.run()


def _serve_with_cheroot():
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", 0), app, numthreads=THREADS)
    server.prepare()
    _say(server.bind_addr[1])
    server.serve()


def _serve_with_uvicorn(bridge):
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    _say(listener.getsockname()[1])
    config = uvicorn.Config(bridge, interface="asgi3", lifespan="off", log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


def _serve_with_a2wsgi():
    from a2wsgi import WSGIMiddleware

    _serve_with_uvicorn(WSGIMiddleware(app, workers=THREADS))


def _serve_with_uvicorns_own_bridge():
    from uvicorn.middleware.wsgi import _WSGIMiddleware

    _serve_with_uvicorn(_WSGIMiddleware(app, workers=THREADS))


def _serve_with_hypercorn():
    import asyncio

    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    listener = socket.create_server(("127.0.0.1", 0))
    _say(listener.getsockname()[1])
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    asyncio.run(serve(app, config, mode="wsgi"))


SERVERS = {
    "a2wsgi": _serve_with_a2wsgi,
    "cheroot": _serve_with_cheroot,
    "hypercorn": _serve_with_hypercorn,
    "pywsgi": _serve_with_pywsgi,
    "uvicorn": _serve_with_uvicorns_own_bridge,
    "waitress": _serve_with_waitress,
    "werkzeug": _serve_with_werkzeug,
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]]()
