// How loud a clip is along its time, for the waveform: the highest sample of each 20 ms.

const BIN_S = 0.02;
const SLACK = 1e-6; // Of a bin: so that rounding does not put its first sample into the one before.

export class Envelope {
  #bins = [];

  /** The highest absolute sample so far, 0 to 1. */
  peak = 0;

  /** Samples that begin at `offset_s` into the clip. */
  add(samples, sampleRate, offset_s) {
    for (let at = 0; at < samples.length;) {
      const bin = Math.floor((offset_s + at / sampleRate) / BIN_S + SLACK);
      const end = Math.max(at + 1, Math.ceil(((bin + 1) * BIN_S - offset_s) * sampleRate));
      this.#mark(bin, loudestOf(samples, at, Math.min(end, samples.length)));
      at = end;
    }
  }

  #mark(bin, level) {
    while (this.#bins.length <= bin) this.#bins.push(0);
    if (level > this.#bins[bin]) this.#bins[bin] = level;
    if (level > this.peak) this.peak = level;
  }

  /** From `start_s` to `end_s`: the mean of their bins, so that long clips keep a shape. */
  level(start_s, end_s) {
    const first = Math.floor(start_s / BIN_S);
    const bins = this.#bins.slice(first, Math.max(first + 1, Math.ceil(end_s / BIN_S)));
    return bins.reduce((sum, bin) => sum + bin, 0) / Math.max(1, bins.length);
  }
}

function loudestOf(samples, start, end) {
  let loudest = 0;
  for (let i = start; i < end; i += 1) {
    const level = samples[i] < 0 ? -samples[i] : samples[i];
    if (level > loudest) loudest = level;
  }
  return loudest;
}
