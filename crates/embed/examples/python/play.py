"""Play an app whose devices join a pool, on a network that runs: store, serve, earn, redeem, leave.

Usage: play.py HODEI DOORS.json BINDINGS

HODEI is the binary, DOORS.json what its `demo --keep --json` printed, whose context the publisher uses.
"""
import hashlib
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HODEI, DOORS, BINDINGS = sys.argv[1], json.load(open(sys.argv[2])), sys.argv[3]
HERE = pathlib.Path(__file__).parent
POOL, BUCKET = f"app-{os.getpid()}", f"kept-{os.getpid()}"
# A bucket asks each of its providers for half a gibibyte of room; what is not written takes no disk.
MIB = 2048
MEMORY_KIB_MAX = 128 << 10
# Windows are ten seconds here, and pay comes after seven of them.
PATIENCE_S = 300
failed = []


def check(name, is_so, why=""):
    print(f"{'ok' if is_so else 'not ok'} {name}{'' if is_so else f': {why}'}", flush=True)
    if not is_so:
        failed.append(name)
    return is_so


def hodei(*words, fails=False):
    """Runs a command; its JSON lines, or its error."""
    ran = subprocess.run([HODEI, "-C", DOORS["context"], *words, "--json"], capture_output=True, text=True, timeout=300)
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


def put_all(folder, names):
    """Puts files one after the other; those that were acknowledged."""
    told = []
    for name in names:
        data = random.Random(name).randbytes(300_000 + 7 * len(name))
        (folder / name).write_bytes(data)
        for _ in range(3):
            try:
                hodei("data", "cp", str(folder / name), f"hodei://{BUCKET}/{name}")
                told.append((name, hashlib.sha256(data).hexdigest()))
                break
            except RuntimeError:
                continue
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
        told = put_all(work, [f"before-{index}" for index in range(3)])
        held = until("both hold something", lambda: all(app.ask("state")["held_bytes"] > 0 for app in apps))
        check("both devices hold a part of the publisher's bucket", held and len(told) == 3, told)

        # A device's process dies in the middle of puts, without a chance to say goodbye.
        more, names = [], [f"during-{index}" for index in range(6)]
        writing = threading.Thread(target=lambda: more.extend(put_all(work, names)))
        writing.start()
        time.sleep(random.uniform(1, 4))
        apps[1].kill()
        time.sleep(2)
        apps[1].begin()
        again = apps[1].ask("open")
        started = apps[1].ask("start")
        check("a killed device starts again from its folder", "fault" not in again and "fault" not in started, (again, started))
        writing.join()
        back = work / "back"
        for name, digest in told + more:
            hodei("data", "cp", f"hodei://{BUCKET}/{name}", str(back))
            if hashlib.sha256(back.read_bytes()).hexdigest() != digest:
                check(f"{name} is what was put", False, "other bytes")
            back.unlink()
        check("nothing acknowledged is lost", len(told + more) >= 3, more)

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
        for name, _ in told + more:
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
    try:
        play(work)
    except (RuntimeError, AssertionError, OSError, KeyError, ValueError) as error:
        check("the whole play", False, error)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"{len(failed)} failed" if failed else "all of it works")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
