"""Set a budget while two doors are open, and see who pays; read a door's access log.

Usage: s3_budget.py HODEI DOORS.json
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = "budgeted"


class Broken(Exception):
    pass


def ok(what, is_so, told=""):
    if not is_so:
        print(f"not ok s3 {what}", told, flush=True)
        raise Broken(what)
    print(f"ok s3 {what}", flush=True)


def main():
    hodei, doors = sys.argv[1], json.load(open(sys.argv[2]))
    told = doors["s3"]

    def run(*words):
        done = subprocess.run([hodei, *words, "--json"], capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return done.returncode, lines, done.stderr

    def client(endpoint, key=told["access_key_id"], secret=told["secret_access_key"]):
        config = Config(s3={"addressing_style": "path"}, signature_version="s3v4", retries={"max_attempts": 8}, read_timeout=120)
        return boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=key,
                            aws_secret_access_key=secret, region_name="us-east-1", config=config)

    def patiently(put):
        """A bucket may be another account's for some blocks."""
        for _ in range(30):
            try:
                return put()
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 503:
                    raise
                time.sleep(1)
        raise Broken("the bucket stays another account's")

    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "access.log"
        door = subprocess.Popen([hodei, "s3", "serve", "--listen", "127.0.0.1:0", "--access-log", log, "--json",
                                 "--until-stdin-closes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            ready = json.loads(door.stdout.readline())
            first, second = client(told["endpoint"]), client(ready["endpoint"])
            first.create_bucket(Bucket=BUCKET)
            first.put_object(Bucket=BUCKET, Key="before", Body=b"of the main account")
            code, _, said = run("wallet", "budget", "set", "20", "-y")
            ok("a budget is set while doors are open", code == 0, said)
            file = pathlib.Path(folder) / "file"
            file.write_bytes(b"of the budget")
            for _ in range(20):
                code, _, said = run("data", "cp", str(file), f"hodei://{BUCKET}/file")
                if code != 5:
                    break
                time.sleep(1)
            ok("the command line writes from it soon after", code == 0, said)
            time.sleep(2)

            def paid():
                """Fees of the main account in blocks after the doors had time to look."""
                account = doors["wallet"]["address"].lower()
                _, lines, _ = run("wallet", "history", "--last", "1000")
                return [line for line in lines if line.get("height", 0) > since and line["account"].lower() == account
                        and int(line["fee_wei"])]

            since = run("status")[1][0]["height"]
            left = lambda: int(run("wallet", "budget", "show")[1][0]["left_wei"])
            had = left()
            for name, s3 in (("the demo's door", first), ("a door of its own", second)):
                for at in range(3):
                    patiently(lambda: s3.put_object(Bucket=BUCKET, Key=f"{name} {at}", Body=b"x" * 2000))
                ok(f"{name} goes on", s3.get_object(Bucket=BUCKET, Key=f"{name} 2")["Body"].read() == b"x" * 2000)
            ok("what doors do is paid from the budget", left() < had)
            ok("and the main account pays none of it", not paid(), paid())
            code, _, said = run("wallet", "budget", "set", "0", "-y")
            ok("the budget is taken back", code == 0, said)

            def refused(act):
                """The status and code of a refusal; a bucket may still be another account's for some blocks."""
                try:
                    patiently(act)
                except ClientError as error:
                    return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
                return None

            final = (403, "QuotaExceeded")
            for name, s3 in (("the demo's door", first), ("a door of its own", second)):
                found = refused(lambda: s3.put_object(Bucket=BUCKET, Key="too much", Body=b"x"))
                ok(f"{name} puts nothing more, and says so for good", found == final, found)
                found = refused(lambda: s3.create_bucket(Bucket=f"{BUCKET}-more"))
                ok(f"{name} makes no bucket, and says so for good", found == final, found)
                found = refused(lambda: s3.delete_object(Bucket=BUCKET, Key="before"))
                ok(f"{name} removes nothing, and says so for good", found == final, found)
                gone = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "before"}]})
                ok(f"{name} removes none of many either", [one["Code"] for one in gone.get("Errors", [])] == ["QuotaExceeded"], gone)
                ok(f"{name} still reads", s3.get_object(Bucket=BUCKET, Key="before")["Body"].read() == b"of the main account")
            _, lines, _ = run("status")
            status = lines[0]
            ok("status says that the budget is used up", any("budget is used up" in line for line in status["attention"]), status)
            bucket = next(bucket for bucket in status["buckets"] if bucket["bucket"] == BUCKET)
            ok("and until when what is there is paid", bucket["paid_until_ms"] > time.time() * 1000, bucket)
            code, _, said = run("wallet", "budget", "set", "0.0001", "-y")
            ok("a budget below what one change asks for", code == 0, said)
            attention = run("status")[1][0]["attention"]
            ok("is as good as used up, by status", any("budget is used up" in line for line in attention), attention)
            found = refused(lambda: second.put_object(Bucket=BUCKET, Key="too much", Body=b"x"))
            ok("and by a door", found == final, found)
            code, _, said = run("wallet", "budget", "set", "20", "-y")
            ok("a new budget", code == 0, said)
            patiently(lambda: second.put_object(Bucket=BUCKET, Key="again", Body=b"again"))
            ok("and its doors go on", first.get_object(Bucket=BUCKET, Key="again")["Body"].read() == b"again")
            patiently(lambda: first.delete_object(Bucket=BUCKET, Key="before"))
            keys = [one["Key"] for one in second.list_objects_v2(Bucket=BUCKET)["Contents"]]
            ok("what could not be removed is removed", "before" not in keys and "again" in keys, keys)

            code, lines, said = run("s3", "key", "add", "demo")
            ok("the demo's own user gets another key", code == 0, said)
            again = client(ready["endpoint"], lines[0]["access_key_id"], lines[0]["secret_access_key"])
            ok("which sees the same buckets", BUCKET in [one["Name"] for one in again.list_buckets()["Buckets"]])

            code, lines, said = run("s3", "key", "add", "guest", "--quota-bytes", "1000", "--quota-objects", "3")
            ok("a user with a quota gets a key", code == 0, said)
            key = lines[0]["access_key_id"]
            guest = client(told["endpoint"], key, lines[0]["secret_access_key"])
            patiently(lambda: guest.create_bucket(Bucket=f"{BUCKET}-guest"))
            patiently(lambda: guest.put_object(Bucket=f"{BUCKET}-guest", Key="counted", Body=b"x" * 700))
            found = refused(lambda: guest.put_object(Bucket=f"{BUCKET}-guest", Key="more", Body=b"x" * 301))
            ok("what is beyond a quota is refused as what is beyond a budget", found == final, found)

            def row(*words):
                code, lines, said = run("s3", "key", "list", *words)
                return next((line for line in lines if line["access_key_id"] == key), said)

            listed = row()
            ok("a key's quota is listed", (listed["quota_bytes"], listed["quota_objects"]) == (1000, 3) and "held_bytes" not in listed, listed)
            listed = row("--held")
            ok("and what its user holds of it", (listed["held_bytes"], listed["held_objects"], listed["quota_bytes"]) == (700, 1, 1000), listed)

            link = second.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "again"}, ExpiresIn=60)
            urllib.request.urlopen(link).read()
            lines = []
            for _ in range(50):
                lines = [json.loads(line) for line in log.read_text().splitlines()]
                if any(line["query"] == [] and line["method"] == "GET" and line["path"].endswith("/again") for line in lines):
                    break
                time.sleep(0.1)
            puts = [line for line in lines if line["method"] == "PUT" and line["path"].endswith("/again") and line["status"] == 200]
            ok("the access log tells a put, by whose key", [line["key"] for line in puts] == [told["access_key_id"]], lines[-5:])
            got = [line for line in lines if line["method"] == "GET" and line["path"].endswith("/again")]
            ok("and what a link's bearer got", got and got[-1]["sent"] == 5 and got[-1]["key"] == told["access_key_id"], got)
            ok("and no signature", "Signature" not in log.read_text())
            ok("and is its owner's alone", log.stat().st_mode & 0o077 == 0)
        finally:
            door.stdin.close()
            door.wait(60)


try:
    main()
except Broken:
    sys.exit(1)
