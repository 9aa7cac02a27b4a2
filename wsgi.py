"""The standalone server for a WSGI server: ``gunicorn -k gevent wsgi:app``."""

from chatproxy.app import load

app = load()
