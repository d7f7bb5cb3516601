// Players of a clip that may still be growing. Both have: play, pause, seek, stop, isPlaying,
// isComplete, currentTime and duration (s, of what is here), envelope, peak, analyser; and the
// events "change" (played, paused, grown, complete) and "ended".

import { Envelope } from "./envelope.js";

const SLICE_BYTES = 4096; // Of encoded audio, decoded at once for the waveform while it comes.
const LEAD_S = 0.05; // Between scheduling the first samples and hearing them.

let shared = null;

/** The page's AudioContext. Call it within a gesture first: browsers start none without one. */
export function audioContext() {
  shared ??= new AudioContext();
  if (shared.state === "suspended") shared.resume();
  return shared;
}

class Player extends EventTarget {
  envelope = new Envelope();
  isComplete = false;

  constructor() {
    super();
    this.context = audioContext();
    this.analyser = this.context.createAnalyser();
    this.analyser.connect(this.context.destination);
  }

  /** Of the decoded samples, 0 to 1. */
  get peak() {
    return this.envelope.peak;
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }
}

/** Plays samples as they come, by Web Audio. */
export class StreamPlayer extends Player {
  #chunks = [];
  #scheduled = []; // {at, offset, length}: clip seconds `offset`... sound from context time `at`.
  #sources = new Set();
  #position = 0;
  #next = 0;

  isPlaying = false;
  duration = 0;
  /** Silence heard because the next samples were late, s. */
  underrun_s = 0;

  constructor(sampleRate) {
    super();
    this.sampleRate = sampleRate;
  }

  /** samples: Float32Array in [-1, 1], or Int16Array. */
  push(samples) {
    if (samples.length === 0) return;
    const floats = samples instanceof Int16Array ? Float32Array.from(samples, (s) => s / 32768) : samples;
    const buffer = this.context.createBuffer(1, floats.length, this.sampleRate);
    buffer.copyToChannel(floats, 0);
    const chunk = { buffer, offset: this.duration };
    this.#chunks.push(chunk);
    this.envelope.add(floats, this.sampleRate, this.duration);
    this.duration += buffer.duration;
    if (this.isPlaying) this.#schedule(chunk, 0);
    this.changed();
  }

  /** No more samples come. */
  end() {
    this.isComplete = true;
    this.changed();
    if (this.isPlaying && this.#sources.size === 0) this.#finish();
  }

  play() {
    if (this.isPlaying) return;
    audioContext();
    if (this.isComplete && this.#position >= this.duration) this.#position = 0;
    this.isPlaying = true;
    this.#scheduleFrom(this.#position);
    this.changed();
  }

  pause() {
    this.#position = this.currentTime;
    this.#silence();
    this.isPlaying = false;
    this.changed();
  }

  seek(time_s) {
    this.#silence();
    this.#position = Math.min(Math.max(0, time_s), this.duration);
    if (this.isPlaying) this.#scheduleFrom(this.#position);
    this.changed();
  }

  /** Silence, for good. */
  stop() {
    this.pause();
    this.analyser.disconnect();
  }

  get currentTime() {
    if (!this.isPlaying) return this.#position;
    const now = this.context.currentTime;
    const span = this.#scheduled.findLast(({ at }) => at <= now);
    return span ? span.offset + Math.min(now - span.at, span.length) : this.#position;
  }

  #scheduleFrom(time_s) {
    this.#scheduled = [];
    for (const chunk of this.#chunks) {
      const skipped = Math.max(0, time_s - chunk.offset);
      if (skipped < chunk.buffer.duration) this.#schedule(chunk, skipped);
    }
  }

  #schedule({ buffer, offset }, skipped) {
    const now = this.context.currentTime;
    if (this.#scheduled.length === 0) this.#next = now + LEAD_S;
    else if (this.#next < now) {
      this.underrun_s += now - this.#next;
      this.#next = now + LEAD_S;
    }
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.analyser);
    source.onended = () => this.#over(source);
    source.start(this.#next, skipped);
    this.#sources.add(source);
    this.#scheduled.push({ at: this.#next, offset: offset + skipped, length: buffer.duration - skipped });
    this.#next += buffer.duration - skipped;
  }

  #over(source) {
    this.#sources.delete(source);
    if (this.isPlaying && this.isComplete && this.#sources.size === 0) this.#finish();
  }

  #finish() {
    this.#position = this.duration;
    this.isPlaying = false;
    this.changed();
    this.dispatchEvent(new Event("ended"));
  }

  #silence() {
    for (const source of this.#sources) {
      source.onended = null;
      source.stop();
    }
    this.#sources.clear();
    this.#scheduled = [];
  }
}

/** Plays encoded audio by an audio element: as it comes if `isLive`, else when all is here. */
export class MediaPlayer extends Player {
  #audio = new Audio();
  #source = null;
  #buffer = null;
  #waiting = [];
  #unseen = [];
  #seen_s = 0;
  #isPeeking = false;
  #url = null;
  #measured_s = null;

  constructor(mediaType, { isLive }) {
    super();
    this.context.createMediaElementSource(this.#audio).connect(this.analyser);
    this.#audio.addEventListener("ended", () => this.#ended());
    for (const name of ["play", "pause", "durationchange", "progress", "seeked"])
      this.#audio.addEventListener(name, () => this.changed());
    this.#audio.addEventListener("timeupdate", () => this.#feed());
    if (isLive) this.#open(mediaType);
  }

  /** Encoded bytes of a live player. */
  push(bytes) {
    this.#waiting.push(bytes);
    this.#unseen.push(bytes);
    this.#feed();
    this.#peek();
  }

  /** No more bytes come; `whole` is the clip as a blob that audio elements play. */
  async end(whole) {
    const wasLive = this.#source !== null;
    this.isComplete = true;
    this.whole = whole;
    if (wasLive) this.#feed();
    else this.#load(whole);
    await this.#measure(whole);
    this.changed();
  }

  play() {
    audioContext();
    // Refused or cut short by a pause: the "pause" event has told of it already.
    this.#audio.play().catch(() => this.changed());
  }

  pause() {
    this.#audio.pause();
  }

  seek(time_s) {
    this.#audio.currentTime = Math.min(Math.max(0, time_s), this.duration);
  }

  stop() {
    this.#audio.pause();
    this.#audio.removeAttribute("src");
    this.#audio.load();
    this.analyser.disconnect();
    if (this.#url) URL.revokeObjectURL(this.#url);
  }

  get isPlaying() {
    return !this.#audio.paused && !this.#audio.ended;
  }

  get currentTime() {
    return this.#audio.currentTime;
  }

  get duration() {
    // An element only guesses how long a streamed flac is, and grows the guess.
    if (this.#measured_s) return this.#measured_s;
    const { duration, buffered } = this.#audio;
    if (Number.isFinite(duration) && duration > 0) return duration;
    return buffered.length ? buffered.end(buffered.length - 1) : 0;
  }

  #open(mediaType) {
    this.#source = new MediaSource();
    this.#source.addEventListener("sourceopen", () => {
      if (this.#buffer) return;
      this.#buffer = this.#source.addSourceBuffer(mediaType);
      this.#buffer.addEventListener("updateend", () => this.#feed());
      this.#feed();
    });
    this.#setSource(this.#source);
  }

  #feed() {
    if (!this.#buffer || this.#buffer.updating || this.#source.readyState !== "open") return;
    try {
      if (this.#waiting.length) {
        this.#buffer.appendBuffer(this.#waiting[0]);
        this.#waiting.shift();
      } else if (this.isComplete) this.#source.endOfStream();
    } catch (error) {
      // Full: what was played makes room, and "timeupdate" tries again.
      if (error.name !== "QuotaExceededError") throw error;
    }
  }

  #ended() {
    // A long stream has thrown away its beginning by now: the whole has it.
    if (this.#source && this.whole) this.#load(this.whole);
    this.changed();
    this.dispatchEvent(new Event("ended"));
  }

  #load(blob) {
    this.#source = null;
    this.#buffer = null;
    this.#setSource(blob);
  }

  #setSource(source) {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = URL.createObjectURL(source);
    this.#audio.src = this.#url;
  }

  /** What the part that came last looks like: near enough, until `end` shows the whole. */
  async #peek() {
    const slice = new Blob(this.#unseen);
    if (this.#isPeeking || this.isComplete || slice.size < SLICE_BYTES) return;
    this.#unseen = [];
    this.#isPeeking = true;
    const decoded = await this.#decode(slice);
    this.#isPeeking = false;
    if (!decoded || this.isComplete) return;
    this.envelope.add(decoded.getChannelData(0), decoded.sampleRate, this.#seen_s);
    this.#seen_s += decoded.duration;
    this.changed();
  }

  async #measure(blob) {
    const decoded = await this.#decode(blob);
    if (!decoded) return;
    this.#measured_s = decoded.duration;
    this.envelope = new Envelope();
    this.envelope.add(decoded.getChannelData(0), decoded.sampleRate, 0);
  }

  /** The samples; null of a clip cut short, or of a format that this browser does not know. */
  async #decode(blob) {
    try {
      return await this.context.decodeAudioData(await blob.arrayBuffer());
    } catch (error) {
      if (error.name !== "EncodingError") throw error;
      return null;
    }
  }
}
