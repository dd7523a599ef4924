"""Daft's `minhash` alone. usage: run_daft.py INPUT HASH; prints CPU-seconds and the bytes of text that were signed."""

import resource
import sys

import daft
from daft import col


def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


texts = daft.read_json(f"{sys.argv[1]}/*.jsonl").select("text").collect()
size = sum(len(text.encode()) for text in texts.to_pydict()["text"])
before = cpu()
texts.select(col("text").minhash(num_hashes=112, ngram_size=5, hash_function=sys.argv[2])).collect()
print(cpu() - before, size)
