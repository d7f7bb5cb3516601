// The clip at hand: its waveform, how far it is, its numbers, and what can be done with it.

import { h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { Waveform } from "./waveform.js";

/** "0:07", "12:30". */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export class ClipView {
  #waveform;
  #player = null;
  #progress = null;
  #frame = null;

  constructor() {
    this.play = h(
      "button",
      {
        class: "button-round",
        type: "button",
        id: "play",
        "data-testid": "play",
        disabled: true,
        onclick: () => this.#player?.toggle(),
      },
      icon("play"),
    );
    this.canvas = h("canvas", { class: "clip-wave", "data-testid": "waveform", "aria-hidden": "true" });
    this.seek = h("input", {
      class: "clip-seek",
      type: "range",
      id: "seek",
      "data-testid": "seek",
      min: 0,
      max: 0,
      step: 0.01,
      value: 0,
      disabled: true,
      i18nLabel: "speak.position",
      oninput: () => this.#player?.seek(Number(this.seek.value)),
    });
    this.time = h("span", { class: "clip-time number muted small", "data-testid": "time" });
    this.text = h("p", { class: "clip-text", "data-testid": "clip-text" });
    this.state = h("span", { class: "badge", id: "state", "data-testid": "state", role: "status" });
    this.progress = h("progress", {
      class: "progress",
      id: "progress",
      "data-testid": "progress",
      max: 1,
      i18nLabel: "speak.progress",
      hidden: true,
    });
    this.facts = h("dl", { class: "facts clip-facts", "data-testid": "facts" });
    this.notes = h("div", { class: "stack clip-notes", "data-testid": "notes" });
    this.download = h(
      "a",
      { class: "button button-small", id: "download", "data-testid": "download", hidden: true },
      icon("download"),
      h("span", { i18n: "speak.download" }),
    );
    this.node = h(
      "section",
      { class: "card clip", id: "clip", "data-testid": "clip", i18nLabel: "speak.clip", hidden: true },
      this.progress,
      h(
        "div",
        { class: "card-body stack" },
        h("div", { class: "clip-head" }, this.state, this.text),
        h(
          "div",
          { class: "clip-player" },
          this.play,
          h("div", { class: "clip-wave-box" }, this.canvas, this.seek),
          this.time,
        ),
        h("div", { class: "clip-foot" }, this.facts, this.download),
        this.notes,
      ),
    );
    this.#waveform = new Waveform(this.canvas);
    new ResizeObserver(() => this.#draw()).observe(this.canvas);
    new MutationObserver(() => this.#draw()).observe(document.documentElement, {
      attributes: true,
      attributeFilter: ["data-theme"],
    });
  }

  /** Begin with another clip. */
  open(player, text) {
    this.#player = player;
    this.#progress = null;
    this.node.hidden = false;
    this.text.textContent = text;
    this.offer(null);
    this.notes.replaceChildren();
    player?.addEventListener("change", () => this.#update());
    this.#update();
    this.node.scrollIntoView({ block: "nearest" });
  }

  /** state: a key of "speak.state."; `progress`: the server's, null if it tells none, undefined: over. */
  show(state, progress) {
    this.state.textContent = t(`speak.state.${state}`);
    this.state.className = `badge${{ speaking: " badge-accent", failed: " badge-danger", stopped: " badge-warning" }[state] ?? ""}`;
    this.state.dataset.state = state;
    this.progress.hidden = progress === undefined;
    if (typeof progress === "number") this.progress.value = progress;
    else this.progress.removeAttribute("value");
    this.#progress = progress;
    this.#draw();
  }

  /** facts: [name, value] pairs, keys of "speak.fact.". */
  tell(facts) {
    const pairs = facts.filter(([, value]) => value != null);
    this.facts.replaceChildren(
      ...pairs.map(([name, value]) =>
        h(
          "div",
          { dataset: { testid: `fact-${name}` } },
          h("dt", {}, t(`speak.fact.${name}`)),
          h("dd", {}, value),
        ),
      ),
    );
  }

  /** Returns the note, to be removed when it is no longer so. */
  note(text, kind = "") {
    const note = h("p", { class: `note ${kind}` }, text);
    this.notes.append(note);
    return note;
  }

  /** Offer {url, name} for download, or nothing. */
  offer(file) {
    this.download.hidden = file === null;
    if (!file) return;
    this.download.href = file.url;
    this.download.download = file.name;
  }

  #update() {
    const player = this.#player;
    const isPlaying = player?.isPlaying ?? false;
    this.play.replaceChildren(icon(isPlaying ? "pause" : "play"));
    this.play.setAttribute("aria-label", t(isPlaying ? "speak.pause" : "speak.play"));
    this.play.disabled = this.seek.disabled = !player?.duration;
    this.#draw();
    if (isPlaying && this.#frame === null) this.#frame = requestAnimationFrame(() => this.#tick());
  }

  #tick() {
    this.#frame = null;
    const player = this.#player;
    if (!player?.isPlaying) return;
    this.#draw();
    this.#frame = requestAnimationFrame(() => this.#tick());
  }

  #draw() {
    const player = this.#player;
    const time = player?.currentTime ?? 0;
    const duration = player?.duration ?? 0;
    const isGrowing = player && !player.isComplete && this.#progress > 0;
    const total = isGrowing ? duration / this.#progress : duration;
    this.seek.max = total;
    this.seek.value = time;
    this.seek.setAttribute("aria-valuetext", `${clock(time)} / ${clock(duration)}`);
    this.time.textContent = `${clock(time)} / ${clock(duration)}`;
    this.#waveform.draw({ envelope: player?.envelope ?? null, duration, total, time });
  }
}
