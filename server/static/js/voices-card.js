// One voice of somebody's: to hear, to speak with, to correct, to take along, to delete.

import { json, request } from "./api.js";
import { confirm } from "./dialog.js";
import { clear, h, icon } from "./dom.js";
import { currentLanguage, languageName, t } from "./i18n.js";
import { say, showError } from "./toast.js";
import { pathOf, stop, toggle } from "./voices-player.js";
import { reportOf, warningsOf } from "./voices-report.js";

/**
 * @param {object} voice As the API gives it.
 * @param {{isOpen: boolean, onToggle: (isOpen: boolean) => void, onSpeak: () => void,
 *     onChange: (voice: object) => void, onGone: () => void}} hooks
 * @returns {HTMLLIElement}
 */
export function voiceCard(voice, hooks) {
  const details = h("div", { class: "voices-details", id: `details-${voice.id}`, hidden: !hooks.isOpen });
  const more = h(
    "button",
    {
      type: "button",
      class: "button button-small button-quiet voices-more",
      "data-testid": "voice-more",
      "aria-expanded": String(hooks.isOpen),
      "aria-controls": details.id,
      "aria-describedby": `title-${voice.id}`,
    },
    h("span", { i18n: "voices.details" }),
    icon("chevron"),
  );
  more.addEventListener("click", () => {
    details.hidden = !details.hidden;
    more.setAttribute("aria-expanded", String(!details.hidden));
    if (!details.hidden && !details.firstChild) fill(details, voice, hooks);
    hooks.onToggle(!details.hidden);
  });
  if (hooks.isOpen) fill(details, voice, hooks);
  return h(
    "li",
    { class: "voices-item", "data-testid": "voice", dataset: { voice: voice.id } },
    h(
      "div",
      { class: "voices-row" },
      listenButton(voice),
      h(
        "div",
        { class: "voices-title" },
        h("h3", { tabindex: "-1", id: `title-${voice.id}` }, voice.name),
        h("p", { class: "small muted" }, factsOf(voice)),
        !voice.text_is_reliable &&
          h("span", { class: "badge badge-warning", "data-testid": "voice-check-text", i18n: "voices.check_text" }),
      ),
      h("div", { class: "voices-actions" }, speakButton(voice, hooks), more),
    ),
    details,
  );
}

function fill(details, voice, hooks) {
  clear(details).append(
    ...[
      warningsOf(voice),
      h("div", { class: "voices-columns" }, editor(voice, hooks), voice.report && reportOf(voice)),
      footer(voice, hooks),
    ].filter(Boolean),
  );
}

function listenButton(voice) {
  const node = h(
    "button",
    {
      type: "button",
      class: "button-round voices-listen",
      "data-testid": "voice-listen",
      "aria-pressed": "false",
      i18nLabel: "voices.listen",
      i18nParams: { name: voice.name },
    },
    icon("play"),
  );
  node.addEventListener("click", () => toggle(voice, node).catch(showError));
  return node;
}

function speakButton(voice, hooks) {
  return h(
    "button",
    {
      type: "button",
      class: "button button-small",
      "data-testid": "voice-speak",
      "aria-describedby": `title-${voice.id}`,
      onclick: hooks.onSpeak,
    },
    h("span", { i18n: "voices.speak" }),
  );
}

function editor(voice, hooks) {
  const name = h("input", {
    class: "input",
    id: `name-${voice.id}`,
    name: "name",
    value: voice.name,
    required: true,
    maxlength: "100",
    autocomplete: "off",
    "data-testid": "voice-name",
  });
  const text = h("textarea", {
    class: "textarea",
    id: `text-${voice.id}`,
    name: "prompt_text",
    rows: "4",
    value: voice.prompt_text ?? "",
    "data-testid": "voice-text",
  });
  const save = h("button", {
    type: "submit",
    class: "button button-primary button-small",
    disabled: true,
    "data-testid": "voice-save",
    i18n: "voices.save",
  });
  const changes = () => ({
    ...(name.value.trim() !== voice.name && { name: name.value.trim() }),
    ...(text.value.trim() !== (voice.prompt_text ?? "") && { prompt_text: text.value.trim() }),
  });
  const form = h(
    "form",
    { class: "stack", "data-testid": "voice-form" },
    h("div", { class: "field" }, h("label", { class: "label", for: name.id, i18n: "voices.name" }), name),
    h(
      "div",
      { class: "field" },
      h("label", { class: "label", for: text.id, i18n: "voices.text" }),
      text,
      h("p", {
        class: "hint",
        i18n: sourceKey(voice),
        i18nParams: { engine: voice.text_engine, share: Math.round((voice.text_confidence ?? 0) * 100) },
      }),
    ),
    h("div", {}, save),
  );
  form.addEventListener("input", () => (save.disabled = Object.keys(changes()).length === 0 || !name.value.trim()));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    save.disabled = true;
    try {
      const changed = await json(pathOf(voice), { method: "PATCH", body: changes() });
      say(t("voices.saved", { name: changed.name }));
      hooks.onChange(changed);
    } catch (error) {
      save.disabled = false;
      showError(error);
    }
  });
  return form;
}

/** Who wrote the text down. */
function sourceKey(voice) {
  if (voice.text_source !== "transcribed") return "voices.text.given";
  return voice.text_confidence == null ? "voices.text.transcribed" : "voices.text.transcribed_sure";
}

function footer(voice, hooks) {
  const save = async () => {
    const archive = await (await request(pathOf(voice, "/export"))).blob();
    const url = URL.createObjectURL(archive);
    h("a", { href: url, download: `${voice.name.replace(/[^\p{L}\p{N} ._-]/gu, "_")}.zip` }).click();
    URL.revokeObjectURL(url);
  };
  const remove = async () => {
    const answer = await confirm({
      title: t("voices.delete.title", { name: voice.name }),
      text: t("voices.delete.text"),
      action: t("voices.delete"),
      cancel: t("voices.cancel"),
      isDangerous: true,
    });
    if (!answer) return;
    stop();
    await request(pathOf(voice), { method: "DELETE" });
    say(t("voices.deleted", { name: voice.name }));
    hooks.onGone();
  };
  const action = (testid, symbol, key, kind, run) =>
    h(
      "button",
      {
        type: "button",
        class: `button button-small ${kind}`,
        "data-testid": testid,
        onclick: () => run().catch(showError),
      },
      icon(symbol),
      h("span", { i18n: key }),
    );
  return h(
    "div",
    { class: "row-between voices-footer" },
    h("code", { class: "small muted", "data-testid": "voice-id" }, voice.id),
    h(
      "div",
      { class: "row" },
      action("voice-export", "download", "voices.export", "", save),
      action("voice-delete", "trash", "voices.delete", "voices-delete", remove),
    ),
  );
}

function factsOf(voice) {
  const day = new Date(voice.created_at * 1000).toLocaleDateString(currentLanguage(), { dateStyle: "medium" });
  const length = voice.duration_s == null ? null : t("voices.seconds", { seconds: voice.duration_s.toFixed(1) });
  return [voice.language && languageName(voice.language), length, day].filter(Boolean).join(" · ");
}
