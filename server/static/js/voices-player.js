// Plays one stored recording at a time. An <audio src> could not send the API key.

import { request } from "./api.js";
import { clear, icon } from "./dom.js";

const audio = new Audio();
let playing = null;

/** The URL of a voice below the API. */
export function pathOf(voice, more = "") {
  return `/v1/audio/voices/${encodeURIComponent(voice.id)}${more}`;
}

/** Play the voice's recording from its beginning, or stop it; the button shows which. */
export async function toggle(voice, button) {
  const wasPlaying = playing?.button === button;
  stop();
  if (wasPlaying) return;
  const mine = { button, url: null };
  playing = mine;
  mark(button, true);
  try {
    const blob = await (await request(pathOf(voice, "/audio"))).blob();
    if (playing !== mine) return;
    mine.url = URL.createObjectURL(blob);
    audio.src = mine.url;
    await audio.play();
  } catch (error) {
    if (playing === mine) stop();
    // Stopped while it began.
    if (error.name !== "AbortError") throw error;
  }
}

export function stop() {
  if (!playing) return;
  const { button, url } = playing;
  playing = null;
  audio.pause();
  if (url) {
    audio.removeAttribute("src");
    URL.revokeObjectURL(url);
  }
  mark(button, false);
}

audio.addEventListener("ended", stop);

function mark(button, isPlaying) {
  button.setAttribute("aria-pressed", String(isPlaying));
  clear(button).append(icon(isPlaying ? "stop" : "play"));
}
