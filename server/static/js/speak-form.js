// How it is to be spoken: engine, voice, language, format, speed and sampling. What the chosen
// engine does not honour is disabled, and says why.

import { json } from "./api.js";
import { FORMATS, isLive } from "./audio.js";
import { Combobox } from "./combobox.js";
import { h, icon } from "./dom.js";
import { languageName, onLanguage, t } from "./i18n.js";

const SAMPLING = ["strategy", "temperature", "top_p", "seed"];
const STRATEGIES = ["", "fast", "balanced", "quality"];
const SEED_MAX = 2 ** 31 - 1;
const RANGES = {
  speed: { min: 0.25, max: 4, step: 0.05, start: 1, show: (value) => `${value.toFixed(2)}×` },
  temperature: { min: 0.1, max: 1.5, step: 0.05, start: 0.8, show: (value) => value.toFixed(2) },
  top_p: { min: 0.5, max: 1, step: 0.01, start: 0.8, show: (value) => value.toFixed(2) },
};
const VOICE_GROUPS = ["audio_sample", "builtin", "engine"];

/** The form's two places, `top` (voice, engine) and `rail` (the rest), and what is chosen in it. */
export class SpeakForm {
  #values;
  #models = [];
  #voices = [];
  #ranges = {};
  #reasons = {};
  #onChange;

  /** values: as `values` gave them once. onChange: called after each change. */
  constructor(values, onChange) {
    this.#values = { response_format: "mp3", ...values };
    this.#onChange = onChange;
    this.voice = new Combobox({
      id: "voice",
      testid: "voice",
      label: "speak.voice",
      onChange: (item) => this.#set("voice", item.value),
    });
    this.model = select("model", (value) => this.#set("model", value));
    this.language = select("voice-language", (value) => this.#set("language", value || null));
    this.format = select("format", (value) => this.#set("response_format", value));
    this.seed = h("input", {
      class: "input number",
      id: "seed",
      "data-testid": "seed",
      type: "number",
      min: 0,
      max: SEED_MAX,
      step: 1,
      inputmode: "numeric",
      i18nPlaceholder: "speak.seed.random",
      oninput: () => this.#readSeed(),
    });
    this.dice = h(
      "button",
      {
        class: "button-icon",
        type: "button",
        "data-testid": "seed-new",
        i18nLabel: "speak.seed.new",
        i18nTitle: "speak.seed.new",
        onclick: () => this.#draw(),
      },
      icon("dice"),
    );
    this.strategy = this.#strategies();
    this.modelHint = h("p", { class: "hint", id: "model-hint", "data-testid": "model-hint" });
    this.formatHint = h("p", { class: "hint", id: "format-hint", "data-testid": "format-hint" });
    this.top = h("div", { class: "speak-top" }, field("voice", this.voice.node), field("model", this.model));
    this.rail = this.#rail();
    onLanguage(() => this.#refresh());
    this.#refresh();
  }

  /** What is chosen, null where the engine or the server decides. */
  get values() {
    return {
      ...this.#values,
      voice: this.voice.value ?? this.#values.voice,
      model: this.model.value || this.#values.model,
    };
  }

  set values(values) {
    this.#values = { ...values };
    this.#refresh();
    this.#onChange();
  }

  /** The request's fields: those with a value that the engine does not refuse to honour. */
  get body() {
    const given = Object.entries(this.values).filter(([name, value]) => value != null && this.#honours(name));
    return Object.fromEntries(given);
  }

  get engine() {
    return this.#models.find(({ id }) => id === this.model.value) ?? null;
  }

  /** The language of Latin script: the voice's, else English. */
  get latin() {
    return this.#voices.find(({ id }) => id === this.voice.value)?.language ?? "en";
  }

  /** Ask the server anew what there is. */
  async reload() {
    const [models, voices] = await Promise.all([json("/v1/models"), json("/v1/audio/voices")]);
    const preferred = models.data.find(({ task, id, engine }) => task === "speech" && id !== engine)?.engine;
    const engines = models.data.filter(({ task, id, engine }) => task === "speech" && id === engine);
    this.#models = engines.sort((one, other) => (other.id === preferred) - (one.id === preferred));
    this.#voices = voices.data;
    this.#refresh();
    this.#onChange();
  }

  #set(name, value) {
    this.#values[name] = value;
    this.#refresh();
    this.#onChange();
  }

  #honours(name) {
    return !SAMPLING.includes(name) || (this.engine?.honours?.includes(name) ?? true);
  }

  #rail() {
    const strategyLabel = h("span", { id: "strategy-label", i18n: "speak.strategy" });
    return h(
      "div",
      { class: "stack-large" },
      field("language", this.language, "voice-language"),
      field("format", this.format, "format", this.formatHint),
      this.#range("speed"),
      h("hr", { class: "rule" }),
      h(
        "div",
        { class: "field" },
        h("div", { class: "label" }, strategyLabel, this.#reason("strategy")),
        this.strategy,
      ),
      this.#range("temperature"),
      this.#range("top_p"),
      h(
        "div",
        { class: "field" },
        h("div", { class: "label" }, h("label", { for: "seed", i18n: "speak.seed" }), this.#reason("seed")),
        h("div", { class: "input-row" }, this.seed, this.dice),
      ),
    );
  }

  #strategies() {
    const bar = h("div", {
      class: "segmented",
      role: "radiogroup",
      id: "strategy",
      "aria-labelledby": "strategy-label",
      "data-testid": "strategy",
    });
    for (const name of STRATEGIES) {
      const radio = h("input", {
        type: "radio",
        name: "strategy",
        value: name,
        "data-testid": `strategy-${name || "auto"}`,
        onchange: () => this.#set("strategy", name || null),
      });
      bar.append(h("label", {}, radio, h("span", { i18n: `speak.strategy.${name || "auto"}` })));
    }
    return bar;
  }

  #range(name) {
    const { min, max, step } = RANGES[name];
    const id = name.replace("_", "-");
    const input = h("input", {
      class: "range",
      id,
      "data-testid": id,
      type: "range",
      min,
      max,
      step,
      oninput: () => this.#set(name, Number(input.value)),
    });
    const output = h("output", { for: id, "data-testid": `${id}-value` });
    const reset = h(
      "button",
      {
        class: "button-icon button-reset",
        type: "button",
        "data-testid": `${id}-reset`,
        i18nLabel: `speak.${name}.reset`,
        i18nTitle: `speak.${name}.reset`,
        onclick: () => this.#set(name, null),
      },
      icon("reset"),
    );
    this.#ranges[name] = { input, output, reset };
    const value = h("span", { class: "range-value" }, reset, output, name !== "speed" && this.#reason(name));
    return h(
      "div",
      { class: "field" },
      h("div", { class: "label" }, h("label", { for: id, i18n: `speak.${name}` }), value),
      input,
    );
  }

  /** Where a control says that it has no effect. */
  #reason(name) {
    this.#reasons[name] = h("span", {
      class: "hint",
      id: `${name}-reason`,
      "data-testid": `${name}-reason`,
      hidden: true,
    });
    return this.#reasons[name];
  }

  #readSeed() {
    const seed = this.seed.value === "" ? null : Number(this.seed.value);
    const isValid = seed === null || (Number.isInteger(seed) && seed >= 0 && seed <= SEED_MAX);
    this.seed.setAttribute("aria-invalid", String(!isValid));
    this.#values.seed = isValid ? seed : null;
    this.#onChange();
  }

  #draw() {
    this.#set("seed", crypto.getRandomValues(new Uint32Array(1))[0] >>> 1);
  }

  #refresh() {
    this.#showModels();
    this.#showVoices();
    this.#showLanguages();
    this.#showFormats();
    for (const name of Object.keys(RANGES)) this.#showRange(name);
    for (const radio of this.strategy.querySelectorAll("input"))
      radio.checked = radio.value === (this.#values.strategy ?? "");
    this.seed.value = this.#values.seed ?? "";
    for (const name of SAMPLING) this.#showHonour(name);
  }

  #showModels() {
    const option = ({ id, state }) =>
      h(
        "option",
        { value: id, disabled: state === "absent" },
        state === "ready" ? id : t(`speak.model.${state}`, { name: id }),
      );
    const usable = this.#models.filter(({ state }) => state !== "absent");
    const chosen = usable.find(({ id }) => id === this.#values.model) ?? usable[0];
    this.model.replaceChildren(...this.#models.map(option));
    if (chosen) this.model.value = chosen.id;
    this.modelHint.textContent = this.engine?.description ?? "";
  }

  #showVoices() {
    const rank = ({ type }) => VOICE_GROUPS.indexOf(type);
    const item = ({ id, name, type, language }) => {
      const meta = [language && languageName(language)].filter(Boolean).join(" · ");
      return {
        value: id,
        label: name,
        meta,
        group: t(`speak.voices.${type}`),
        words: `${name} ${id} ${language ?? ""} ${meta}`.toLowerCase(),
      };
    };
    const sorted = this.#voices.toSorted((one, other) => rank(one) - rank(other));
    // The first of a bare server's names, so that what is ready at once is also what is expected.
    const preset = sorted.find(({ type }) => type === "builtin")?.id;
    this.voice.setItems(
      sorted.map(item),
      this.#voices.some(({ id }) => id === this.#values.voice) ? this.#values.voice : preset,
    );
  }

  #showLanguages() {
    const tags = [
      ...new Set(["en", "zh", "ja", ...this.#voices.map(({ language }) => language).filter(Boolean)]),
    ];
    if (this.#values.language && !tags.includes(this.#values.language)) tags.push(this.#values.language);
    const named = tags
      .map((tag) => [tag, languageName(tag)])
      .sort((one, other) => one[1].localeCompare(other[1]));
    this.language.replaceChildren(
      h("option", { value: "" }, t("speak.language.auto")),
      ...named.map(([tag, name]) => h("option", { value: tag }, name)),
    );
    this.language.value = this.#values.language ?? "";
  }

  #showFormats() {
    const option = (name) => h("option", { value: name }, t(`speak.format.${name}`));
    this.format.replaceChildren(...Object.keys(FORMATS).map(option));
    this.format.value = this.#values.response_format;
    this.formatHint.textContent = t(isLive(this.format.value) ? "speak.format.live" : "speak.format.whole");
  }

  #showRange(name) {
    const { input, output, reset } = this.#ranges[name];
    const value = this.#values[name] ?? null;
    const isAuto = value === null;
    input.value = value ?? RANGES[name].start;
    input.classList.toggle("is-auto", isAuto && name !== "speed");
    output.textContent =
      isAuto && name !== "speed" ? t("speak.auto") : RANGES[name].show(Number(input.value));
    if (isAuto && name !== "speed") input.setAttribute("aria-valuetext", t("speak.auto"));
    else input.removeAttribute("aria-valuetext");
    reset.hidden = isAuto;
  }

  #showHonour(name) {
    const isHonoured = this.#honours(name);
    const inputs = { seed: [this.seed, this.dice], strategy: this.strategy.querySelectorAll("input") }[name];
    for (const control of inputs ?? [this.#ranges[name].input, this.#ranges[name].reset]) {
      control.disabled = !isHonoured;
      if (isHonoured) control.removeAttribute("aria-describedby");
      else control.setAttribute("aria-describedby", `${name}-reason`);
    }
    if (this.#ranges[name]) this.#ranges[name].output.hidden = !isHonoured;
    this.#reasons[name].hidden = isHonoured;
    this.#reasons[name].textContent = isHonoured ? "" : t("speak.unsupported", { engine: this.model.value });
  }
}

function select(id, onChange) {
  const node = h("select", { class: "select", id, "data-testid": id, onchange: () => onChange(node.value) });
  return node;
}

function field(name, control, id = name, hint = null) {
  if (hint) control.setAttribute("aria-describedby", hint.id);
  return h(
    "div",
    { class: "field" },
    h("label", { class: "label", for: id, i18n: `speak.${name}` }),
    control,
    hint,
  );
}
