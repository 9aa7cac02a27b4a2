"""gunicorn's gevent worker, made fair: no client holds up the others."""
