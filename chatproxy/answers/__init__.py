"""What an answer is and how it lives: from its claim to its end, whoever makes or reads it.

Nothing here knows Flask, gevent, requests or Redis.
"""
