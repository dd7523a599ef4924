"""What warcio finds in web archives, as JSON lines. usage: warc_records.py FILE..."""

import hashlib
import json
import os
import sys

from warcio.archiveiterator import ArchiveIterator

for path in sys.argv[1:]:
    name, problem = os.path.basename(path), None
    with open(path, "rb") as file:
        try:
            for record in ArchiveIterator(file, check_digests=True):
                status = record.http_headers and record.http_headers.get_statuscode()
                payload = record.content_stream().read()
                found = {
                    "file": name,
                    "type": record.rec_type,
                    "url": record.rec_headers.get_header("WARC-Target-URI") or record.rec_headers.get_header("uri"),
                    "status": int(status) if status and status.isdigit() else None,
                    "digest": record.rec_headers.get_header("WARC-Payload-Digest"),
                    "passed": record.digest_checker.passed,
                    "sha1": hashlib.sha1(payload).hexdigest(),
                }
                print(json.dumps(found))
        except Exception as error:  # what it says of a file that it gives up
            problem = type(error).__name__
    if problem:
        print(json.dumps({"file": name, "problem": problem}))
