"""The workers of one host: a private directory, a symbolic link a key, a Unix socket a worker."""
