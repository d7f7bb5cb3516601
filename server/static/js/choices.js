// Language, theme and API key: in the header.

import { getKey, json, onDenied, setKey } from "./api.js";
import { openDialog } from "./dialog.js";
import { h, icon } from "./dom.js";
import { currentLanguage, LANGUAGES, setLanguage, t } from "./i18n.js";
import * as store from "./store.js";
import { say, showError } from "./toast.js";

const THEME_ICONS = { system: "system", light: "sun", dark: "moon" };
let keyDialog = null;
let keyTaken = () => {};

/** onKey: called when the server has taken a key that was given. */
export function mountChoices(place, onKey) {
  keyTaken = onKey;
  place.append(languageChoice(), themeChoice(), keyButton());
  onDenied(() => openKeyDialog({ isDenied: true }));
}

function languageChoice() {
  const options = Object.entries(LANGUAGES).map(([code, name]) =>
    h("option", { value: code, lang: code }, name),
  );
  const change = (event) => setLanguage(event.target.value).catch(showError);
  const select = h(
    "select",
    { id: "language", "data-testid": "language", i18nLabel: "shell.language", onchange: change },
    options,
  );
  select.value = currentLanguage();
  return h("span", { class: "shell-choice" }, icon("globe"), select);
}

function themeChoice() {
  const options = Object.keys(THEME_ICONS).map((name) =>
    h("option", { value: name, i18n: `shell.theme.${name}` }),
  );
  const select = h(
    "select",
    { id: "theme", "data-testid": "theme", i18nLabel: "shell.theme", onchange: change },
    options,
  );
  select.value = document.documentElement.dataset.theme ?? "system";
  const holder = h("span", { class: "shell-choice" }, icon(THEME_ICONS[select.value]), select);
  function change() {
    if (select.value === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = select.value;
    store.set("theme", select.value);
    holder.firstChild.replaceWith(icon(THEME_ICONS[select.value]));
  }
  return holder;
}

function keyButton() {
  const open = () => openKeyDialog({ isDenied: false });
  const props = { class: "button-icon", type: "button", id: "key-button", "data-testid": "key-button" };
  return h(
    "button",
    { ...props, i18nLabel: "shell.key", i18nTitle: "shell.key", onclick: open },
    icon("key"),
  );
}

function openKeyDialog({ isDenied }) {
  if (keyDialog?.open) return;
  const input = h("input", {
    class: "input mono",
    id: "key-input",
    "data-testid": "key-input",
    type: "password",
    autocomplete: "off",
    value: getKey(),
  });
  const form = h(
    "form",
    { class: "stack", onsubmit: (event) => save(event, input) },
    isDenied && h("p", { class: "note note-warning" }, t(getKey() ? "shell.key.wrong" : "shell.key.needed")),
    h(
      "div",
      { class: "field" },
      h("label", { class: "label", for: "key-input" }, t("shell.key")),
      input,
      h("p", { class: "hint" }, t("shell.key.where")),
    ),
    h(
      "div",
      { class: "dialog-actions" },
      h(
        "button",
        {
          class: "button button-quiet",
          type: "button",
          "data-testid": "key-forget",
          disabled: !getKey(),
          onclick: forget,
        },
        t("shell.key.forget"),
      ),
      h(
        "button",
        { class: "button button-primary", type: "submit", "data-testid": "key-save" },
        t("shell.key.save"),
      ),
    ),
  );
  keyDialog = openDialog(t("shell.key"), form);
  input.focus();
}

/** Says at once whether the server takes it. */
async function save(event, input) {
  event.preventDefault();
  setKey(input.value.trim());
  keyDialog.close();
  try {
    await json("/v1/engines");
    say(t("shell.key.saved"));
    keyTaken();
  } catch (error) {
    if (error.status !== 401) showError(error);
  }
}

function forget() {
  setKey("");
  keyDialog.close();
  say(t("shell.key.forgotten"));
}
