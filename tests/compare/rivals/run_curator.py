"""Asks a model about each row with Bespoke Curator. usage: run_curator.py ENDPOINT ROWS.jsonl OUTPUT.parquet AT_ONCE"""

import json
import os
import pathlib
import sys

endpoint, source, output, at_once = sys.argv[1:5]
os.environ.update(CURATOR_CACHE_DIR=f"{output}.cache", TELEMETRY_ENABLED="false", CURATOR_DISABLE_RICH_DISPLAY="1", BESPOKE_CURATOR_TRACKER_DISABLED="1",
                  LITELLM_LOCAL_MODEL_COST_MAP="True", HF_HUB_OFFLINE="1")
# It counts tokens by a table that it fetches; its own dependency has a copy.
tables = next(pathlib.Path(folder) / "litellm/litellm_core_utils/tokenizers" for folder in sys.path if (pathlib.Path(folder) / "litellm").is_dir())
os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(tables))

from bespokelabs import curator  # noqa: E402
from datasets import Dataset  # noqa: E402


class Ask(curator.LLM):
    def prompt(self, input):
        return input["prompt"]

    def parse(self, input, response):
        return {"id": input["id"], "answer": response}


rows = [json.loads(line) for line in open(source)]
llm = Ask(model_name="mock", backend="openai", generation_params={"max_tokens": 64},
          backend_params={"base_url": endpoint, "api_key": "none", "max_concurrent_requests": int(at_once), "max_requests_per_minute": 10**8,
                          "max_tokens_per_minute": 10**11})
answers = llm(Dataset.from_list(rows)).dataset
assert len(answers) == len(rows), f"{len(answers)} answers to {len(rows)} rows"
answers.to_parquet(output)
