"""Write one bucket through two doors and a command at once, break them and a provider, and compare with what was told.

Usage: s3_fence.py HODEI DOORS.json [COUNT] [SEED]

Whoever is answered with success finds it until something later replaces it; what was refused is not there; of what
nobody answered either may be. Counters that all of them raise, each only from what it read, add up.
"""
import contextlib
import itertools
import json
import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from s3_kill import JUDGE, Gateway, body, digest, quiet

LANES, KEYS, COUNTERS, PROVIDER = 3, 3, 2, 1
# A writer holds a bucket for 60 blocks.
TERM_BLOCKS = 70


def client(endpoint, keys):
    # Without a second try of its own: what it is told is of what it asked once.
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=90, connect_timeout=5)
    return boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=keys[0], aws_secret_access_key=keys[1],
                        region_name="us-east-1", config=config)


class Tale:
    """What was begun, in order, and how it ended."""

    def __init__(self):
        self.lock, self.clock, self.numbers = threading.Lock(), itertools.count(1), itertools.count(1)
        self.deeds = []

    def begin(self, key, holds):
        with self.lock:
            self.deeds.append({"key": key, "holds": holds, "begun": next(self.clock), "ended": None, "fate": "unknown"})
            return self.deeds[-1]

    def end(self, deed, fate):
        with self.lock:
            deed["fate"] = fate
            if fate != "unknown":
                deed["ended"] = next(self.clock)

    def count(self, fate):
        return sum(deed["fate"] == fate for deed in self.deeds)

    def judge(self, found):
        """What is wrong with a bucket that holds `found`, digests by key."""
        keys = {}
        for deed in self.deeds:
            keys.setdefault(deed["key"], []).append(deed)
        wrong = [f"{key} is there, and nobody put it" for key in found.keys() - keys.keys() - {JUDGE}]
        for key, deeds in keys.items():
            done = [deed for deed in deeds if deed["fate"] == "done"]

            def overtaken(deed):
                return deed["ended"] is not None and any(other["begun"] > deed["ended"] for other in done)

            may = {deed["holds"] for deed in deeds if deed["fate"] != "refused" and not overtaken(deed)}
            if not done:
                may.add(None)
            if found.get(key) not in may:
                of = [deed for deed in deeds if deed["holds"] == found.get(key)]
                wrong.append(f"{key} holds {found.get(key)} ({of}); it may hold {sorted(map(str, may))}")
            if key.startswith("once/") and len(done) > 1:
                wrong.append(f"{key} was made {len(done)} times")
        return wrong

    def judge_counter(self, key, listed):
        wrong = []
        if len(set(listed)) != len(listed):
            wrong.append(f"{key} counts something twice")
        for deed in self.deeds:
            if deed["key"] != key:
                continue
            if deed["fate"] == "done" and deed["number"] not in listed:
                wrong.append(f"{key} lost {deed}")
            if deed["fate"] == "refused" and deed["number"] in listed:
                wrong.append(f"{key} counts the refused {deed}")
        return wrong


class Lane(threading.Thread):
    """One client, one request after the other, until told to rest or to end."""

    def __init__(self, run, name, seed):
        super().__init__(daemon=True)
        self.run_of, self.name, self.dice, self.is_idle = run, name, random.Random(seed), threading.Event()

    def run(self):
        while not self.run_of.is_over:
            if self.run_of.is_resting:
                self.is_idle.set()
                time.sleep(0.05)
                continue
            self.is_idle.clear()
            self.act()
        self.is_idle.set()

    def told(self, deed, request):
        """Ends a deed by what was answered."""
        try:
            request()
            self.run_of.tale.end(deed, "done")
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            self.run_of.tale.end(deed, "refused" if 400 <= status < 500 else "unknown")
            if status >= 500:
                time.sleep(0.2)
        except BotoCoreError:
            # The door is gone, or went away in the middle.
            self.run_of.tale.end(deed, "unknown")
            time.sleep(0.2)


class Door(Lane):
    """Asks one door."""

    def __init__(self, run, name, seed, endpoint):
        super().__init__(run, name, seed)
        self.s3 = client(endpoint, run.keys)

    def act(self):
        dice, tale, bucket, s3 = self.dice, self.run_of.tale, self.run_of.bucket, self.s3
        kind, number = dice.choice(["own"] * 4 + ["remove"] + ["all"] * 2 + ["count"] * 4 + ["once"]), dice.randrange(1 << 60)
        data = body(number, dice.randrange(400_000, 2_000_000) if dice.random() < 0.1 else dice.randrange(1, 5000))
        if kind == "own":
            key = f"own/{self.name}/{dice.randrange(KEYS)}"
            self.told(tale.begin(key, digest(data)), lambda: s3.put_object(Bucket=bucket, Key=key, Body=data))
        elif kind == "remove":
            key = f"own/{self.name}/{dice.randrange(KEYS)}"
            self.told(tale.begin(key, None), lambda: s3.delete_object(Bucket=bucket, Key=key))
        elif kind == "all":
            key = f"all/{dice.randrange(KEYS)}"
            self.told(tale.begin(key, digest(data)), lambda: s3.put_object(Bucket=bucket, Key=key, Body=data))
        elif kind == "once":
            key = f"once/{dice.randrange(40)}"
            self.told(tale.begin(key, digest(data)),
                      lambda: s3.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*"))
        else:
            self.count()

    def count(self):
        key, bucket = f"count/{self.dice.randrange(COUNTERS)}", self.run_of.bucket
        try:
            got = self.s3.get_object(Bucket=bucket, Key=key)
            before, condition = got["Body"].read(), {"IfMatch": got["ETag"]}
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                return
            before, condition = b"", {"IfNoneMatch": "*"}
        except Exception:
            # Cut off in the middle of an answer.
            return
        number = f"{self.name}/{self.dice.randrange(1 << 60)}"
        data = before + number.encode() + b"\n"
        deed = self.run_of.tale.begin(key, digest(data))
        deed["number"] = number
        self.told(deed, lambda: self.s3.put_object(Bucket=bucket, Key=key, Body=data, **condition))


class Command(Lane):
    """Copies files with the command, and kills it now and then."""

    kills = 0
    process = None

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def act(self):
        run, dice = self.run_of, self.dice
        key, data = f"own/{self.name}/{dice.randrange(KEYS)}", body(dice.randrange(1 << 60), dice.randrange(1, 200_000))
        path = run.scratch / f"{self.name}.bin"
        path.write_bytes(data)
        deed = run.tale.begin(key, digest(data))
        self.process = process = subprocess.Popen([run.hodei, "data", "cp", str(path), f"hodei://{run.bucket}/{key}", "--json"],
                                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            code = process.wait(dice.uniform(0.05, 2.5) if dice.random() < 0.5 else 120)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
            Command.kills += 1
        run.tale.end(deed, "done" if code == 0 else "unknown")
        time.sleep(dice.uniform(0, 1))


class Provider:
    """One of the demo's providers, whose folder is put back."""

    def __init__(self, hodei, folder, scratch):
        self.hodei, self.folder, self.scratch, self.child = hodei, folder, scratch, None
        self.images, self.key, self.demo = [], None, None
        # What its folder is to be again if it is left in the middle of a change.
        self.whole = None

    def off(self):
        ready = json.loads((self.folder / "ready.json").read_text())
        self.key = ready["node"]
        if self.demo is None:
            # The demo started it: the fourth word, of which the second ends in a parenthesis.
            self.demo = int(pathlib.Path(f"/proc/{ready['process']}/stat").read_text().rsplit(")", 1)[1].split()[1])
        os.kill(ready["process"], signal.SIGKILL)
        if self.child:
            self.child.wait()
        while pathlib.Path(f"/proc/{ready['process']}/cmdline").exists() and pathlib.Path(f"/proc/{ready['process']}/cmdline").read_bytes():
            time.sleep(0.02)
        (self.folder / "ready.json").unlink()

    def leave(self):
        """Leaves it running for as long as the demo does, as it was found, wherever this run was broken off."""
        if self.demo is None:
            return
        if self.child:
            with contextlib.suppress(OSError):
                self.child.stdin.close()
            try:
                self.child.wait(60)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        if self.whole:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.copytree(self.whole, self.folder)
        (self.folder / "ready.json").unlink(missing_ok=True)
        node = shlex.join([str(self.hodei), "node", "run", "--workers", "1", "--until-stdin-closes", "--folder", str(self.folder)])
        lasting = f"while kill -0 {self.demo} 2>/dev/null; do sleep 1; done | {node}"
        last = subprocess.Popen(["sh", "-c", lasting], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, start_new_session=True)
        for _ in range(600):
            if (self.folder / "ready.json").exists():
                return
            if last.poll() is not None:
                break
            time.sleep(0.1)
        # What does not come up is not left behind either: a session of its own, which this run began.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(last.pid, signal.SIGKILL)
        last.wait()
        raise RuntimeError("the provider did not come back for what runs after this")

    def on(self):
        with open(self.scratch / "provider.log", "ab") as messages:
            self.child = subprocess.Popen([self.hodei, "node", "run", "--workers", "1", "--until-stdin-closes", "--folder", str(self.folder)],
                                          stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=messages)
        for _ in range(600):
            if (self.folder / "ready.json").exists():
                return
            if self.child.poll() is not None:
                sys.exit(f"not ok s3-fence: the provider ended: {(self.scratch / 'provider.log').read_text()[-1500:]}")
            time.sleep(0.1)
        sys.exit("not ok s3-fence: the provider is not back within 60 s")

    def keep(self):
        """Keeps a copy of what is on its disk; it must be off."""
        image = self.scratch / f"image-{len(self.images)}"
        shutil.copytree(self.folder, image)
        self.images.append(image)

    def forget(self, dice):
        self.off()
        image = dice.choice(self.images)
        self.keep()
        self.whole = self.images[-1]
        shutil.rmtree(self.folder)
        shutil.copytree(image, self.folder)
        self.whole = None
        self.on()


class Run:
    """The bucket, who writes it, and what became of it."""

    def __init__(self, hodei, doors, scratch):
        self.hodei, self.scratch, self.tale = hodei, scratch, Tale()
        self.keys = (doors["s3"]["access_key_id"], doors["s3"]["secret_access_key"])
        self.rpc, self.bucket = doors.get("rpc"), "fence-" + os.urandom(4).hex()
        self.is_resting, self.is_over = False, False
        self.gateways, self.lanes = [], []

    def start(self, seed):
        for number in range(2):
            folder = self.scratch / f"door-{number}"
            folder.mkdir()
            # Known before it runs, so that it ends with this run even if it does not come up.
            gateway = Gateway(self.hodei, folder)
            self.gateways.append(gateway)
            gateway.start(client(gateway.endpoint, self.keys))
        client(self.gateways[0].endpoint, self.keys).create_bucket(Bucket=self.bucket)
        self.lanes = [Door(self, f"{number}-{lane}", f"{seed}/{number}/{lane}", gateway.endpoint)
                      for number, gateway in enumerate(self.gateways) for lane in range(LANES)]
        self.lanes.append(Command(self, "command", f"{seed}/command"))
        for lane in self.lanes:
            lane.start()

    def end(self):
        """Ends all that was started, the doors first: whoever waits for them is answered by that."""
        self.is_over = True
        for gateway in self.gateways:
            if gateway.process and gateway.process.poll() is None:
                gateway.process.send_signal(signal.SIGCONT)
                gateway.kill()
        for lane in self.lanes:
            if isinstance(lane, Command):
                lane.end()
        for lane in self.lanes:
            if lane.ident:
                lane.join(30)
            # One that began another meanwhile.
            if isinstance(lane, Command):
                lane.end()

    def height(self):
        question = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}).encode()
        asked = urllib.request.Request(self.rpc, question, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return int(json.load(answer)["result"], 16)

    def judge(self):
        """Lets everybody come to rest, and compares."""
        self.is_resting = True
        for lane in self.lanes:
            if not lane.is_idle.wait(150):
                return [f"lane {lane.name} waits for an answer that does not come"]
        s3, wrong, found = client(self.gateways[0].endpoint, self.keys), [], {}
        quiet(s3, self.bucket)
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        for one in [one for page in pages for one in page.get("Contents", [])]:
            try:
                got = s3.get_object(Bucket=self.bucket, Key=one["Key"])
                data = got["Body"].read()
            except Exception as error:
                wrong.append(f"{one['Key']} is listed, and cannot be read: {error}")
                continue
            found[one["Key"]] = digest(data)
            if len(data) != one["Size"] or got["ETag"] != one["ETag"]:
                wrong.append(f"{one['Key']} is listed with {one['Size']} bytes, and has {len(data)}")
            if one["Key"].startswith("count/"):
                wrong += self.tale.judge_counter(one["Key"], data.decode().split())
        wrong += self.tale.judge(found)
        self.is_resting = False
        for lane in self.lanes:
            lane.is_idle.clear()
        return wrong


def main():
    hodei, doors = os.path.abspath(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 36
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 30)
    dice, wrong, begun = random.Random(seed), [], time.monotonic()
    blows = {"kill": 0, "stop": 0, "stop beyond the term": 0, "forget": 0}
    # Told to end, it ends as after any failure: by what is stacked below.
    for told in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(told, lambda number, _: sys.exit(128 + number))
    with contextlib.ExitStack() as ends:
        scratch = pathlib.Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="hodei-s3-fence.")))
        provider = Provider(hodei, pathlib.Path(doors["folder"]) / f"provider-{PROVIDER}", scratch)
        ends.callback(provider.leave)
        run = Run(hodei, doors, scratch)
        ends.callback(run.end)
        run.start(seed)
        time.sleep(3)
        provider.off()
        provider.keep()
        provider.on()
        deck = (["kill"] * 9 + ["stop"] * 4 + ["stop beyond the term"] * 2 + ["forget"] * 3) * (count // 18 + 1)
        deck = deck[:count]
        dice.shuffle(deck)
        for at, blow in enumerate(deck):
            time.sleep(dice.uniform(0.1, 2.5))
            blows[blow] += 1
            print(f"blow {at}: {blow}, {run.tale.count('done')} acknowledged so far", file=sys.stderr, flush=True)
            gateway = dice.choice(run.gateways)
            if blow == "kill":
                gateway.kill()
                time.sleep(dice.uniform(0, 1))
                gateway.start(client(gateway.endpoint, run.keys))
            elif blow == "forget":
                provider.forget(dice)
            else:
                gateway.process.send_signal(signal.SIGSTOP)
                if blow == "stop":
                    time.sleep(dice.uniform(0.3, 3))
                else:
                    until = run.height() + TERM_BLOCKS
                    deadline = time.monotonic() + 75
                    while run.height() < until and time.monotonic() < deadline:
                        time.sleep(0.2)
                gateway.process.send_signal(signal.SIGCONT)
            if at % 12 == 11 or at + 1 == len(deck):
                found = run.judge()
                for line in found:
                    print(f"    after blow {at}, a {blow}: {line}", flush=True)
                wrong += found
        tale = run.tale
    told = ", ".join(f"{times} × {blow}" for blow, times in blows.items())
    name = (f"s3-fence: {told}, {Command.kills} commands killed in {time.monotonic() - begun:.0f} s; {tale.count('done')} acknowledged, "
            f"{tale.count('refused')} refused, {tale.count('unknown')} unanswered (seed {seed})")
    if tale.count("done") < 3 * count:
        wrong.append("too little was written")
    print(f"not ok {name}: {len(wrong)} wrong {wrong[:3]}" if wrong else f"ok {name}: none lost, none too many, every counter adds up")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
