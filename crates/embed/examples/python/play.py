"""Play an app whose devices join a pool, on a network that runs: store, serve, die, earn, redeem, leave.

Usage: play.py HODEI DOORS.json BINDINGS [SEED]

HODEI is the binary, DOORS.json what its `demo --keep --json` printed, whose context the publisher uses. Devices are killed
at points of puts that the seed draws. While it reads what they kept it stops most of the demo's providers for a moment.
"""
import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HODEI, DOORS, BINDINGS = sys.argv[1], json.load(open(sys.argv[2])), sys.argv[3]
SEED = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 30)
HERE = pathlib.Path(__file__).parent
POOL, BUCKET = f"app-{os.getpid()}", f"kept-{os.getpid()}"
# A bucket asks each of its providers for half a gibibyte of room; what is not written takes no disk.
MIB = 2048
MEMORY_KIB_MAX = 128 << 10
# Windows are ten seconds here, and pay comes after seven of them.
PATIENCE_S = 600
# Of the bucket's eight shards any four suffice; the demo's six providers and both devices keep one each.
K, PROVIDERS, KILLS = 4, 6, 3
# Of a whole stripe's shard at each; a put that is fed without end would take all the bucket's room.
SHARD_BYTES, FED_MIB_MAX = 256 << 10, 48
failed = []


def check(name, is_so, why=""):
    print(f"{'ok' if is_so else 'not ok'} {name}{'' if is_so else f': {why}'}", flush=True)
    if not is_so:
        failed.append(name)
    return is_so


def hodei(*words, fails=False):
    """Runs a command; its JSON lines, or its error."""
    ran = subprocess.run([HODEI, "-C", DOORS["context"], *words, "--json"], capture_output=True, text=True, timeout=PATIENCE_S)
    if fails:
        return json.loads(ran.stderr.strip().splitlines()[-1])["error"] if ran.returncode else None
    if ran.returncode:
        raise RuntimeError(f"hodei {' '.join(words)}: {ran.stderr.strip()[-600:]}")
    return [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]


def until(what, look, patience=PATIENCE_S):
    """Waits for something to become true, however slow the machine."""
    end, seen = time.monotonic() + patience, None
    while time.monotonic() < end:
        seen = look()
        if seen:
            return seen
        time.sleep(1)
    raise RuntimeError(f"{what}: not within {patience} s, last seen {seen}")


class App:
    """A device's app, a process of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.begin()

    def begin(self):
        self.process = subprocess.Popen([sys.executable, str(HERE / "app.py"), BINDINGS, str(self.folder)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, do, **wish):
        self.process.stdin.write(json.dumps({"do": do, **wish}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the app of {self.folder.name} ended")
        return json.loads(line)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def peak_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def run_pool():
    process = subprocess.Popen([HODEI, "-C", DOORS["context"], "pool", "run", POOL, "--json", "--until-stdin-closes"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ready = json.loads(process.stdout.readline() or "{}")
    if ready.get("schema") != "hodei.pool.ready/1":
        raise RuntimeError("the pool did not start")
    return process


class Relay:
    """A node of the network that offers nothing, and passes on what is sent to those whom nobody reaches."""

    def __init__(self, work):
        home = work / "relay"
        home.mkdir()
        env = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "HODEI_"))}
        env["HOME"] = str(home)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.at = f"127.0.0.1:{free.getsockname()[1]}"
        ticket = hodei("net", "invite", "--coins", "10", "-y")[0]["ticket"]
        join = [HODEI, "net", "join", ticket, "--context-name", "relay", "--provide", "1", "--relay-for-others", self.at, "--json"]
        joined = subprocess.run(join, capture_output=True, text=True, timeout=300, env=env)
        if joined.returncode:
            raise RuntimeError(f"the relay did not join: {joined.stderr.strip()[-600:]}")
        folder = pathlib.Path(json.loads(joined.stdout.strip().splitlines()[-1])["node"]["folder"])
        # The bucket's providers are counted: this one is none.
        config = folder / "node.toml"
        before, offer = config.read_text().split("\n[provider]\n")
        config.write_text(f"{before}\n[relay]\n" + offer.split("\n[relay]\n")[1])
        self.process = subprocess.Popen([HODEI, "node", "run", "--folder", str(folder), "--json", "--until-stdin-closes"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        if json.loads(self.process.stdout.readline() or "{}").get("schema") != "hodei.node.ready/1":
            raise RuntimeError("the relay did not start")

    def end(self):
        self.process.kill()
        self.process.wait()


def balance(account):
    asked = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": [account, "latest"]}
    request = urllib.request.Request(DOORS["rpc"], json.dumps(asked).encode(), {"content-type": "application/json"})
    return int(json.load(urllib.request.urlopen(request, timeout=30))["result"], 16)


class Put:
    """A put from a pipe: it cannot end before all of it was fed."""

    def __init__(self, work, name, wait):
        self.name, self.wait, self.file, self.said = name, wait, work / name, work / f"{name}.said"
        self.sum, self.fed_mib, self.is_broken = hashlib.sha256(), 0, False
        words = ["data", "cp", "-", f"hodei://{BUCKET}/{name}", "--wait", wait, "--json"]
        with open(self.said, "wb") as said:
            self.process = subprocess.Popen([HODEI, "-C", DOORS["context"], *words], stdin=subprocess.PIPE,
                                            stdout=subprocess.DEVNULL, stderr=said)

    def is_under_way(self):
        return self.process.poll() is None

    def feed(self, mib):
        for _ in range(mib):
            self.fed_mib += 1
            data = random.Random(f"{SEED}/{self.name}/{self.fed_mib}").randbytes(1 << 20)
            self.sum.update(data)
            with open(self.file, "ab") as file:
                file.write(data)
            try:
                if not self.is_broken:
                    self.process.stdin.write(data)
                    self.process.stdin.flush()
            except BrokenPipeError:
                # It gave up; the file has all of it for the next try.
                self.is_broken = True

    def end(self):
        """Whether it was acknowledged."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.process.wait(PATIENCE_S) == 0

    def again(self):
        """Puts the same from its file until it is acknowledged."""
        words = ["data", "cp", str(self.file), f"hodei://{BUCKET}/{self.name}", "--wait", self.wait]
        until(f"{self.name} is put", lambda: tried(*words))

    def told(self):
        return self.name, self.sum.hexdigest()


def tried(*words):
    """The lines of a command that succeeds, or none."""
    try:
        return hodei(*words)
    except RuntimeError:
        return []


def settled(app):
    """What a device counts, once it counts no more."""
    seen = [0]

    def look():
        # It counts each second.
        time.sleep(2)
        seen.append(app.ask("state")["held_bytes"])
        return seen[-1] if 0 < seen[-1] == seen[-2] else None

    return until("it counts what it holds", look)


def deals(name):
    """How the deals stand that hold an object, by whose they are."""
    found = until("the ledger tells of deals", lambda: tried("data", "where", f"hodei://{BUCKET}/{name}"))
    return {line["node"]: line for line in found}


def grown(app, put):
    """Feeds a put until the device counts a stripe's shard more than before; how many bytes, or none where the put ended."""
    least = [app.ask("state")["held_bytes"]]

    def look():
        held = app.ask("state")["held_bytes"]
        # What an earlier put left may be released meanwhile.
        least[0] = min(least[0], held)
        if held >= least[0] + SHARD_BYTES or not put.is_under_way():
            return held - least[0], put.is_under_way()
        if put.fed_mib < FED_MIB_MAX:
            put.feed(1)
        return None

    more, is_under_way = until("the put comes to the device", look)
    return more if is_under_way else 0


def begun(work, app, name, wait, dice):
    """A put that comes to the device and goes on; and by how much the device's count grew at the last look."""
    for attempt in range(9):
        settled(app)
        put = Put(work, f"{name}.{attempt}", wait)
        try:
            for _ in range(dice.randint(1, 4)):
                put.feed(dice.randint(2, 5))
                more = grown(app, put)
        except BaseException:
            put.process.kill()
            raise
        if more:
            return put, more
        # It gave up by itself, as may happen where a provider is slow; nobody was told that it is there.
        print(f"{put.name}: {put.said.read_text()[-300:]}", flush=True)
    raise RuntimeError(f"{name}: no put goes on for long enough")


def killed(work, app, key, name, wait, dice, known):
    """Kills a device's process while a put is under way, and starts it again. `known` is an object it has a part of."""
    put, more = begun(work, app, name, wait, dice)
    try:
        app.kill()
        check(f"{name}: a put is under way when the device dies", put.is_under_way(), put.said.read_text()[-600:])
        print(f"{name}: killed after {put.fed_mib} MiB were fed, the device's count having grown by {more >> 10} KiB since the "
              f"look before", flush=True)
        is_back_meanwhile = dice.random() < 0.5
        if is_back_meanwhile:
            back(app, name)
        put.feed(dice.randint(1, 4))
        is_acknowledged = put.end()
        if not is_back_meanwhile:
            back(app, name)
    finally:
        if put.is_under_way():
            put.process.kill()
            put.process.wait()
    if not is_acknowledged:
        put.again()
    print(f"{name}: {'acknowledged all the same' if is_acknowledged else 'refused, and put again'}", flush=True)
    # A proof that was on its way may still be counted: what comes after the next window was made since.
    window = deals(known)[key]["last_proven_window"]

    def proves():
        now = deals(known)[key]
        return now["last_proven_window"] > window + 1 and now["missed_in_row"] == 0

    until(f"{name}: the device proves again", proves)
    check(f"{name}: the device proves in later windows", True)
    return put.told()


def back(app, name):
    app.begin()
    opened = app.ask("open")
    started = app.ask("start")
    check(f"{name}: the killed device starts again from its folder", "fault" not in opened and "fault" not in started,
          (opened, started))


def survey():
    """What providers say they have of each stripe, by their own count."""
    found = tried("data", "repair", BUCKET, "--dry-run")
    return found[0] if found else None


def is_whole(margins):
    return margins["margins"] == {} and margins["lost"] == 0


def repaired():
    """Whether all of it is where it belongs, after what could be put back was."""
    tried("data", "repair", BUCKET, "--all", "-y")
    found = survey()
    return found if found and is_whole(found["stripes"]) and is_whole(found["index"]) else None


def holders(names):
    """Of each stripe of these objects, whose its shards are: where a device died in the middle, somebody else may have two."""
    stripes = []
    for name in names:
        ref = f"hodei://{BUCKET}/{name}"
        found = until("it is told where shards lie", lambda: tried("data", "where", ref, "--stripes"))
        stripes += [[shard["node"] for shard in line["shards"]] for line in found if "shards" in line]
    return stripes


def stoppable(dice, stripes):
    """Which of the demo's providers these stripes can do without: the most first, two sets of each size. A layer of the index
    may lie otherwise, where a device died while it was written, so the first that is read without is taken."""
    ready = [json.loads((pathlib.Path(DOORS["folder"]) / f"provider-{at}" / "ready.json").read_text()) for at in range(PROVIDERS)]
    processes = {one["node"]: one["process"] for one in ready}
    for size in range(PROVIDERS - 1, 1, -1):
        some = [gone for gone in itertools.combinations(sorted(processes), size)
                if all(sum(node not in gone for node in nodes) >= K for nodes in stripes)]
        for gone in dice.sample(some, min(2, len(some))):
            yield [processes[node] for node in gone]


@contextlib.contextmanager
def stopped(processes):
    try:
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            # One that died leaves none of the others stopped.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def all_proven():
    """Who was stopped proves again before others are: many windows missed in a row would end its deals."""
    until("everybody proves", lambda: all(deal["missed_in_row"] == 0 for deal in deals("before-0").values()))


def read_without(work, group, dice):
    """Reads objects while as many providers as can be done without are stopped; whether each is what was put."""
    for processes in stoppable(dice, holders([name for name, _ in group])):
        all_proven()
        found = {}
        with stopped(processes):
            for name, digest in group:
                # Ten windows of ten seconds missed in a row would end the deals of who is stopped.
                found[name] = read(work, name, digest, patience=30)
                if found[name] is None:
                    break
        if None not in found.values():
            print(f"{len(processes)} of {PROVIDERS} providers were stopped")
            return found
    return {name: False for name, _ in group}


def read(work, name, digest, patience=PATIENCE_S):
    """Whether an object is what was put; nothing where it could not be read in that time."""
    file, end = work / "back", time.monotonic() + patience
    while not tried("data", "cp", f"hodei://{BUCKET}/{name}", str(file)):
        if time.monotonic() > end:
            return None
        time.sleep(1)
    is_same = hashlib.sha256(file.read_bytes()).hexdigest() == digest
    file.unlink()
    return is_same


def die(work, apps, keys):
    """Kills devices in the middle of puts; every object that was acknowledged by then or since."""
    dice, told = random.Random(SEED), []
    for index in range(3):
        put = Put(work, f"before-{index}", "full")
        put.feed(1)
        if not put.end():
            put.again()
        told.append(put.told())
    check("both devices hold a part of the publisher's bucket", all(settled(app) > 0 for app in apps))

    # A put that needs no device's word goes on without it.
    at = dice.randrange(len(apps))
    told.append(killed(work, apps[at], keys[at], "without", "quorum", dice, "before-0"))
    check("what was acknowledged while a device died is what was put", read(work, *told[-1]))
    until("what it missed is put back", repaired)

    # One that is acknowledged has somebody's word for each of its shards: from here on nothing is put back.
    for kill in range(KILLS):
        at = dice.randrange(len(apps))
        told.append(killed(work, apps[at], keys[at], f"during-{kill}", "full", dice, "before-0"))
    found = until("everybody answers", lambda: (now := survey()) and all(one["answers"] for one in now["providers"]) and now)
    check("no killed device lacks a shard that it acknowledged", is_whole(found["stripes"]), found)
    # The index is acknowledged by enough, as the first put was: its newest layer may have been written meanwhile.
    if not is_whole(found["index"]):
        until("the index is everywhere", repaired)
    for group in (told[:3], *([one] for one in told[3:])):
        for name, is_same in read_without(work, group, dice).items():
            check(f"{name} is read with as few providers as suffice, byte for byte", is_same)
    return told


def paid(key):
    """What the ledger's events say that it paid for a device."""
    lines = hodei("node", "earnings", key)
    payments = sum(int(line["amount_wei"]) for line in lines if line["schema"] == "hodei.node.payment/1")
    total = next(int(line["paid_wei"]) for line in lines if line["schema"] == "hodei.node.earnings/1")
    assert payments == total
    return total


def agrees(app, key):
    before, state, after = paid(key), app.ask("state"), paid(key)
    return before == after == int(state["earned_wei"]) and before > 0


def play(work):
    plan = ["--pays", "coins", "--devices", "2", "--price", "0.0005", "--collateral", "1", "--gas", "0.5"]
    dry = hodei("pool", "create", POOL, *plan, "--dry-run")[0]
    check("a dry run names the limits and what they may cost", dry["exposure_wei"] == str(6 * 10**18), dry)
    word = hodei("pool", "create", POOL, *plan, "-y")[0]["word"]
    check("the word is one word", word.startswith("hodeipool1") and word == word.strip(), word[:12])
    pool, relay = run_pool(), Relay(work)
    apps = [App(work / f"device-{index}") for index in range(2)]
    # Nobody reaches the first but through the relay.
    behind = [[relay.at], []]
    try:
        refused = apps[0].ask("join", word=word, mib=MIB, agrees=False)
        check("without consent nothing is made", "NoConsent" in refused.get("fault", "") and not apps[0].folder.exists(), refused)
        wrong = apps[0].ask("join", word=word[:-1] + ("q" if word[-1] != "q" else "p"), mib=MIB, agrees=True)
        check("a word with a wrong letter is refused", "Word" in wrong.get("fault", ""), wrong)
        for index, app in enumerate(apps):
            joined = app.ask("join", word=word, mib=MIB, agrees=True, relays=behind[index])
            check(f"device {index} joins", "fault" not in joined, joined)
            started = app.ask("start")
            check(f"device {index} starts", "fault" not in started, started)
        keys = [app.ask("state")["key"] for app in apps]
        offer = next(offer for offer in hodei("status")[0]["providers"] if offer["node"] == keys[0])
        known = (offer["addresses"], offer["relays"]) == ([], [relay.at])
        check("a device behind a relay is known by it alone", known, offer)
        third = App(work / "device-2")
        full = third.ask("join", word=word, mib=MIB, agrees=True)
        check("the pool's limit of devices holds", "Refused" in full.get("fault", "") and not third.folder.exists(), full)
        third.end()
        until("both are online", lambda: all(app.ask("state")["online"] for app in apps))
        why = apps[0].ask("state")["why_not_earning"]
        check("an idle device says why it does not earn", "nobody keeps" in (why or ""), why)
        print(f"idle: VmHWM {apps[0].peak_kib() / 1024:.0f} MiB, folder {apps[0].ask('state')['folder_bytes'] / 2**20:.1f} MiB")

        hodei("data", "create", BUCKET, "--code", "4/8", "-y")
        earned = [paid(key) for key in keys]
        told = die(work, apps, keys)
        for index, key in enumerate(keys):
            until(f"device {index} is paid for windows since", lambda: paid(key) > earned[index])
            check(f"device {index}: the ledger pays what it proves", True)

        apps[0].ask("allow", mib=MIB, only_charging=True)
        apps[0].ask("power", charging=False, battery=80, metered=False)
        resting = until("it rests", lambda: "charging" in (apps[0].ask("state")["why_not_earning"] or ""))
        check("a device off its charger rests, and says so", resting)
        apps[0].ask("power", charging=True, battery=80, metered=False)
        until("it serves again", lambda: apps[0].ask("state")["why_not_earning"] is None)

        for index, (app, key) in enumerate(zip(apps, keys)):
            until(f"device {index} is paid, and its credit is the ledger's payments", lambda: agrees(app, key))
            check(f"device {index}: credit is what the ledger paid, to the wei", True)
        state = apps[0].ask("state")
        print(f"earned: {state['earned_wei']} wei for {state['windows_proven']} windows, {state['windows_missed']} missed")

        to = "0x" + "00" * 18 + f"{os.getpid() & 0xffff:04x}"
        before, given = balance(to), apps[0].ask("redeem", to=to)
        arrived = balance(to) - before
        check("what is redeemed arrives, to the wei", arrived == int(given.get("amount_wei", -1)) > 0, (given, arrived))
        nothing = apps[0].ask("redeem", to=to)
        is_once = "fault" in nothing or int(nothing["amount_wei"]) != arrived
        check("credit is given once", is_once, nothing)

        pool.kill()
        pool.wait()
        before = hodei("pool", "show", POOL)[-1]
        pool = run_pool()
        after = hodei("pool", "show", POOL)[-1]
        check("a killed pool knows what it gave", int(after["redeemed_wei"]) == int(before["redeemed_wei"]) >= arrived, (before, after))
        show = hodei("pool", "show", POOL)
        devices, total = show[:-1], show[-1]
        added = {name: sum(int(device[name]) for device in devices) for name in ("earned_wei", "redeemed_wei", "credit_wei")}
        check("the fleet's sums add up", all(int(total[name]) == value for name, value in added.items())
              and added["earned_wei"] == added["redeemed_wei"] + added["credit_wei"], (added, total))
        for index, app in enumerate(apps):
            peak = app.peak_kib()
            print(f"serving, device {index}: VmHWM {peak / 1024:.0f} MiB, folder {app.ask('state')['folder_bytes'] / 2**20:.1f} MiB")
            check(f"device {index} needs less than {MEMORY_KIB_MAX >> 10} MiB", peak < MEMORY_KIB_MAX, f"{peak} KiB")

        def leave():
            said = apps[0].ask("leave")
            # Its connection to the pool that was killed may not be known to be dead yet.
            return None if said.get("fault", "").endswith("Away") else said

        first = until("the pool answers", leave)
        check("a device that holds something stays until its deals end", first.get("open_deals", 0) > 0 and not first["is_done"], first)
        for name, _ in told:
            hodei("data", "rm", f"hodei://{BUCKET}/{name}", "-y")
        hodei("data", "rm", f"hodei://{BUCKET}", "-y")
        for index, app in enumerate(apps):
            until(f"device {index} has left", lambda: app.ask("leave").get("is_done"))
            gone = hodei("node", "earnings", keys[index], fails=True)
            check(f"device {index} leaves, and the collateral is back", gone and gone["code"] == "HD3008", gone)
        states = [device["state"] for device in hodei("pool", "show", POOL)[:-1]]
        check("the fleet shows that they left", states == ["left", "left"], states)
    finally:
        for app in apps:
            app.kill()
        pool.kill()
        pool.wait()
        relay.end()


def main():
    work = pathlib.Path(tempfile.mkdtemp(prefix="hodei-pool-"))
    print(f"seed {SEED}", flush=True)
    try:
        play(work)
    except (RuntimeError, AssertionError, OSError, KeyError, ValueError, StopIteration, subprocess.SubprocessError) as error:
        check("the whole play", False, error)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{len(failed)} failed (seed {SEED})" if failed else "all of it works")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
