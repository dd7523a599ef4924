"""Serves a language model on this machine: an OpenAI-compatible API at http://127.0.0.1:PORT/v1, and /health.

usage: serve_llm.py MODEL.gguf PORT

Needs the package xllamacpp (llama.cpp with its server), installed or lying beside MODEL, where tests/setup.sh puts it. Ends on SIGTERM, and
when the process that started it is gone. Context and threads: two requests at once with 2,048 tokens each, on one thread; THREADS says otherwise.
"""

import os
import sys
import time

if len(sys.argv) != 3:
    sys.exit(__doc__.split("\n\n")[1])
model, port = sys.argv[1], int(sys.argv[2])
parent = os.getppid()
sys.path.insert(0, os.path.dirname(os.path.abspath(model)))
import xllamacpp  # noqa: E402

if not os.path.isfile(model):
    sys.exit(f"there is no model at {model}")
params = xllamacpp.CommonParams()
params.model.path = model
# SmolLM2-135M-Instruct.Q4_1.gguf is smollm2-135m-instruct.
params.model_alias = {os.path.basename(model).split(".")[0].lower()}
params.hostnames, params.port = ["127.0.0.1"], port
params.n_parallel, params.n_ctx = 2, 2 * 2048
# Two threads wait for each other by spinning: where another program wants the second core too, they give a twentieth of what one gives.
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(os.environ.get("THREADS", "1"))
params.n_threads_http = 4
params.verbosity = 2  # what goes wrong, and no line for each request
server = xllamacpp.Server(params)
print(f"{', '.join(params.model_alias)} at {server.listening_address}", flush=True)
while os.getppid() == parent:
    time.sleep(0.5)
# Not the way of Python's exit: it would wait for answers that nobody reads.
os._exit(0)
