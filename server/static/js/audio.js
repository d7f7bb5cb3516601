// The six formats, and what of their bytes the page reads itself.

/** How each is heard: "pcm": as it comes, by us; "media": as it comes where the browser can; "whole". */
export const FORMATS = {
  mp3: { mediaType: "audio/mpeg", heard: "media" },
  opus: { mediaType: "audio/ogg; codecs=opus", heard: "whole" },
  aac: { mediaType: "audio/aac", heard: "media" },
  flac: { mediaType: "audio/flac", heard: "whole" },
  wav: { mediaType: "audio/wav", heard: "pcm" },
  pcm: { mediaType: "audio/pcm", heard: "pcm" },
};

/** Hz, of pcm: what the server sends unless it is asked for another. */
export const PCM_RATE = 24_000;

const WAV_HEADER_BYTES = 44;
const DATA = 0x64617461; // "data", as a big-endian number

/** Can it be heard before all of it is here? */
export function isLive(format) {
  const { heard, mediaType } = FORMATS[format];
  return heard === "pcm" || (heard === "media" && canStream(mediaType));
}

function canStream(mediaType) {
  return "MediaSource" in globalThis && MediaSource.isTypeSupported(mediaType);
}

export function bytesOfBase64(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

/** s16le mono out of a stream of bytes that may break anywhere; skips the header of wav. */
export class SampleReader {
  #rest = new Uint8Array(0);
  #isHeaderDue;

  constructor(format) {
    this.#isHeaderDue = format === "wav";
  }

  /** The whole samples that are here now: Float32Array in [-1, 1], perhaps empty. */
  push(bytes) {
    let all = joined([this.#rest, bytes]);
    if (this.#isHeaderDue) {
      const start = this.#readHeader(all);
      if (start === null) {
        this.#rest = all;
        return new Float32Array(0);
      }
      all = all.subarray(start);
      this.#isHeaderDue = false;
    }
    const count = all.length >> 1;
    this.#rest = all.slice(count * 2);
    const view = new DataView(all.buffer, all.byteOffset, count * 2);
    return Float32Array.from({ length: count }, (_, i) => view.getInt16(i * 2, true) / 32768);
  }

  /** Where the samples begin, or null while the header is not whole. */
  #readHeader(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 12; at + 8 <= bytes.length;) {
      if (view.getUint32(at) === DATA) return at + 8;
      at += 8 + view.getUint32(at + 4, true);
    }
    return null;
  }
}

/** The file of a clip. A streamed wav does not know its length: here it is told. */
export function fileOf(format, parts) {
  const bytes = joined(parts);
  if (format === "wav") writeSizes(bytes);
  return new Blob([bytes], { type: FORMATS[format].mediaType });
}

/** A blob that an audio element plays: pcm gets the header of wav. */
export async function playableOf(format, blob) {
  if (format !== "pcm") return blob;
  const samples = new Uint8Array(await blob.arrayBuffer());
  return new Blob([wavHeader(samples.length), samples], { type: FORMATS.wav.mediaType });
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function writeSizes(bytes) {
  const view = new DataView(bytes.buffer);
  view.setUint32(4, bytes.length - 8, true);
  for (let at = 12; at + 8 <= bytes.length; at += 8 + view.getUint32(at + 4, true)) {
    if (view.getUint32(at) === DATA) {
      view.setUint32(at + 4, bytes.length - at - 8, true);
      return;
    }
  }
}

function wavHeader(dataBytes) {
  const view = new DataView(new ArrayBuffer(WAV_HEADER_BYTES));
  view.setUint32(0, 0x52494646); // "RIFF"
  view.setUint32(4, dataBytes + 36, true);
  view.setUint32(8, 0x57415645); // "WAVE"
  view.setUint32(12, 0x666d7420); // "fmt "
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // mono
  view.setUint32(24, PCM_RATE, true);
  view.setUint32(28, PCM_RATE * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  view.setUint32(36, DATA);
  view.setUint32(40, dataBytes, true);
  return view.buffer;
}
