"""A plain load generator: asks about each row, so many at once, and writes the answers. usage: run_load.py ENDPOINT MODEL ROWS.jsonl OUTPUT.jsonl AT_ONCE EXTRA

No retries, no store, no order: what asking takes at the least, with asyncio and aiohttp (httpx takes ten times as long a request). EXTRA is JSON: fields
that each request has besides. Prints the seconds between the first request and the last answer.
"""

import asyncio
import json
import sys
import time

import aiohttp

endpoint, model, source, output, at_once, extra = sys.argv[1:7]
rows = [json.loads(line) for line in open(source)]
extra = json.loads(extra)


async def main():
    left = iter(rows)
    connector = aiohttp.TCPConnector(limit=int(at_once))
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as client:
        with open(output, "w") as out:
            async def worker():
                for row in left:
                    body = {"model": model, "messages": [{"role": "user", "content": row["prompt"]}], **extra}
                    async with client.post(f"{endpoint}/chat/completions", json=body) as answer:
                        said = await answer.json()
                    out.write(json.dumps({"id": row["id"], "answer": said["choices"][0]["message"]["content"]}) + "\n")

            began = time.monotonic()
            await asyncio.gather(*(worker() for _ in range(int(at_once))))
            print(time.monotonic() - began)


asyncio.run(main())
