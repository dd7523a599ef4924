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
found = {"datasets": {}, "pyarrow": {}, "polars": {}, "duckdb": {}, "types": {}}
for config in datasets.get_dataset_config_names(output):
    loaded = datasets.load_dataset(output, config)
    found["datasets"][config] = {split: rows.num_rows for split, rows in loaded.items()}
    found["types"][config] = {name: str(feature) for name, feature in next(iter(loaded.values())).features.items()}
folders = sorted(folder for folder in glob.glob(f"{output}/*/") if glob.glob(f"{folder}*.parquet") and not folder.endswith(("/dropped/", "/rejected/")))
for folder in folders:
    name = folder.rstrip("/").rsplit("/", 1)[-1]
    found["pyarrow"][name] = pyarrow.parquet.read_table(folder).num_rows
    found["polars"][name] = polars.read_parquet(f"{folder}*.parquet").height
    found["duckdb"][name] = duckdb.sql(f"select count(*) from '{folder}*.parquet'").fetchall()[0][0]
print(json.dumps(found))
