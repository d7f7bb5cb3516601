// Which model listens, and for which language.

import { clear, h } from "./dom.js";
import { languageName, t } from "./i18n.js";
import * as store from "./store.js";

// Those that Whisper knows.
const LANGUAGES =
  "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh".split(
    " ",
  );

/** @returns {{node: HTMLElement, take: (models: object[]) => void, render: () => void, value: () => {model: string, language: string}}} */
export function modelChoices() {
  let models = [];
  let preferred = "";
  const model = h("select", { class: "select", id: "transcribe-model", "aria-describedby": "transcribe-model-hint" });
  const language = h("select", {
    class: "select",
    id: "transcribe-language",
    "aria-describedby": "transcribe-language-hint",
  });
  const modelHint = h("p", { class: "hint", id: "transcribe-model-hint" });
  const languageHint = h("p", { class: "hint", id: "transcribe-language-hint", i18n: "transcribe.language.unused" });
  model.addEventListener("change", () => {
    store.set("transcribe.model", model.value);
    describe();
  });
  language.addEventListener("change", () => store.set("transcribe.language", language.value));

  /** Engines by their own names; what "whisper-1" means here is the server's choice. */
  function take(all) {
    const listening = all.filter(({ task }) => task === "transcription");
    models = listening.filter(({ id, engine }) => id === engine);
    preferred = listening.find(({ id, engine, state }) => id !== engine && state !== "absent")?.engine ?? "";
    render();
  }

  function render() {
    const wanted = model.value || store.get("transcribe.model", preferred);
    clear(model).append(
      ...models.map(({ id, state }) =>
        h(
          "option",
          { value: id, disabled: state === "absent" },
          state === "absent" ? t("transcribe.model.absent", { id }) : id,
        ),
      ),
    );
    const usable = models.filter(({ state }) => state !== "absent").map(({ id }) => id);
    model.value = [wanted, preferred, ...usable].find((id) => usable.includes(id)) ?? "";
    const spoken = language.value || store.get("transcribe.language", "");
    const names = LANGUAGES.map((code) => [code, languageName(code)]).sort(([, one], [, other]) =>
      one.localeCompare(other),
    );
    clear(language).append(
      h("option", { value: "" }, t("transcribe.language.auto")),
      ...names.map(([code, name]) => h("option", { value: code }, name)),
    );
    language.value = spoken;
    describe();
  }

  function describe() {
    const chosen = models.find(({ id }) => id === model.value);
    modelHint.hidden = chosen?.accurate !== false;
    modelHint.textContent = modelHint.hidden ? "" : t("transcribe.model.inaccurate");
    const ignores = Boolean(chosen?.honours) && !chosen.honours.includes("language");
    language.disabled = ignores;
    language.hidden = ignores;
    languageHint.hidden = !ignores;
  }

  const node = h(
    "div",
    { class: "stack" },
    h(
      "div",
      { class: "field" },
      h("label", { class: "label", for: model.id, i18n: "transcribe.model" }),
      model,
      modelHint,
    ),
    h(
      "div",
      { class: "field" },
      h("label", { class: "label", for: language.id, i18n: "transcribe.language" }),
      language,
      languageHint,
    ),
  );
  return {
    node,
    take,
    render,
    value: () => ({ model: model.value, language: language.disabled ? "" : language.value }),
  };
}
