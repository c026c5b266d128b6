"""Put many small objects at once, list them page by page, get each and compare; print the figures as one JSON line.

Usage: s3_small.py HODEI DOORS.json [COUNT] [BYTES] [WRITERS]

Requests are signed here, over connections that stay open: a library's client would take more of the machine than what
is measured.
"""
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from datetime import datetime, timezone
from multiprocessing import get_context

PROCESSES = 4
UNSIGNED = "UNSIGNED-PAYLOAD"


def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Client:
    """One connection, and what signs its requests."""

    def __init__(self, endpoint, key_id, secret):
        self.host = urllib.parse.urlsplit(endpoint).netloc
        self.key_id, self.secret = key_id, secret
        self.connection = http.client.HTTPConnection(self.host, timeout=120)

    def ask(self, method, path, query="", body=b""):
        """Answer's status and body; a request that is told to come again does."""
        for _ in range(20):
            status, answer = self.once(method, path, query, body)
            if status != 503:
                break
            time.sleep(0.2)
        return status, answer

    def once(self, method, path, query, body):
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        path = urllib.parse.quote(path)
        headers = {"host": self.host, "x-amz-content-sha256": UNSIGNED, "x-amz-date": now}
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = "\n".join([method, path, query, lines, names, UNSIGNED])
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(request.encode()).hexdigest()])
        key = ("AWS4" + self.secret).encode()
        for step in (now[:8], "us-east-1", "s3", "aws4_request"):
            key = sign(key, step)
        signature = sign(key, text).hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key_id}/{scope}, SignedHeaders={names}, Signature={signature}")
        self.connection.request(method, path + (f"?{query}" if query else ""), body=body, headers=headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()


def body(at, size):
    """Bytes that follow from a number, so that the judge needs no copy of them."""
    return random.Random(at).randbytes(size)


def work(door, bucket, kind, numbers, size, threads, wrong):
    """One process's share, dealt to its threads."""
    def one(share):
        client = Client(*door)
        for at in share:
            path = f"/{bucket}/folder {at % 10}/{at:07}"
            if kind == "put":
                status, answer = client.ask("PUT", path, body=body(at, size))
                right = status == 200
            else:
                status, answer = client.ask("GET", path)
                right = status == 200 and answer == body(at, size)
            if not right:
                wrong.put(f"{kind} {path}: {status}, {len(answer)} bytes: {answer[:200]!r}")
                return

    running = [threading.Thread(target=one, args=(numbers[at::threads],)) for at in range(threads)]
    [thread.start() for thread in running]
    [thread.join() for thread in running]


def all_at_once(door, bucket, kind, count, size, writers):
    """Seconds it took; ends the program where anything is wrong."""
    context = get_context("fork")
    wrong, processes = context.Queue(), min(PROCESSES, writers)
    started = time.monotonic()
    shares = [context.Process(target=work, args=(door, bucket, kind, range(at, count, processes), size, writers // processes, wrong))
              for at in range(processes)]
    [share.start() for share in shares]
    [share.join() for share in shares]
    took = time.monotonic() - started
    if not wrong.empty() or any(share.exitcode for share in shares):
        sys.exit(f"not ok s3-small: {wrong.get() if not wrong.empty() else 'a process ended'}")
    return took


def listed(client, bucket, prefix="", delimiter=""):
    """Keys and prefixes of all pages, and how many pages."""
    keys, prefixes, token, pages = [], [], "", 0
    while True:
        query = {"list-type": "2", "prefix": prefix} | ({"delimiter": delimiter} if delimiter else {})
        query |= {"continuation-token": token} if token else {}
        query = "&".join(f"{name}={urllib.parse.quote(query[name], safe='')}" for name in sorted(query))
        status, answer = client.ask("GET", f"/{bucket}", query)
        if status != 200:
            sys.exit(f"not ok s3-small: a listing answered {status}: {answer[:300]!r}")
        text, pages = answer.decode(), pages + 1
        keys += re.findall("<Key>(.*?)</Key>", text)
        prefixes += re.findall("<CommonPrefixes><Prefix>(.*?)</Prefix>", text)
        token = (re.findall("<NextContinuationToken>(.*?)</NextContinuationToken>", text) or [""])[0]
        if not token:
            return keys, prefixes, pages


def held(hodei, bucket):
    """Bytes that the bucket's deals hold, once they have been posted."""
    last, same = None, 0
    while same < 3:
        lines = subprocess.run([hodei, "data", "list", "--json"], capture_output=True, text=True, check=True).stdout
        now = [bucket_ for line in lines.splitlines() if (bucket_ := json.loads(line)).get("bucket") == bucket][0]["held_bytes"]
        same = same + 1 if now == last else 0
        last = now
        time.sleep(2)
    return last


def main():
    hodei, doors = sys.argv[1], json.loads(pathlib.Path(sys.argv[2]).read_text())["s3"]
    count, size, writers = (int(sys.argv[at]) if len(sys.argv) > at else other for at, other in ((3, 5000), (4, 1024), (5, 64)))
    door = (doors["endpoint"], doors["access_key_id"], doors["secret_access_key"])
    client, bucket = Client(*door), "small-" + os.urandom(4).hex()
    status, answer = client.ask("PUT", f"/{bucket}")
    if status != 200:
        sys.exit(f"not ok s3-small: the bucket: {status} {answer!r}")
    put = all_at_once(door, bucket, "put", count, size, writers)
    # The first connection lay idle meanwhile, and a door closes such.
    client = Client(*door)
    started = time.monotonic()
    keys, _, pages = listed(client, bucket)
    listing = time.monotonic() - started
    if sorted(keys) != sorted(f"folder {at % 10}/{at:07}" for at in range(count)):
        sys.exit(f"not ok s3-small: {len(keys)} keys are listed of {count}, or others")
    _, prefixes, deep = listed(client, bucket, delimiter="/")
    if prefixes != [f"folder {at}/" for at in range(min(10, count))] or deep != 1:
        sys.exit(f"not ok s3-small: folders {prefixes} on {deep} pages")
    got = all_at_once(door, bucket, "get", count, size, writers)
    print(json.dumps({
        "count": count, "bytes": size, "writers": writers, "puts_per_second": round(count / put, 1),
        "gets_per_second": round(count / got, 1), "list_seconds": round(listing, 3), "pages": pages,
        "held_bytes_per_object": held(hodei, bucket) // count,
    }))


if __name__ == "__main__":
    main()
