"""Storage on this machine for the tests: an S3 server (moto) with one bucket, `data`, and a small hub of data sets. Prints its port.

It ends when its standard input does. Faults are asked for by POST /__faults with JSON: {"seed": 1, "rate": 0.1} makes that share of the
requests fail in one of these ways: refused before (503, or with half of what was sent thrown away), answered with 500 although it was done
(a lost reply), or late. GET /__counts tells how many requests of each kind there were, GET /__objects/PREFIX what people read of an output.
"""

import base64
import collections
import json
import random
import sys
import threading
import time
import urllib.parse

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

HUB = {"main": "a" * 40, "v1": "b" * 40}


class Storage:
    def __init__(self):
        self.s3 = DomainDispatcherApplication(create_backend_app)
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.faults, self.random = {}, None
        self.hub_files = {}

    def __call__(self, environ, start):
        path, query = environ["PATH_INFO"], urllib.parse.parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        if path == "/__faults":
            with self.lock:
                self.faults = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
                self.random = random.Random(self.faults["seed"])
            return answer(start, "200 OK", b"")
        if path == "/__counts":
            with self.lock:
                counts, self.counts = dict(self.counts), collections.Counter()
            return answer(start, "200 OK", json.dumps(counts).encode())
        if path.startswith("/__hub/"):
            length = int(environ["CONTENT_LENGTH"])
            self.hub_files[path.removeprefix("/__hub/")] = environ["wsgi.input"].read(length)
            return answer(start, "200 OK", b"")
        if path.startswith("/__objects/"):
            prefix = path.removeprefix("/__objects/")
            objects = self.client().get_paginator("list_objects_v2").paginate(Bucket="data", Prefix=prefix)
            names = [found["Key"] for page in objects for found in page.get("Contents", [])]
            found = {name: self.client().get_object(Bucket="data", Key=name)["Body"].read() for name in names if "/.pipeline/" not in name}
            return answer(start, "200 OK", json.dumps({name: base64.b64encode(body).decode() for name, body in found.items()}).encode())
        is_list = environ["REQUEST_METHOD"] == "GET" and ("list-type" in query or "/tree/" in path)
        with self.lock:
            self.counts["LIST" if is_list else environ["REQUEST_METHOD"]] += 1
            fault = None
            if self.random and self.random.random() < self.faults["rate"]:
                fault = self.random.choice(["refused", "torn", "lost", "late"])
        if fault == "refused":
            return answer(start, "503 Slow Down", b"", [("Connection", "close")])
        if fault == "torn":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0) // 2)
            return answer(start, "503 Slow Down", b"", [("Connection", "close")])
        if fault == "late":
            time.sleep(0.2)
        if path.startswith(("/api/datasets/", "/datasets/")):
            result = self.hub(environ, start if fault != "lost" else lambda *_: None, path, query)
        else:
            result = self.s3(environ, start if fault != "lost" else lambda *_, **__: None)
        if fault == "lost":
            b"".join(result)
            return answer(start, "500 Internal Server Error", b"")
        return result

    def client(self):
        return boto3.client("s3", endpoint_url=endpoint, **settings)

    def hub(self, environ, start, path, query):
        """owner/name with the files that were put, the same at each revision; what is below private/ wants a token."""
        if "/private/" in path and environ.get("HTTP_AUTHORIZATION") != "Bearer hf_test":
            return answer(start, "401 Unauthorized", b"")
        parts = path.strip("/").split("/")
        if parts[0] == "api" and parts[4:5] == ["revision"]:
            commit = HUB.get("/".join(parts[5:]))
            return answer(start, "200 OK", json.dumps({"sha": commit}).encode()) if commit else answer(start, "404 Not Found", b"")
        if parts[0] == "api" and parts[4:5] == ["tree"]:
            names, page = sorted(self.hub_files), int(query.get("cursor", ["0"])[0])
            nodes = [{"type": "directory", "path": "data", "oid": "0", "size": 0}] if page == 0 else []
            nodes += [{"type": "file", "path": name, "oid": str(n), "size": len(self.hub_files[name])} for n, name in enumerate(names[page:page + 1])]
            headers = []
            if page + 1 < len(names):  # one file a page
                host = environ["HTTP_HOST"]
                headers = [("Link", f'<http://{host}{path}?recursive=true&cursor={page + 1}>; rel="next"')]
            return answer(start, "200 OK", json.dumps(nodes).encode(), headers)
        if parts[0] == "datasets" and parts[3:4] == ["resolve"]:
            body = self.hub_files.get("/".join(parts[5:]))
            if body is None:
                return answer(start, "404 Not Found", b"")
            headers = [("ETag", f'"{hash(body)}"'), ("Accept-Ranges", "bytes")]
            wanted = environ.get("HTTP_RANGE", "").removeprefix("bytes=")
            if wanted and environ["REQUEST_METHOD"] == "GET":
                first, _, last = wanted.partition("-")
                first, last = int(first), min(int(last), len(body) - 1)
                headers.append(("Content-Range", f"bytes {first}-{last}/{len(body)}"))
                return answer(start, "206 Partial Content", body[first:last + 1], headers)
            return answer(start, "200 OK", b"" if environ["REQUEST_METHOD"] == "HEAD" else body, headers, length=len(body))
        return answer(start, "404 Not Found", b"")


def answer(start, status, body, headers=(), length=None):
    start(status, [("Content-Length", str(len(body) if length is None else length)), *headers])
    return [body]


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


server = make_server("127.0.0.1", 0, Storage(), threaded=True, request_handler=Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = f"http://127.0.0.1:{server.server_port}"
settings = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
server.app.client().create_bucket(Bucket="data")
print(server.server_port, flush=True)
sys.stdin.read()
