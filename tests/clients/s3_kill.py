"""Write through a gateway, kill it or the writer at a random moment, and compare what is there with what was told.

Usage: s3_kill.py HODEI DOORS.json [COUNT] [SEED]
       s3_kill.py --write ENDPOINT KEY_ID SECRET BUCKET JOURNAL SEED      the writer, a process of its own

The writer tells in its journal what it begins before it begins it, and what was acknowledged after. Whatever dies, a key
then holds what was acknowledged last, or what was begun after that and not answered: whole, one or the other.
"""
import hashlib
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

WRITERS, KEYS = 3, 4
PART = 5 << 20
# The key of the judge's own changes.
JUDGE = "judge"


def client(endpoint, key_id, secret):
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, read_timeout=60, connect_timeout=5)
    return boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key_id, aws_secret_access_key=secret,
                        region_name="us-east-1", config=config)


def body(seed, size):
    """Bytes that follow from a number, so that the judge needs no copy of them."""
    return random.Random(seed).randbytes(size)


def digest(data):
    return hashlib.sha256(data).hexdigest()[:24]


def write(endpoint, key_id, secret, bucket, journal, seed):
    """Puts, overwrites, copies, uploads in parts and removes until it is killed or its gateway is gone."""
    out = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    lock = threading.Lock()

    def tell(**line):
        with lock:
            os.write(out, (json.dumps(line) + "\n").encode())

    def one(writer):
        s3, dice = client(endpoint, key_id, secret), random.Random(f"{seed}/{writer}")
        while True:
            key = f"writer {writer}/key {dice.randrange(KEYS)}"
            number, kind = dice.randrange(1 << 60), dice.choice(["small", "small", "middle", "parts", "remove", "removes"])
            size = {"small": dice.randrange(1, 5000), "middle": dice.randrange(100_000, 3_000_000), "parts": PART + dice.randrange(1, 1000)}.get(kind)
            data = body(number, size) if size else None
            tell(begun=number, key=key, holds=digest(data) if size else None)
            if kind == "parts":
                upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
                tags = [s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=at, Body=part)["ETag"]
                        for at, part in ((1, data[:PART]), (2, data[PART:]))]
                s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={
                    "Parts": [{"PartNumber": at + 1, "ETag": tag} for at, tag in enumerate(tags)]})
            elif size:
                s3.put_object(Bucket=bucket, Key=key, Body=data)
            elif kind == "remove":
                s3.delete_object(Bucket=bucket, Key=key)
            else:
                answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]})
                if "Errors" in answer:
                    return
            tell(done=number)

    def guarded(writer):
        try:
            one(writer)
        except (ClientError, BotoCoreError) as error:
            # The gateway is gone, or said that it could not: that was begun, and was not acknowledged.
            print(f"writer {writer}: {error}", file=sys.stderr)

    threads = [threading.Thread(target=guarded, args=(writer,)) for writer in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Told:
    """What each key may hold by what the writers told."""

    def __init__(self):
        self.may = {}
        self.acknowledged = 0
        # Of each key, so that what is wrong can be understood: the round, what was told, and of what.
        self.history = {}

    def read(self, journal, at):
        """Takes the journal of a round's writer in; its last line may be torn."""
        begun = {}
        for line in journal.read_text().split("\n"):
            try:
                line = json.loads(line)
            except ValueError:
                continue
            if "begun" in line:
                begun[line["begun"]] = line
                self.history.setdefault(line["key"], []).append((at, "begun", line["holds"]))
                # It may happen from now on, on top of all that may be there already.
                self.may.setdefault(line["key"], {None}).add(line["holds"])
            else:
                told = begun[line["done"]]
                self.history[told["key"]].append((at, "done", told["holds"]))
                self.may[told["key"]] = {told["holds"]}
                self.acknowledged += 1

    def judge(self, s3, bucket):
        """What is wrong with the bucket; settles what each key holds now."""
        wrong = []
        listed = {one["Key"]: one for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket) for one in page.get("Contents", [])}
        listed.pop(JUDGE, None)
        for key in sorted(listed.keys() - self.may.keys()):
            wrong.append(f"{key} is listed, and nobody put it")
        for key, may in self.may.items():
            found = None
            if key in listed:
                got = s3.get_object(Bucket=bucket, Key=key)
                data = got["Body"].read()
                found = digest(data)
                if len(data) != listed[key]["Size"] or got["ETag"] != listed[key]["ETag"]:
                    wrong.append(f"{key} is listed with {listed[key]['Size']} bytes, and has {len(data)}")
            else:
                try:
                    s3.head_object(Bucket=bucket, Key=key)
                    wrong.append(f"{key} is not listed, and is there")
                except ClientError as error:
                    if error.response["Error"]["Code"] != "404":
                        raise
            if found not in may:
                lost = "is gone" if found is None else f"holds {found}"
                wrong.append(f"{key} {lost}; it may hold {sorted(map(str, may))}; its history {self.history[key][-12:]}")
            self.history.setdefault(key, []).append(("judged", found))
            self.may[key] = {found}
        return wrong


class Gateway:
    """A gateway of its own, that can be killed."""

    def __init__(self, hodei, scratch):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.hodei, self.scratch, self.process = hodei, scratch, None
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def start(self, s3):
        messages = open(self.scratch / "gateway.log", "ab")
        self.process = subprocess.Popen([self.hodei, "s3", "serve", "--listen", f"127.0.0.1:{self.port}"], stdout=messages, stderr=messages)
        for _ in range(600):
            try:
                s3.list_buckets()
                return
            except (ClientError, BotoCoreError) as error:
                if self.process.poll() is not None:
                    sys.exit(f"not ok s3-kill: the gateway ended: {(self.scratch / 'gateway.log').read_text()[-1500:]}")
                last = error
                time.sleep(0.1)
        sys.exit(f"not ok s3-kill: no answer of the gateway within 60 s: {last}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def main():
    hodei, doors = os.path.abspath(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())["s3"]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 24
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 30)
    dice, keys = random.Random(seed), (doors["access_key_id"], doors["secret_access_key"])
    wrong = []
    with tempfile.TemporaryDirectory(prefix="hodei-s3-kill.") as scratch:
        scratch = pathlib.Path(scratch)
        gateway = Gateway(hodei, scratch)
        s3, told, bucket = client(gateway.endpoint, *keys), Told(), "kill-" + os.urandom(4).hex()
        gateway.start(s3)
        s3.create_bucket(Bucket=bucket)
        kills = {"gateway": 0, "client": 0}
        for at in range(count):
            journal = scratch / f"journal-{at}"
            writer = subprocess.Popen([sys.executable, __file__, "--write", gateway.endpoint, *keys, bucket, str(journal), f"{seed}/{at}"],
                                      stderr=subprocess.DEVNULL)
            while not journal.exists():
                time.sleep(0.02)
            time.sleep(dice.uniform(0.05, 4.0))
            victim = dice.choice(["gateway", "client"])
            kills[victim] += 1
            if victim == "gateway":
                gateway.kill()
                # What it was asked is not answered any more: only then are the writers' words final.
                try:
                    writer.wait(90)
                except subprocess.TimeoutExpired:
                    writer.kill()
                    writer.wait()
                gateway.start(s3)
            else:
                writer.kill()
                writer.wait()
            told.read(journal, f"{at} {victim}")
            # What a killed client began may still be under way at the gateway: it ends or is given up, then it stands.
            quiet(s3, bucket)
            found = told.judge(s3, bucket)
            for line in found:
                print(f"    kill {at} of the {victim}: {line}", flush=True)
            wrong += found
        gateway.kill()
    name = f"s3-kill: {kills['gateway']} kills of the gateway and {kills['client']} of clients, {told.acknowledged} acknowledged changes (seed {seed})"
    print(f"not ok {name}: {len(wrong)} wrong" if wrong else f"ok {name}: none lost, nothing half visible")
    sys.exit(bool(wrong))


def quiet(s3, bucket):
    """Waits until the listing stands still for two seconds, behind a change of our own: a bucket's changes are made in turn,
    so that none which had its turn when its client was killed is still to come, however busy the machine is."""
    for left in reversed(range(60)):
        try:
            s3.put_object(Bucket=bucket, Key=JUDGE, Body=b"")
            break
        except (ClientError, BotoCoreError):
            # Somebody that was stopped may hold the bucket for a while.
            if left == 0:
                raise
            time.sleep(1)
    last, since = None, time.monotonic()
    while time.monotonic() - since < 2:
        now = [(one["Key"], one["ETag"]) for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.2)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(*sys.argv[2:])
    else:
        main()
