#!/usr/bin/env python3
"""Writes the HTML pages of a folder as a crawler would have stored them: one WARC file, a gzip member a record.

usage: pages_to_warc.py FOLDER URL OUT.warc.gz     (URL: where the folder would lie on the web, such as https://docs.python.org/3.11/)
"""

import base64
import gzip
import hashlib
import pathlib
import sys
import uuid


def record(kind, headers, content):
    name = uuid.uuid5(uuid.NAMESPACE_URL, repr((kind, headers)))  # the same pages make the same file
    lines = [("WARC-Type", kind), ("WARC-Record-ID", f"<urn:uuid:{name}>"), ("WARC-Date", "2024-01-01T00:00:00Z"), *headers, ("Content-Length", len(content))]
    head = "WARC/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in lines) + "\r\n"
    return gzip.compress(head.encode() + content + b"\r\n\r\n", mtime=0)


def page(url, body):
    digest = base64.b32encode(hashlib.sha1(body).digest()).decode()
    response = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    request = b"GET / HTTP/1.1\r\nUser-Agent: granary-example\r\n\r\n"
    yield record("request", [("WARC-Target-URI", url), ("Content-Type", "application/http; msgtype=request")], request)
    yield record("response", [("WARC-Target-URI", url), ("WARC-Payload-Digest", f"sha1:{digest}"), ("Content-Type", "application/http; msgtype=response")], response)


def main():
    folder, url, out = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
    part = out.with_name(out.name + ".part")
    with part.open("wb") as warc:
        warc.write(record("warcinfo", [("Content-Type", "application/warc-fields")], b"software: pages_to_warc.py\r\n"))
        for file in sorted(folder.rglob("*.html")):
            for written in page(url + file.relative_to(folder).as_posix(), file.read_bytes()):
                warc.write(written)
    part.rename(out)


if __name__ == "__main__":
    main()
