"""A small app that keeps data for its publisher's pool: one device, told what to do on standard input.

Usage: app.py BINDINGS FOLDER        BINDINGS: a folder with hodei_embed.py and libhodei_embed.so

Each line in is one JSON object with `do`; each line out one with what came of it, or with `fault`. A real app has buttons
there; the calls are the same.
"""
import json
import sys

sys.path.insert(0, sys.argv[1])
import hodei_embed as hodei  # noqa: E402

FOLDER = sys.argv[2]
WORDS = "Let this app use up to {} MiB of this device's disk to keep sealed data of others. It stops when you say so."


def caps(mib, **more):
    allowed = {"transfer_bytes_per_day": 0, "only_unmetered": False, "only_charging": False, "min_battery_percent": 0}
    return hodei.Caps(space_bytes=mib << 20, **{**allowed, **more})


class App:
    device = None

    def join(self, word, mib, agrees, relays=()):
        # Nothing is made before the user has agreed to these words.
        consent = hodei.Consent(given=agrees, words=WORDS.format(mib))
        if relays:
            self.device = hodei.Device.join_behind(FOLDER, word, consent, caps(mib), list(relays))
        else:
            self.device = hodei.Device.join(FOLDER, word, consent, caps(mib), None)

    def open(self):
        self.device = hodei.Device.open(FOLDER)

    def start(self):
        self.device.start()

    def stop(self):
        self.device.stop()

    def allow(self, mib, **more):
        self.device.set_caps(caps(mib, **more))

    def power(self, charging, battery, metered):
        self.device.set_conditions(hodei.Conditions(charging=charging, battery_percent=battery, metered=metered))

    def state(self):
        return dict(vars(self.device.state()))

    def redeem(self, to):
        return dict(vars(self.device.redeem(None, to, "")))

    def leave(self):
        return dict(vars(self.device.leave()))


def main():
    app = App()
    for line in sys.stdin:
        wish = json.loads(line)
        try:
            done = getattr(app, wish.pop("do"))(**wish) or {}
        except hodei.DeviceFault as fault:
            done = {"fault": type(fault).__name__, "says": str(fault)}
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
