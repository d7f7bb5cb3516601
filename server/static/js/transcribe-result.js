// The transcript as it comes: segments that seek the player, files to save.

import { clear, h, icon } from "./dom.js";
import { onLanguage, t } from "./i18n.js";
import { say, showError } from "./toast.js";
import { FILES } from "./transcribe-files.js";

const KINDS = {
  done: "badge badge-accent",
  running: "badge badge-accent",
  stopped: "badge",
  failed: "badge badge-danger",
};

/** @param {HTMLAudioElement} player Of the recording. */
export function transcriptView(player) {
  let transcript = null;
  let state = null;

  const badge = h("span", { id: "transcribe-state", hidden: true });
  const progress = h("progress", {
    class: "progress",
    id: "transcribe-progress",
    max: "1",
    hidden: true,
    i18nLabel: "transcribe.progress",
  });
  const empty = h("p", { class: "empty", id: "transcribe-empty" });
  const list = h("ol", { class: "transcribe-segments", id: "transcribe-segments" });
  const plain = h("p", { class: "transcribe-text", id: "transcribe-text", hidden: true });
  const copy = h(
    "button",
    { type: "button", class: "button button-small", id: "transcribe-copy", onclick: copyText },
    icon("copy"),
    h("span", { i18n: "transcribe.copy" }),
  );
  const saves = Object.keys(FILES).map((extension) =>
    h(
      "button",
      {
        type: "button",
        class: "button button-small",
        id: `transcribe-save-${extension}`,
        i18nLabel: "transcribe.save",
        i18nParams: { extension: extension.toUpperCase() },
        onclick: () => save(extension),
      },
      icon("download"),
      h("span", {}, extension.toUpperCase()),
    ),
  );
  const foot = h("div", { class: "transcribe-foot row", hidden: true }, copy, saves);
  const node = h(
    "section",
    {
      class: "card transcribe-result",
      id: "transcribe-result",
      "aria-labelledby": "transcribe-result-title",
      "aria-busy": "false",
    },
    h("div", { class: "card-head" }, h("h2", { id: "transcribe-result-title", i18n: "transcribe.result" }), badge),
    progress,
    h("div", { class: "transcribe-body" }, empty, list, plain),
    foot,
  );
  player.addEventListener("timeupdate", follow);
  onLanguage(render);
  reset();

  function reset() {
    transcript = null;
    state = null;
    clear(list);
    plain.textContent = "";
    render();
  }

  function begin({ name, model }) {
    transcript = { file: name, model, language: null, duration: null, text: "", segments: [] };
    state = "running";
    clear(list);
    plain.textContent = "";
    progress.removeAttribute("value");
    render();
  }

  function take({ segment, delta, text, language }) {
    if (segment) {
      transcript.segments.push(segment);
      list.append(lineOf(segment));
      if (Number.isFinite(player.duration)) progress.value = Math.min(1, segment.end / player.duration);
    } else if (delta !== undefined) {
      transcript.text += delta;
      plain.textContent = transcript.text;
    } else {
      Object.assign(transcript, { text, language });
      plain.textContent = text;
    }
    render();
  }

  function end(how) {
    if (!transcript) return;
    state = how;
    if (Number.isFinite(player.duration)) transcript.duration = Number(player.duration.toFixed(3));
    render();
  }

  function render() {
    const isRunning = state === "running";
    const hasTimes = Boolean(transcript?.segments.length);
    const hasText = hasTimes || Boolean(transcript?.text);
    node.setAttribute("aria-busy", String(isRunning));
    badge.hidden = !state;
    badge.className = KINDS[state] ?? "badge";
    badge.textContent = state ? t(`transcribe.state.${state}`) : "";
    progress.hidden = !isRunning;
    empty.hidden = hasText;
    empty.textContent = t(
      isRunning ? "transcribe.listening" : state === "done" ? "transcribe.nothing" : "transcribe.empty",
    );
    list.hidden = !hasTimes;
    plain.hidden = hasTimes || !hasText;
    foot.hidden = isRunning || !hasText;
    for (const button of saves) button.hidden = !hasTimes && /srt|vtt/.test(button.id);
  }

  function lineOf(segment) {
    const button = h(
      "button",
      {
        type: "button",
        class: "transcribe-segment",
        "data-testid": "segment",
        dataset: { start: segment.start },
        onclick: () => seek(segment.start),
      },
      h("span", { class: "transcribe-time number" }, clock(segment.start)),
      h("span", {}, segment.text.trim()),
    );
    return h("li", {}, button);
  }

  function seek(seconds) {
    player.currentTime = seconds;
    player.play().catch(showError);
  }

  /** Mark the segment that is heard now. */
  function follow() {
    const now = player.currentTime;
    const at = transcript?.segments.findLastIndex(({ start }) => start <= now + 0.05) ?? -1;
    const isHeard = at >= 0 && now > 0 && now < transcript.segments[at].end + 0.25;
    for (const old of list.querySelectorAll("[aria-current]")) old.removeAttribute("aria-current");
    if (isHeard) list.children[at].firstChild.setAttribute("aria-current", "true");
  }

  async function copyText() {
    try {
      await navigator.clipboard.writeText(textOf(transcript));
      say(t("transcribe.copied"));
    } catch (error) {
      showError(error);
    }
  }

  function save(extension) {
    const { type, write } = FILES[extension];
    const content = write({ ...transcript, text: textOf(transcript) });
    const url = URL.createObjectURL(new Blob([content], { type: `${type};charset=utf-8` }));
    h("a", { href: url, download: `${transcript.file.replace(/\.[^.]*$/, "")}.${extension}` }).click();
    URL.revokeObjectURL(url);
  }

  return { node, reset, begin, take, end };
}

function textOf({ text, segments }) {
  return (
    text ||
    segments
      .map((segment) => segment.text)
      .join("")
      .trim()
  );
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  const two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
