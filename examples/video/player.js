// Play a film in segments: each is fetched when its turn comes, and appended to one source buffer.
//
// film.json: {"type": "video/webm; codecs=\"vp8\"", "segments": ["seg/0000.webm", …]}, and "ahead" for other seconds than
// these. The first segment begins with what the others need; they follow each other without gaps.
"use strict";

// Seconds that are fetched ahead, and kept behind, of what is shown.
const AHEAD = 20, BEHIND = 20;
// Who does not answer is asked again, with a second's rest: devices come back, or others take over.
const TRIES = 30, REST = 1000;

const video = document.querySelector("video"), status = document.querySelector("[role=status]");

const rest = (ms) => new Promise((done) => setTimeout(done, ms));
const happens = (target, name) => new Promise((done) => target.addEventListener(name, done, { once: true }));

async function get(path) {
  for (let left = TRIES; ; left--) {
    const answer = await fetch(path).catch(() => null);
    if (answer?.ok) return answer;
    const passing = !answer || answer.status >= 500;
    if (!passing || left === 1) throw new Error(`${path}: ${answer ? answer.status : "no answer"}`);
    await rest(REST);
  }
}

// Seconds that are there after what is shown.
function ahead() {
  for (let at = 0; at < video.buffered.length; at++) {
    if (video.buffered.start(at) <= video.currentTime + 0.5 && video.currentTime < video.buffered.end(at)) {
      return video.buffered.end(at) - video.currentTime;
    }
  }
  return 0;
}

async function append(buffer, bytes) {
  const done = happens(buffer, "updateend");
  buffer.appendBuffer(bytes);
  await done;
  if (video.error) throw video.error;
  if (video.buffered.length && video.buffered.start(0) < video.currentTime - 2 * BEHIND) {
    const gone = happens(buffer, "updateend");
    buffer.remove(0, video.currentTime - BEHIND);
    await gone;
  }
}

async function play() {
  const film = await (await get("film.json")).json();
  if (!MediaSource.isTypeSupported(film.type)) throw new Error(`this browser plays no ${film.type}`);
  const source = new MediaSource(), opened = happens(source, "sourceopen");
  video.src = URL.createObjectURL(source);
  await opened;
  const buffer = source.addSourceBuffer(film.type);
  for (const [at, path] of film.segments.entries()) {
    while (ahead() > (film.ahead ?? AHEAD)) await rest(100);
    const answer = await get(path);
    await append(buffer, await answer.arrayBuffer());
    status.textContent = `Segment ${at + 1} of ${film.segments.length}`;
    // Where the browser wants to be asked first, the controls do it.
    if (at === 0) video.play().catch(() => {});
  }
  source.endOfStream();
}

video.addEventListener("ended", () => { document.body.dataset.state = "ended"; });
play().catch((error) => {
  document.body.dataset.state = "failed";
  status.textContent = `It cannot be played: ${error.message ?? error}`;
});
