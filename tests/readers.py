"""Opens an output as its readers do. usage: readers.py OUTPUT; prints one JSON object of rows by reader, config and split."""

import glob
import json
import sys

import datasets
import duckdb
import polars
import pyarrow.parquet

output = sys.argv[1]
datasets.disable_progress_bars()
found = {"datasets": {}, "pyarrow": {}, "polars": {}, "duckdb": {}, "types": {}, "chats": {}}


def chats(rows):
    """How many rows TRL takes for conversations: `messages` is a list that isn't empty of turns with `role` and `content`, and no other column has a
    name by which it tells forms of rows (https://huggingface.co/docs/trl/dataset_formats)."""
    if {"prompt", "completion", "chosen", "rejected", "label"} & set(rows.column_names) or "messages" not in rows.column_names:
        return 0
    turns = [row["messages"] for row in rows]
    fits = [turn for turn in turns if isinstance(turn, list) and turn and all(set(said) == {"role", "content"} for said in turn)]
    return sum(all(said["role"] in ("system", "user", "assistant") and isinstance(said["content"], str) for said in turn) and turn[-1]["role"] == "assistant" for turn in fits)


for config in datasets.get_dataset_config_names(output):
    loaded = datasets.load_dataset(output, config)
    found["datasets"][config] = {split: rows.num_rows for split, rows in loaded.items()}
    found["types"][config] = {name: str(feature) for name, feature in next(iter(loaded.values())).features.items()}
    found["chats"][config] = sum(chats(rows) for rows in loaded.values())
folders = sorted(folder for folder in glob.glob(f"{output}/*/") if glob.glob(f"{folder}*.parquet") and not folder.endswith(("/dropped/", "/rejected/")))
for folder in folders:
    name = folder.rstrip("/").rsplit("/", 1)[-1]
    found["pyarrow"][name] = pyarrow.parquet.read_table(folder).num_rows
    found["polars"][name] = polars.read_parquet(f"{folder}*.parquet").height
    found["duckdb"][name] = duckdb.sql(f"select count(*) from '{folder}*.parquet'").fetchall()[0][0]
print(json.dumps(found))
