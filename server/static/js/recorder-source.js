// Where a sound comes from: a file that is dropped or chosen, or the microphone.

import { h, icon } from "./dom.js";
import { currentLanguage, t } from "./i18n.js";
import { record, recordingObstacle } from "./recorder.js";

const FLOOR_DB = -60;
const QUIET_DB = -36;
const HELD_MS = 1500;
const OBSTACLES = { insecure: "voices.recorder.insecure", unsupported: "voices.recorder.unsupported" };
const DENIED = { NotAllowedError: "voices.recorder.denied", NotFoundError: "voices.recorder.missing" };

/**
 * A drop zone and a recorder.
 *
 * @param {object} options
 * @param {string} options.id Begins the ids of its elements.
 * @param {string} options.hint Key of the words under the invitation to drop.
 * @param {{maxSeconds: number, isRaw: boolean, sampleRate?: number}} options.recording See `record`.
 * @param {(file: File) => void} options.onSound
 * @param {(error: Error) => void} options.onError
 * @returns {{node: HTMLElement, cancel: () => void}} `cancel` ends a recording, unheard.
 */
export function soundSource({ id, hint, recording, onSound, onError }) {
  const input = h("input", {
    type: "file",
    class: "visually-hidden",
    id: `${id}-file`,
    accept: "audio/*,video/*,.flac,.opus,.m4a",
  });
  input.addEventListener("change", () => {
    if (input.files[0]) onSound(input.files[0]);
    input.value = ""; // The same file again is a change, too.
  });
  const drop = h(
    "label",
    { class: "drop", id: `${id}-drop` },
    input,
    icon("upload"),
    h("strong", { i18n: "voices.recorder.drop" }),
    h("span", { class: "small", i18n: hint }),
  );
  acceptDrops(drop, onSound);
  const recorder = microphone({ id, recording, onSound, onError });
  return { node: h("div", { class: "recorder-source" }, drop, recorder.node), cancel: recorder.cancel };
}

/** Let files fall onto a node. */
export function acceptDrops(node, onFile) {
  const over = (is) => (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    event.stopPropagation(); // The page may take files as a whole, too.
    node.classList.toggle("is-over", is);
  };
  node.addEventListener("dragenter", over(true));
  node.addEventListener("dragover", over(true));
  node.addEventListener("dragleave", over(false));
  node.addEventListener("drop", (event) => {
    over(false)(event);
    const [file] = event.dataTransfer.files;
    if (file) onFile(file);
  });
}

function microphone({ id, recording, onSound, onError }) {
  const obstacle = recordingObstacle();
  if (obstacle) {
    const words = h("p", { class: "note", id: `${id}-obstacle`, i18n: OBSTACLES[obstacle] });
    return { node: words, cancel() {} };
  }
  let current = null;
  const start = button(`${id}-record`, "mic", "voices.recorder.start", "button", begin);
  const stop = button(`${id}-record-stop`, "stop", "voices.recorder.stop", "button button-primary", finish);
  const drop = button(`${id}-record-cancel`, "close", "voices.recorder.cancel", "button button-quiet", cancel);
  const level = levelMeter(id);
  const clock = h("span", { class: "number", id: `${id}-record-time` });
  const running = h(
    "div",
    { class: "recorder-running", hidden: true },
    h("div", { class: "row-between" }, h("span", { class: "recorder-on", i18n: "voices.recorder.on" }), clock),
    level.node,
    h("div", { class: "row" }, stop, drop),
  );

  async function begin() {
    start.disabled = true;
    try {
      current = await record({ ...recording, onLevel: heard, onLimit: finish });
    } catch (error) {
      onError(inWords(error));
      return;
    } finally {
      start.disabled = false;
    }
    level.reset();
    heard(0, 0);
    show(true);
    stop.focus();
  }

  async function finish() {
    const ended = current;
    current = null;
    show(false);
    if (ended) onSound(await ended.stop());
  }

  function cancel() {
    if (!current) return;
    current.cancel();
    current = null;
    show(false);
    start.focus();
  }

  function show(isRunning) {
    running.hidden = !isRunning;
    start.hidden = isRunning;
  }

  function heard(peak, seconds) {
    level.set(peak);
    clock.textContent = t("voices.recorder.time", { now: seconds.toFixed(1), most: recording.maxSeconds });
  }

  return { node: h("div", { class: "recorder" }, start, running), cancel };
}

/** A bar of the last moment, and words about the last second and a half. */
function levelMeter(id) {
  const bar = h("span", {});
  const words = h("p", { class: "hint", id: `${id}-level-words`, "aria-live": "polite" });
  let loudest = { db: FLOOR_DB, at: 0 };
  let began = 0;
  let told = "";

  function reset() {
    began = performance.now();
    loudest = { db: FLOOR_DB, at: began };
    told = "";
    words.textContent = "";
    delete bar.parentElement.dataset.level;
  }

  function set(peak) {
    const db = Math.max(FLOOR_DB, 20 * Math.log10(peak || 1e-6));
    const now = performance.now();
    if (db >= loudest.db || now - loudest.at > HELD_MS) loudest = { db, at: now };
    bar.style.transform = `scaleX(${1 - db / FLOOR_DB})`;
    if (now - began < HELD_MS) return; // Nobody speaks at once.
    const verdict = loudest.db > -0.2 ? "loud" : loudest.db < QUIET_DB ? "quiet" : "good";
    if (verdict + currentLanguage() === told) return;
    told = verdict + currentLanguage();
    words.textContent = t(`voices.recorder.level.${verdict}`);
    bar.parentElement.dataset.level = verdict;
  }

  const node = h(
    "div",
    { class: "stack recorder-level" },
    h("div", { class: "level", id: `${id}-level`, "aria-hidden": "true" }, bar),
    words,
  );
  return { node, set, reset };
}

function button(id, symbol, key, kind, onclick) {
  return h("button", { type: "button", class: kind, id, onclick }, icon(symbol), h("span", { i18n: key }));
}

function inWords(error) {
  const key = DENIED[error.name];
  return key ? new Error(t(key), { cause: error }) : error;
}
