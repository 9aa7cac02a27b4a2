"""llama.cpp's server with one place for an answer, and one thread that computes.

    python llama_server.py MODEL BATCH

It is run in an environment of its own, and knows nothing of the tests.

:param BATCH: how many tokens of a prompt are read at once.
"""

from __future__ import annotations

import signal
import sys

import xllamacpp

model, batch = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = model
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_ctx = 8192
params.n_parallel = 1
params.n_batch = int(batch)
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print("Listening at:", server.listening_address, flush=True)
signal.pause()
