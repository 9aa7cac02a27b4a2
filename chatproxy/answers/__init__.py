"""What an answer is: its state, its events in a log, its readers, and the producer that makes it.

Nothing here knows Flask, gevent, requests or Redis.
"""
