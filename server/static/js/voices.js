// The library of voices.

import { acceptDrops } from "./recorder-source.js";
import { clear, h, icon } from "./dom.js";
import { languageName, onLanguage } from "./i18n.js";
import { addForm } from "./voices-add.js";
import { voiceCard } from "./voices-card.js";
import { stop } from "./voices-player.js";

const GROUPS = [
  ["audio_sample", "voices.group.own"],
  ["builtin", "voices.group.builtin"],
  ["engine", "voices.group.engine"],
];

export function mount(section, { api, t, toast, go }) {
  let voices = [];
  let isLoaded = false;
  const open = new Set();

  const groups = h("div", { class: "stack-large", id: "voices-groups" });
  const search = h("input", {
    type: "search",
    class: "input",
    id: "voices-search",
    i18nLabel: "voices.search",
    i18nPlaceholder: "voices.search",
    oninput: render,
  });
  const add = h(
    "button",
    {
      type: "button",
      class: "button button-primary",
      id: "voices-add",
      "aria-expanded": "false",
      "aria-controls": "add-voice",
    },
    icon("plus"),
    h("span", { i18n: "voices.add" }),
  );
  const form = addForm({
    languageName,
    onAdded: (voice) => {
      search.value = "";
      put(voice);
    },
    onClose: () => {
      add.setAttribute("aria-expanded", "false");
      add.focus();
    },
  });
  const archive = h("input", {
    type: "file",
    class: "visually-hidden",
    id: "voices-import",
    accept: ".zip,application/zip",
    i18nLabel: "voices.import",
  });

  section.append(
    h(
      "div",
      { class: "panel-head" },
      h("div", {}, h("h1", { i18n: "voices.title" }), h("p", { i18n: "voices.lead" })),
      h(
        "div",
        { class: "row" },
        h("label", { class: "button voices-import" }, archive, icon("upload"), h("span", { i18n: "voices.import" })),
        add,
      ),
    ),
    form.node,
    h("div", { class: "input-with-icon voices-search" }, icon("search"), search),
    groups,
  );

  add.addEventListener("click", () => (form.node.hidden ? openForm() : form.close()));
  archive.addEventListener("change", () => importVoice(archive.files[0]).catch(toast.showError));
  acceptDrops(section, (file) =>
    file.name.endsWith(".zip") ? importVoice(file).catch(toast.showError) : openForm(file),
  );
  onLanguage(render);

  function openForm(file) {
    add.setAttribute("aria-expanded", "true");
    form.open(file);
  }

  async function importVoice(file) {
    if (!file) return;
    const body = new FormData();
    body.set("file", file, file.name);
    archive.value = "";
    const voice = await api.json("/v1/audio/voices/import", { method: "POST", body });
    toast.say(t("voices.imported", { name: voice.name }));
    put(voice);
  }

  async function load() {
    try {
      const answer = await api.json("/v1/audio/voices");
      // As it is: whoever comes back to a half-written correction finds it.
      if (isLoaded && JSON.stringify(answer.voices) === JSON.stringify(voices)) return;
      voices = answer.voices;
      isLoaded = true;
      render();
    } catch (error) {
      toast.showError(error);
    }
  }

  /** Show a voice that is new, or has changed. */
  function put(voice) {
    const others = voices.filter(({ id }) => id !== voice.id);
    voices = [voice, ...others];
    open.add(voice.id);
    render();
    const title = groups.querySelector(`[data-voice="${CSS.escape(voice.id)}"] h3`);
    title?.focus({ preventScroll: true });
    title?.scrollIntoView({ block: "center", behavior: "smooth" });
  }

  function render() {
    if (!isLoaded) return;
    stop();
    const words = search.value.trim().toLowerCase();
    const found = voices.filter((voice) => matches(voice, words));
    const parts = GROUPS.map(([type, key]) =>
      group(
        type,
        key,
        found.filter((voice) => voice.type === type),
        words,
      ),
    ).filter(Boolean);
    clear(groups).append(...parts);
    if (words && found.length === 0) groups.append(h("p", { class: "empty", id: "voices-none", i18n: "voices.none" }));
  }

  function group(type, key, found, words) {
    const isOwn = type === "audio_sample";
    if (found.length === 0 && (!isOwn || words)) return null;
    const count = h("span", { class: "badge number" }, found.length);
    const head = [h("h2", { i18n: key }), count];
    if (isOwn) {
      const newest = [...found].sort((one, other) => other.created_at - one.created_at);
      const list = found.length
        ? h("ul", { class: "list" }, newest.map(card))
        : h("p", { class: "empty", id: "voices-empty", i18n: "voices.empty" });
      return h(
        "section",
        { class: "stack", id: "voices-own" },
        h("div", { class: "row" }, head),
        h("div", { class: "card" }, list),
      );
    }
    const grid = [
      h("p", { class: "hint", id: `voices-hint-${type}`, i18n: "voices.tiles" }),
      h("ul", { class: "voices-grid" }, found.map(tile)),
    ];
    if (type === "builtin")
      return h("section", { class: "stack", id: "voices-builtin" }, h("div", { class: "row" }, head), grid);
    return h(
      "details",
      { class: "voices-engine", id: "voices-engine", open: words !== "" },
      h("summary", { class: "row" }, icon("chevron"), head),
      h("div", { class: "stack" }, grid),
    );
  }

  function card(voice) {
    return voiceCard(voice, {
      isOpen: open.has(voice.id),
      onToggle: (is) => (is ? open.add(voice.id) : open.delete(voice.id)),
      onSpeak: () => go("speak", { voice: voice.id }),
      onChange: put,
      onGone: () => {
        voices = voices.filter(({ id }) => id !== voice.id);
        render();
        add.focus();
      },
    });
  }

  function tile(voice) {
    return h(
      "li",
      {},
      h(
        "button",
        {
          type: "button",
          class: "voices-tile",
          "data-testid": "voice-tile",
          dataset: { voice: voice.id },
          "aria-describedby": `voices-hint-${voice.type}`,
          onclick: () => go("speak", { voice: voice.id }),
        },
        h("span", { class: "voices-tile-name" }, voice.name),
        voice.language && h("span", { class: "small muted" }, languageName(voice.language)),
      ),
    );
  }

  return {
    shown: () => load(),
    hidden: () => {
      stop();
      form.leave();
    },
  };
}

function matches(voice, words) {
  const language = voice.language ? `${voice.language} ${languageName(voice.language)}` : "";
  const text = [voice.id, voice.name, language, voice.description, voice.prompt_text].join(" ").toLowerCase();
  return words.split(/\s+/).every((word) => text.includes(word));
}
