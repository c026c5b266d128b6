"""Drive a headless Chromium by its DevTools protocol, with nothing but Python's own library.

    with Chromium() as browser:
        page = browser.open("about:blank")
        page.run("1 + 1")
"""
import base64
import json
import os
import pathlib
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request

PATIENCE = 120


class Socket:
    """RFC 6455, as a client: whole text messages."""

    def __init__(self, host, port, path):
        self.wire = socket.create_connection((host, port), timeout=PATIENCE)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self.wire.sendall((f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                           f"sec-websocket-key: {key}\r\nsec-websocket-version: 13\r\n\r\n").encode())
        self.file = self.wire.makefile("rb")
        status = self.file.readline()
        while self.file.readline() not in (b"\r\n", b""):
            pass
        if b" 101 " not in status:
            raise ConnectionError(f"no websocket: {status!r}")

    def send(self, text, kind=1):
        data, mask = text.encode() if isinstance(text, str) else text, secrets.token_bytes(4)
        size = len(data)
        head = bytes([0x80 | kind]) + (bytes([0x80 | size]) if size < 126 else struct.pack(">BH", 0x80 | 126, size)
                                       if size < 1 << 16 else struct.pack(">BQ", 0x80 | 127, size))
        self.wire.sendall(head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)))

    def read(self, size):
        data = self.file.read(size)
        if len(data) != size:
            raise ConnectionError("the browser hung up")
        return data

    def receive(self):
        whole = b""
        while True:
            first, size = self.read(2)
            if size == 126:
                size, = struct.unpack(">H", self.read(2))
            elif size == 127:
                size, = struct.unpack(">Q", self.read(8))
            data, kind = self.read(size), first & 15
            if kind == 8:
                raise ConnectionError("the browser closed the page")
            if kind == 9:
                self.send(data, 10)
            elif kind in (0, 1):
                whole += data
                if first & 0x80:
                    return whole.decode()


class Page:
    def __init__(self, port, told):
        self.id, self.number = told["id"], 0
        self.socket = Socket("127.0.0.1", port, told["webSocketDebuggerUrl"].split(f":{port}", 1)[1])
        self.said = []
        for domain in ("Runtime", "Log", "Page"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.receive())
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                self.said.append(json.dumps(message["params"])[:400])

    def run(self, code):
        """What an expression gives; a promise is waited for."""
        result = self.ask("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:600])
        return result["result"].get("value")

    def go(self, url):
        self.ask("Page.navigate", url=url)

    def until(self, code, what, patience=PATIENCE):
        """Asks until an expression gives something; of a page that is being left it is asked again."""
        since = time.monotonic()
        while True:
            try:
                value = self.run(code)
            except RuntimeError as error:
                value, self.said = None, self.said + [str(error)]
            if value:
                return value
            if time.monotonic() - since > patience:
                raise TimeoutError(f"{what} did not come; the page says {self.said[-8:]}")
            time.sleep(0.25)


class Chromium:
    """One browser with a profile of its own, which goes with it."""

    def __init__(self):
        self.binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if not self.binary:
            raise FileNotFoundError("chromium is missing: apt-get install chromium")

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hodei-chromium."))
        words = [self.binary, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={self.folder}", "--mute-audio",
                 "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
                 "--disable-component-update", "--autoplay-policy=no-user-gesture-required",
                 # Headless pages are taken for hidden ones, whose clocks are held back.
                 "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
                 "--disable-backgrounding-occluded-windows"]
        if os.geteuid() == 0:
            # Its own sandbox does not start as root.
            words.append("--no-sandbox")
        self.messages = open(self.folder / "messages", "wb")
        self.process = subprocess.Popen([*words, "about:blank"], stdout=self.messages, stderr=self.messages,
                                        env={**os.environ, "HOME": str(self.folder)}, start_new_session=True)
        port, since = self.folder / "DevToolsActivePort", time.monotonic()
        while not (port.exists() and port.read_text().count("\n") >= 1):
            if self.process.poll() is not None or time.monotonic() - since > PATIENCE:
                self.__exit__()
                raise RuntimeError("the browser did not start")
            time.sleep(0.1)
        self.port = int(port.read_text().split("\n")[0])
        return self

    def open(self, url):
        ask = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
        page = Page(self.port, json.load(urllib.request.urlopen(ask, timeout=PATIENCE)))
        page.go(url)
        return page

    def __exit__(self, *_):
        # Its helpers are of its own process group.
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.messages.close()
        shutil.rmtree(self.folder, ignore_errors=True)


# A film that needs no camera: a canvas that never repeats itself, recorded in slices of about a second.
RECORD = """(async () => {
  const canvas = document.createElement('canvas'); canvas.width = 320; canvas.height = 180;
  const draw = canvas.getContext('2d');
  let frame = 0;
  const paint = setInterval(() => {
    frame++;
    for (let at = 0; at < 40; at++) {
      draw.fillStyle = `hsl(${(frame * 7 + at * 31) % 360} 70% ${20 + (frame + at * 13) % 60}%)`;
      draw.fillRect((at * 53 + frame * 5) % 320, (at * 37 + frame * 3) % 180, 60, 40);
    }
    draw.fillStyle = 'white'; draw.font = '40px sans-serif'; draw.fillText(String(frame), 20, 100);
  }, 40);
  const recorder = new MediaRecorder(canvas.captureStream(25),
    { mimeType: 'video/webm;codecs=vp8', videoBitsPerSecond: 1000000 });
  const slices = [], done = new Promise((over) => { recorder.onstop = over; });
  recorder.ondataavailable = (event) => { if (event.data.size) slices.push(event.data); };
  recorder.start(1000);
  await new Promise((over) => setTimeout(over, MILLISECONDS));
  recorder.stop(); await done; clearInterval(paint);
  const text = async (slice) => {
    const bytes = new Uint8Array(await slice.arrayBuffer());
    let out = ''; for (const byte of bytes) out += String.fromCharCode(byte);
    return btoa(out);
  };
  return Promise.all(slices.map(text));
})()"""


def record(browser, seconds):
    """Slices of a film of about so many seconds, to be played one after another."""
    page = browser.open("about:blank")
    return [base64.b64decode(slice) for slice in page.run(RECORD.replace("MILLISECONDS", str(seconds * 1000)))]
