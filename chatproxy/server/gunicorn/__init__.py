"""What chatproxy changes in gunicorn's gevent worker."""
