"""The workers of one host: a private directory, a socket for each worker, a link for each lease."""
