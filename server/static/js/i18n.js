// Words in three languages. Keys are "panel.name"; one file a panel and language, of equal keys.

import * as store from "./store.js";

export const LANGUAGES = { en: "English", zh: "中文", ja: "日本語" };

const PANELS = ["shell", "speak", "voices", "transcribe", "status"];
const TAGS = { en: "en", zh: "zh-Hans", ja: "ja" };
const listeners = new Set();

let language = "en";
let words = {};

/** The text of a key; `{name}` in it becomes params.name. */
export function t(key, params = {}) {
  const text = words[key];
  if (text === undefined) {
    console.error(`i18n: no text for ${key} in ${language}`);
    return key;
  }
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in params ? String(params[name]) : whole));
}

/** "en", "zh" or "ja". */
export function currentLanguage() {
  return language;
}

/** Calls fn after each change; nodes with data-i18n are done already. Returns an undo. */
export function onLanguage(fn) {
  listeners.add(fn);
  return () => listeners.delete(fn);
}

export async function setLanguage(code) {
  words = await load(code);
  language = code;
  store.set("language", code);
  document.documentElement.lang = TAGS[code];
  localize(document.documentElement);
  for (const fn of listeners) fn(code);
}

/** What was chosen here before, else what the browser asks for, else English. */
export function preferredLanguage() {
  const wanted = [store.get("language"), ...navigator.languages].filter(Boolean);
  return wanted.map((tag) => tag.slice(0, 2)).find((code) => code in LANGUAGES) ?? "en";
}

/** Fill a node and all below it that name a key: see `h` in dom.js. */
export function localize(root) {
  const marked = "[data-i18n],[data-i18n-label],[data-i18n-title],[data-i18n-placeholder]";
  for (const node of [root, ...root.querySelectorAll(marked)]) {
    const { i18n, i18nLabel, i18nTitle, i18nPlaceholder, i18nParams } = node.dataset;
    const params = i18nParams ? JSON.parse(i18nParams) : {};
    if (i18n) node.textContent = t(i18n, params);
    if (i18nLabel) node.setAttribute("aria-label", t(i18nLabel, params));
    if (i18nTitle) node.title = t(i18nTitle, params);
    if (i18nPlaceholder) node.placeholder = t(i18nPlaceholder, params);
  }
}

/** A language's name in the page's language: "en-GB" -> "British English". */
export function languageName(tag) {
  try {
    return new Intl.DisplayNames([TAGS[language]], { type: "language" }).of(tag) ?? tag;
  } catch {
    return tag; // Not a tag that Intl can read: engines have some of their own.
  }
}

async function load(code) {
  const parts = await Promise.all(PANELS.map((panel) => import(`./locales/${code}/${panel}.js`)));
  return Object.assign({}, ...parts.map((part) => part.default));
}
