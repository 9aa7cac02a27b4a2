"""What depends on the WSGI server or on the event loop.

Nothing else imports ``gevent``; ``gunicorn`` is imported only here and by the command line.

* How clients come and go: ``arrivals``, ``disconnect``, ``stalled_clients``, ``direct_write``.
* How code waits: ``event_loop``, ``resolver``.
* How the process lives: ``capabilities``, ``exposure``, ``shutdown``, and ``gunicorn``.
"""
