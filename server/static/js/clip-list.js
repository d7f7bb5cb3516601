// What this browser has made before: play, download, reuse, delete.

import { confirm } from "./dialog.js";
import { h, icon } from "./dom.js";
import { onLanguage, t } from "./i18n.js";
import * as history from "./history.js";
import { clock } from "./clip-view.js";

/** on.play(clip), on.reuse(clip), on.download(clip). */
export class ClipList {
  #on;

  constructor(on) {
    this.#on = on;
    this.list = h("ul", { class: "list", id: "history", "data-testid": "history" });
    this.empty = h("p", {
      class: "empty small",
      i18n: "speak.history.empty",
      "data-testid": "history-empty",
    });
    this.clearAll = h("button", {
      class: "button button-quiet button-small",
      type: "button",
      "data-testid": "history-clear",
      i18n: "speak.history.clear",
      onclick: () => this.#forgetAll(),
    });
    const head = h(
      "div",
      { class: "row-between history-head" },
      h("h2", { id: "history-title", i18n: "speak.history" }),
      this.clearAll,
    );
    this.node = h(
      "section",
      { class: "history", "aria-labelledby": "history-title" },
      head,
      h("div", { class: "card" }, this.empty, this.list),
    );
    onLanguage(() => this.refresh());
  }

  async refresh() {
    const clips = await history.clips();
    this.list.replaceChildren(...clips.map((clip) => this.#row(clip)));
    this.empty.hidden = clips.length > 0;
    this.clearAll.hidden = clips.length === 0;
  }

  #row(clip) {
    const { settings, text } = clip;
    const when = new Intl.DateTimeFormat(document.documentElement.lang, {
      dateStyle: "medium",
      timeStyle: "short",
    }).format(clip.at);
    const facts = [
      clip.voiceName ?? settings.voice,
      clip.engine,
      clip.format,
      clock(clip.duration),
      when,
    ].join(" · ");
    const button = (name, symbol, act, kind = "") =>
      h(
        "button",
        {
          class: `button-icon ${kind}`,
          type: "button",
          "data-testid": `history-${name}`,
          "aria-label": t(`speak.history.${name}`),
          title: t(`speak.history.${name}`),
          onclick: act,
        },
        icon(symbol),
      );
    return h(
      "li",
      { class: "history-row", dataset: { testid: "history-row", id: clip.id } },
      button("play", "play", () => this.#on.play(clip)),
      h("div", { class: "history-text" }, h("p", {}, text), h("p", { class: "muted small number" }, facts)),
      h(
        "div",
        { class: "history-actions" },
        button("reuse", "reset", () => this.#on.reuse(clip)),
        button("download", "download", () => this.#on.download(clip)),
        button("delete", "trash", () => this.#forget(clip), "is-danger"),
      ),
    );
  }

  async #forget(clip) {
    await history.forget(clip.id);
    await this.refresh();
  }

  async #forgetAll() {
    const words = {
      title: t("speak.history.clear"),
      text: t("speak.history.clear.text"),
      action: t("speak.history.clear.action"),
      cancel: t("speak.cancel"),
    };
    if (!(await confirm({ ...words, isDangerous: true }))) return;
    await history.forgetAll();
    await this.refresh();
  }
}
