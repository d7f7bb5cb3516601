// A transcript as files, made of its segments {start, end, text}; times are seconds.

const COLUMNS = 42;
const LINES = 2;
const WIDE = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6]/u;
const UNSPACED = /[\u2e80-\ua4cf\uf900-\ufaff\uff00-\uff60]/u;
const CLINGS_BACK = /[\p{Pe}\p{Pf}\p{Po}\p{Lm}ぁぃぅぇぉっゃゅょァィゥェォッャュョ]/u;

/** What can be saved, by file name extension. */
export const FILES = {
  txt: { type: "text/plain", write: ({ text }) => `${text}\n` },
  srt: { type: "application/x-subrip", write: ({ segments }) => subtitles(segments, srtCue) },
  vtt: { type: "text/vtt", write: ({ segments }) => `WEBVTT\n\n${subtitles(segments, vttCue)}` },
  json: { type: "application/json", write: (transcript) => `${JSON.stringify(transcript, null, 2)}\n` },
};

function subtitles(segments, write) {
  return segments.flatMap(cuesOf).map(write).join("");
}

function srtCue({ start, end, lines }, index) {
  return `${index + 1}\n${clock(start, ",")} --> ${clock(end, ",")}\n${lines.join("\n")}\n\n`;
}

function vttCue({ start, end, lines }) {
  const escaped = lines.map((line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;"));
  return `${clock(start, ".")} --> ${clock(end, ".")}\n${escaped.join("\n")}\n\n`;
}

/** A segment as cues of two lines; each has the share of the time that its text has. */
function cuesOf({ start, end, text }) {
  const lines = wrap(text.trim().replace(/\s+/gu, " "));
  const total = lines.join("").length;
  const cues = [];
  let before = 0;
  for (let i = 0; i < lines.length; i += LINES) {
    const shown = lines.slice(i, i + LINES);
    const after = before + shown.join("").length;
    const at = (count) => start + ((end - start) * count) / total;
    cues.push({ start: at(before), end: Math.max(at(after), at(before) + 0.001), lines: shown });
    before = after;
  }
  return cues;
}

function wrap(text) {
  const lines = [];
  let line = "";
  for (const piece of pieces(text)) {
    if (line && width(line + piece.trimEnd()) > COLUMNS) {
      lines.push(line.trim());
      line = "";
    }
    line += piece;
  }
  if (line.trim()) lines.push(line.trim());
  return lines;
}

/** The stretches between which a line may end: behind a space, around what is written without. */
function pieces(text) {
  const found = [];
  for (const char of text) {
    const last = found.at(-1) ?? "";
    const mayBreak =
      last.endsWith(" ") || ((UNSPACED.test(char) || UNSPACED.test(last.slice(-1))) && !CLINGS_BACK.test(char));
    if (found.length === 0 || (mayBreak && char !== " ")) found.push(char);
    else found[found.length - 1] += char;
  }
  return found;
}

function width(text) {
  let columns = 0;
  for (const char of text) columns += WIDE.test(char) ? 2 : 1;
  return columns;
}

function clock(seconds, point) {
  const ms = Math.round(seconds * 1000);
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const rest = String(ms % 1000).padStart(3, "0");
  return `${two(ms / 3.6e6)}:${two((ms / 6e4) % 60)}:${two((ms / 1000) % 60)}${point}${rest}`;
}
