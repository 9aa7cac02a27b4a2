"""What depends on the WSGI server or on the event loop.

Nothing else imports ``gevent`` or ``gunicorn``.
"""
