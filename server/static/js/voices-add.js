// The form that makes a voice of a recording.

import { json } from "./api.js";
import { clear, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { soundSource } from "./recorder-source.js";
import { say, showError } from "./toast.js";

const MAX_S = 30;
const LANGUAGES = ["en", "zh", "ja", "de", "es", "fr", "it", "ko", "pt", "ru"];

/**
 * @param {{languageName: (tag: string) => string, onAdded: (voice: object) => void,
 *     onClose: () => void}} hooks
 * @returns {{node: HTMLElement, open: (file?: File) => void, close: () => void, leave: () => void}}
 *     `leave`: while nobody looks, nothing is recorded and nothing sounds.
 */
export function addForm({ languageName, onAdded, onClose }) {
  let sound = null;
  let url = null;
  let sending = null;

  const source = soundSource({
    id: "add",
    hint: "voices.add.hint",
    recording: { maxSeconds: MAX_S, isRaw: true },
    onSound: take,
    onError: showError,
  });
  const player = h("audio", { id: "add-player", controls: true, i18nLabel: "voices.add.listen" });
  const fileName = h("strong", { id: "add-file-name" });
  const name = h("input", {
    class: "input",
    id: "add-name",
    name: "name",
    required: true,
    maxlength: "100",
    autocomplete: "off",
  });
  const text = h("textarea", {
    class: "textarea",
    id: "add-text",
    name: "prompt_text",
    rows: "3",
    "aria-describedby": "add-text-hint",
  });
  const language = h("select", { class: "select", id: "add-language", name: "language" });
  const consent = h("select", { class: "select", id: "add-consent", name: "consent" });
  const consentField = field("consent", consent, "voices.add.consent", null);
  const problem = h("p", { class: "note note-error", id: "add-problem", role: "alert", hidden: true });
  const submit = h("button", {
    type: "submit",
    class: "button button-primary",
    id: "add-save",
    i18n: "voices.add.save",
  });
  const busy = h(
    "div",
    { class: "stack", id: "add-busy", hidden: true },
    h("progress", { class: "progress", i18nLabel: "voices.add.busy" }),
    h("p", { class: "hint", i18n: "voices.add.busy" }),
  );

  const form = h(
    "form",
    { class: "stack", id: "add-form", hidden: true },
    h(
      "div",
      { class: "voices-sound" },
      h(
        "div",
        { class: "row-between" },
        fileName,
        h(
          "button",
          { type: "button", class: "button button-small button-quiet", id: "add-again", onclick: drop },
          icon("reset"),
          h("span", { i18n: "voices.add.again" }),
        ),
      ),
      player,
    ),
    h(
      "div",
      { class: "voices-fields" },
      field("name", name, "voices.name", null),
      field("language", language, "voices.add.language", null),
    ),
    field("text", text, "voices.text", "voices.add.text_hint"),
    consentField,
    problem,
    busy,
    h(
      "div",
      { class: "row" },
      submit,
      h("button", {
        type: "button",
        class: "button button-quiet",
        id: "add-cancel",
        onclick: close,
        i18n: "voices.cancel",
      }),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });

  const node = h(
    "section",
    { class: "card voices-add", id: "add-voice", "aria-labelledby": "add-title", hidden: true },
    h(
      "div",
      { class: "card-head" },
      h("h2", { id: "add-title", i18n: "voices.add" }),
      h(
        "button",
        { type: "button", class: "button-icon", id: "add-close", i18nLabel: "voices.add.close", onclick: close },
        icon("close"),
      ),
    ),
    h("div", { class: "card-body" }, source.node, form),
  );

  function take(file) {
    source.cancel();
    sound = file;
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(file);
    player.src = url;
    const isRecorded = file.name === "recording.wav";
    fileName.textContent = isRecorded ? t("voices.add.recorded") : file.name;
    if (!name.value && !isRecorded) name.value = file.name.replace(/\.[^.]*$/, "").slice(0, 60);
    tell(null);
    show();
    name.focus();
  }

  function drop() {
    sending?.abort();
    sound = null;
    player.removeAttribute("src");
    if (url) URL.revokeObjectURL(url);
    url = null;
    tell(null);
    show();
  }

  function show() {
    form.hidden = !sound;
    source.node.hidden = Boolean(sound);
  }

  async function send() {
    const body = new FormData();
    body.set("audio_sample", sound, sound.name);
    body.set("name", name.value.trim());
    for (const input of [text, language, consent]) if (input.value.trim()) body.set(input.name, input.value.trim());
    sending = new AbortController();
    wait(true);
    tell(null);
    try {
      const voice = await json("/v1/audio/voices", { method: "POST", body, signal: sending.signal });
      say(t("voices.added", { name: voice.name }));
      close();
      onAdded(voice);
    } catch (error) {
      if (error.name === "AbortError") return;
      tell(error);
    } finally {
      sending = null;
      wait(false);
    }
  }

  function wait(is) {
    busy.hidden = !is;
    submit.disabled = is;
  }

  /** What the server says of the form, in the form: it is where it can be put right. */
  function tell(error) {
    const atFault = { name, language, prompt_text: text, ref_text: text, consent }[error?.param];
    for (const input of [name, language, text, consent]) input.toggleAttribute("aria-invalid", false);
    atFault?.setAttribute("aria-invalid", "true");
    atFault?.focus();
    problem.hidden = !error;
    if (!error) return;
    const words = { name_taken: "voices.problem.name_taken", unreachable: "shell.error.unreachable" }[error.code];
    clear(problem).append(words ? t(words, { name: name.value.trim() }) : error.message);
    if (error.requestId)
      problem.append(
        h("span", { class: "voices-request small" }, t("shell.error.id"), " ", h("code", {}, error.requestId)),
      );
  }

  function fillLanguages() {
    const chosen = language.value;
    clear(language).append(
      h("option", { value: "" }, t("voices.add.language_auto")),
      ...LANGUAGES.map((tag) => h("option", { value: tag }, languageName(tag))),
    );
    language.value = chosen;
  }

  async function fillConsents() {
    const { data } = await json("/v1/audio/voice_consents?limit=100");
    consentField.hidden = data.length === 0;
    clear(consent).append(
      h("option", { value: "" }, t("voices.add.no_consent")),
      ...data.map(({ id, name: who }) => h("option", { value: id }, who)),
    );
  }

  function open(file) {
    node.hidden = false;
    fillLanguages();
    consentField.hidden = true;
    fillConsents().catch(showError);
    if (file) take(file);
    else document.getElementById("add-file").focus();
  }

  function close() {
    source.cancel();
    drop();
    form.reset();
    node.hidden = true;
    onClose();
  }

  function leave() {
    source.cancel();
    player.pause();
  }

  return { node, open, close, leave };
}

function field(name, input, key, hint) {
  return h(
    "div",
    { class: "field" },
    h("label", { class: "label", for: input.id, i18n: key }),
    input,
    hint && h("p", { class: "hint", id: `add-${name}-hint`, i18n: hint }),
  );
}
