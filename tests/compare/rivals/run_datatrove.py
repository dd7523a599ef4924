"""FineWeb's near-deduplication with datatrove. usage: run_datatrove.py INPUT OUTPUT SCRATCH THREADS"""

import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter

source, output, scratch = sys.argv[1:4]
threads = int(sys.argv[4])
config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)


def run(tasks, *steps):
    LocalPipelineExecutor(pipeline=list(steps), tasks=tasks, workers=threads, logging_dir=f"{scratch}/logs{tasks}-{len(steps)}").run()


if __name__ == "__main__":
    run(threads, JsonlReader(source), MinhashDedupSignature(f"{scratch}/signatures", config))
    run(14, MinhashDedupBuckets(f"{scratch}/signatures", f"{scratch}/buckets", config=config))
    run(1, MinhashDedupCluster(f"{scratch}/buckets", f"{scratch}/remove", config=config))
    run(threads, JsonlReader(source), MinhashDedupFilter(f"{scratch}/remove"), JsonlWriter(output, compression=None))
