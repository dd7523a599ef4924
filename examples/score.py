"""Scores how much of a text is shouted, and drops what is mostly shouted. The `command` stage runs it; only the standard library is needed."""

import json
import sys

for line in sys.stdin:
    row = json.loads(line)
    letters = [c for c in row["text"] or "" if c.isalpha()]
    loud = sum(c.isupper() for c in letters) / len(letters) if letters else 0.0
    answer = {"id": row["id"], "loudness": loud}
    if loud > 0.5:
        answer |= {"drop_reason": "shouting", "drop_value": loud, "drop_threshold": 0.5}
    print(json.dumps(answer), flush=True)
