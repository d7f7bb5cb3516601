// The shell: which page is shown, and what they all share.

import * as api from "./api.js";
import { mountChoices } from "./choices.js";
import { preferredLanguage, setLanguage, t } from "./i18n.js";
import * as store from "./store.js";
import * as toast from "./toast.js";

const TABS = ["speak", "voices", "transcribe", "status"];
const panels = {};
let current = null;

/** Show a page: `go("speak", {voice: "Ada"})`. Its `shown` gets the params. */
function go(tab, params = {}) {
  const query = new URLSearchParams(params).toString();
  location.hash = query ? `${tab}?${query}` : tab;
}

const ctx = { api, t, toast, store, go };

async function show() {
  const [name, query] = location.hash.slice(1).split("?");
  const tab = TABS.includes(name) ? name : TABS[0];
  if (current && current !== tab) {
    document.getElementById(`panel-${current}`).hidden = true;
    document.getElementById(`tab-${current}`).removeAttribute("aria-current");
    (await panels[current])?.hidden?.();
  }
  current = tab;
  const section = document.getElementById(`panel-${tab}`);
  section.hidden = false;
  document.getElementById(`tab-${tab}`).setAttribute("aria-current", "page");
  panels[tab] ??= import(`./${tab}.js`).then((module) => module.mount(section, ctx));
  try {
    const panel = await panels[tab];
    if (current === tab) panel?.shown?.(Object.fromEntries(new URLSearchParams(query)));
  } catch (error) {
    delete panels[tab];
    toast.showError(error);
  }
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // The hash is for pages.
  document.getElementById("main").focus();
});
await setLanguage(preferredLanguage());
mountChoices(document.getElementById("choices"), show); // What a page could not ask for without.
window.addEventListener("hashchange", show);
await show();
