// A speech while it is made.

import { FORMATS, fileOf, isLive, playableOf, SampleReader } from "./audio.js";

/** A speech on its way: its bytes, its player, its numbers. */
export class Take {
  parts = [];
  answer = null;
  outcome = null;
  note = null;
  #reader;
  #startedAt = performance.now();
  #firstAt = null;

  constructor(format, player) {
    this.format = format;
    this.player = player;
    this.#reader = FORMATS[format].heard === "pcm" ? new SampleReader(format) : null;
  }

  push(bytes) {
    this.#firstAt ??= performance.now();
    this.parts.push(bytes);
    if (this.#reader) this.player.push(this.#reader.push(bytes));
    else if (isLive(this.format)) this.player.push(bytes);
  }

  async end() {
    this.blob = fileOf(this.format, this.parts);
    await this.player.end(await playableOf(this.format, this.blob));
  }

  /** `first_s` is measured here, from the click to the first bytes; the others are the server's. */
  get numbers() {
    const first_s = this.#firstAt === null ? null : (this.#firstAt - this.#startedAt) / 1000;
    return { first_s, ...this.outcome?.numbers };
  }
}
