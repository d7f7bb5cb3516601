// The Speak page: a text, how it is to be spoken, and the speech as it comes.

import { FORMATS, isLive, PCM_RATE, playableOf } from "./audio.js";
import { ClipList } from "./clip-list.js";
import { ClipView, clock } from "./clip-view.js";
import { h, icon } from "./dom.js";
import * as history from "./history.js";
import { languageName, onLanguage, t } from "./i18n.js";
import { audioContext, MediaPlayer, StreamPlayer } from "./player.js";
import { characters, languagesOf } from "./scripts.js";
import { SpeakForm } from "./speak-form.js";
import { speak } from "./speech.js";
import { Take } from "./take.js";

const NAME_CHARS = 40;
const LANGUAGES_SHOWN = 3;

export function mount(section, ctx) {
  return new SpeakPage(section, ctx);
}

class SpeakPage {
  #ctx;
  #player = null;
  #abort = null; // Of the speech that is being made.
  #url = null;
  #isShown = false;
  #fresh = () => {}; // Tells the facts of the clip at hand anew, in another language.

  constructor(section, ctx) {
    this.#ctx = ctx;
    this.form = new SpeakForm(ctx.store.get("speak", {}), () => this.#changed());
    this.view = new ClipView();
    this.clips = new ClipList({
      play: (clip) => this.#replay(clip).catch(ctx.toast.showError),
      reuse: (clip) => this.#reuse(clip),
      download: (clip) => save(clip.blob, nameOf(clip.text, clip.format)),
    });
    section.append(this.#layout());
    this.text.value = ctx.store.get("draft", "");
    this.#changed();
    document.addEventListener("keydown", (event) => this.#key(event));
    onLanguage(() => this.#changed());
    onLanguage(() => this.#fresh());
    this.clips.refresh().catch(ctx.toast.showError);
    window.rhapsode = Object.freeze({ ...window.rhapsode, player: stateOf(() => this.#player) });
  }

  /** params: {voice, text}, both optional. */
  async shown({ voice, text } = {}) {
    this.#isShown = true;
    if (text) this.text.value = text;
    if (voice) this.form.values = { ...this.form.values, voice };
    try {
      await this.form.reload();
    } catch (error) {
      this.#ctx.toast.showError(error);
    }
  }

  hidden() {
    this.#isShown = false;
  }

  #layout() {
    this.text = h("textarea", {
      class: "compose-text",
      id: "text",
      "data-testid": "text",
      rows: 7,
      i18nLabel: "speak.text",
      i18nPlaceholder: "speak.text.placeholder",
      oninput: () => this.#changed(),
    });
    this.count = h("span", { id: "count", "data-testid": "count", class: "number" });
    this.detected = h("span", { id: "detected", "data-testid": "detected" });
    this.example = h("button", {
      class: "button button-quiet button-small",
      type: "button",
      id: "example",
      "data-testid": "example",
      i18n: "speak.example",
      onclick: () => this.#fill(t("speak.example.text")),
    });
    this.speakButton = h(
      "button",
      {
        class: "button button-primary",
        type: "button",
        id: "speak-button",
        "data-testid": "speak",
        onclick: () => this.#speak(),
      },
      icon("play"),
      h("span", { i18n: "speak.speak" }),
      h("kbd", { "aria-hidden": "true" }, navigator.platform.startsWith("Mac") ? "⌘↵" : "Ctrl ↵"),
    );
    this.stopButton = h(
      "button",
      {
        class: "button",
        type: "button",
        id: "stop-button",
        "data-testid": "stop",
        hidden: true,
        onclick: () => this.#stop(),
      },
      icon("stop"),
      h("span", { i18n: "speak.stop" }),
      h("kbd", { "aria-hidden": "true" }, "Esc"),
    );
    const foot = h(
      "div",
      { class: "compose-foot" },
      h("p", { class: "compose-facts muted small" }, this.count, this.detected),
      this.example,
      h("div", { class: "compose-actions" }, this.stopButton, this.speakButton),
    );
    const rail = h(
      "details",
      { class: "card speak-rail", id: "settings", open: matchMedia("(min-width: 961px)").matches },
      h(
        "summary",
        { class: "speak-summary", "data-testid": "settings" },
        h("h2", { i18n: "speak.settings" }),
        icon("chevron"),
      ),
      h("div", { class: "card-body" }, this.form.rail),
    );
    return h(
      "div",
      { class: "speak" },
      h("h1", { class: "visually-hidden", i18n: "speak.title" }),
      h("div", { class: "card compose" }, this.form.top, this.form.modelHint, this.text, foot),
      this.view.node,
      rail,
      this.clips.node,
    );
  }

  #changed() {
    const text = this.text.value;
    this.#ctx.store.set("speak", this.form.values);
    this.#ctx.store.set("draft", text);
    const { language } = this.form.values;
    const tags = language ? [language] : languagesOf(text, this.form.latin);
    this.count.textContent = t("speak.characters", {
      count: characters(text).toLocaleString(document.documentElement.lang),
    });
    this.detected.textContent = text.trim()
      ? tags.slice(0, LANGUAGES_SHOWN).map(languageName).join(" + ")
      : "";
    this.example.hidden = text !== "";
    this.speakButton.setAttribute("aria-disabled", String(!text.trim()));
  }

  #fill(text) {
    this.text.value = text;
    this.#changed();
    this.text.focus();
  }

  #key(event) {
    if (!this.#isShown || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.#speak();
    } else if (event.key === "Escape") this.#stop();
  }

  /** The clip at hand becomes another. */
  #open(player, text) {
    this.#abort?.abort();
    this.#player?.stop();
    this.#player = player;
    player.addEventListener("change", () => player === this.#player && this.#showStop());
    this.view.open(player, text);
    this.#offer(null);
  }

  async #speak() {
    const input = this.text.value;
    if (!input.trim()) return this.text.focus();
    audioContext();
    const settings = this.form.values;
    const format = settings.response_format;
    const take = new Take(format, this.#newPlayer(format));
    this.#open(take.player, input);
    const abort = (this.#abort = new AbortController());
    const body = { input, ...this.form.body };
    this.#fresh = () => this.#tell(take);
    this.view.show("waiting", null);
    this.#tell(take);
    this.#showStop();
    if (isLive(format)) take.player.play();
    try {
      take.outcome = await speak(body, abort.signal, {
        start: (answer) => this.#begin(take, answer),
        audio: (bytes, progress) => this.#take(take, bytes, progress),
      });
      await take.end();
      await this.#done(take, { text: input, settings, voiceName: this.form.voice.selected?.label });
    } catch (error) {
      await this.#failed(take, error);
    } finally {
      if (this.#abort === abort) this.#abort = null;
      this.#showStop();
    }
  }

  #newPlayer(format) {
    if (FORMATS[format].heard === "pcm") return new StreamPlayer(PCM_RATE);
    return new MediaPlayer(FORMATS[format].mediaType, { isLive: isLive(format) });
  }

  #begin(take, answer) {
    take.answer = answer;
    if (answer.ignored.length)
      this.view.note(
        t("speak.ignored", { engine: answer.engine, fields: answer.ignored.join(", ") }),
        "note-warning",
      );
    if (answer.voice === "followed" || answer.voice === "ignored")
      this.view.note(t(`speak.voice.${answer.voice}`, { engine: answer.engine }));
    if (!isLive(take.format)) take.note = this.view.note(t("speak.format.whole"));
  }

  #take(take, bytes, progress) {
    take.push(bytes);
    take.progress = progress;
    this.view.show("speaking", progress);
    this.#tell(take);
  }

  async #done(take, facts) {
    this.view.show("done");
    take.note?.remove();
    this.#tell(take);
    if (!isLive(take.format)) take.player.play();
    const clip = {
      id: `${Date.now()}-${Math.random()}`,
      at: Date.now(),
      ...facts,
      format: take.format,
      blob: take.blob,
      duration: take.player.duration,
      engine: take.answer.engine,
      numbers: take.numbers,
    };
    this.#offer(clip);
    await history.keep(clip);
    await this.clips.refresh();
  }

  /** What came before the end can be heard, but is not kept. */
  async #failed(take, error) {
    const isStopped = error.name === "AbortError";
    const isAtHand = take.player === this.#player;
    if (take.parts.length) await take.end();
    else take.player.pause();
    if (isAtHand) {
      this.view.show(isStopped ? "stopped" : "failed");
      this.#tell(take);
    }
    this.#ctx.toast.showError(error);
  }

  #stop() {
    this.#abort?.abort();
    if (this.#player?.isPlaying) this.#player.pause();
  }

  #showStop() {
    const isActive = this.#abort !== null || Boolean(this.#player?.isPlaying);
    if (!isActive && document.activeElement === this.stopButton) this.speakButton.focus();
    this.stopButton.hidden = !isActive;
  }

  async #replay(clip) {
    audioContext();
    const player = new MediaPlayer(FORMATS[clip.format].mediaType, { isLive: false });
    this.#open(player, clip.text);
    this.#fresh = () => {
      this.view.show("done");
      this.view.tell(factsOf({ ...clip, length: clip.duration }));
    };
    this.#fresh();
    this.#offer(clip);
    await player.end(await playableOf(clip.format, clip.blob));
    player.play();
  }

  #reuse(clip) {
    this.form.values = clip.settings;
    this.#fill(clip.text);
    this.#ctx.toast.say(t("speak.history.reused"));
  }

  #tell(take) {
    if (take.player !== this.#player) return;
    this.view.tell(
      factsOf({ engine: take.answer?.engine, numbers: take.numbers, length: take.player.duration }),
    );
  }

  #offer(clip) {
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = clip && URL.createObjectURL(clip.blob);
    this.view.offer(clip && { url: this.#url, name: nameOf(clip.text, clip.format) });
  }
}

function factsOf({ engine, numbers, length }) {
  const { first_s, ttfa_s, rtf, underrun_s } = numbers ?? {};
  const ms = (seconds) => (seconds == null ? null : t("speak.ms", { value: Math.round(seconds * 1000) }));
  return [
    ["engine", engine],
    ["first", ms(first_s)],
    ["ttfa", ms(ttfa_s)],
    ["rtf", rtf == null ? null : rtf.toPrecision(2)],
    ["length", length ? clock(length) : null],
    ["underrun", underrun_s ? ms(underrun_s) : null],
  ];
}

/** For tests and the curious: read-only. */
function stateOf(current) {
  const names = ["currentTime", "duration", "isPlaying", "isComplete", "peak", "underrun_s"];
  const state = {};
  for (const name of names)
    Object.defineProperty(state, name, { get: () => current()?.[name] ?? null, enumerable: true });
  return Object.freeze(state);
}

function nameOf(text, format) {
  const words = text
    .trim()
    .slice(0, NAME_CHARS)
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-|-$/g, "");
  return `${words || "speech"}.${format}`;
}

function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000); // The download has begun by then.
}
