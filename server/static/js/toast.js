// Messages at the foot of the page: read out, and gone by themselves unless they are errors.

import { ApiError } from "./api.js";
import { clear, h, icon } from "./dom.js";
import { t } from "./i18n.js";

const SHOWN_MS = 5000;
const TITLES = {
  0: "shell.error.unreachable",
  400: "shell.error.refused",
  403: "shell.error.forbidden",
  404: "shell.error.missing",
  413: "shell.error.large",
  429: "shell.error.busy",
  503: "shell.error.unavailable",
  507: "shell.error.full",
};

/**
 * An error in words: ours for what it means, the server's for what it was, and its request id.
 * That the person stopped it is none.
 */
export function showError(error) {
  // Whoever is asked for a key has a dialog before them already.
  if (error?.name === "AbortError" || error?.status === 401) return;
  if (!(error instanceof ApiError)) console.error(error); // A bug of ours: where it is helps.
  const title = titleOf(error);
  const detail = error?.status === 0 && error.code === "unreachable" ? "" : (error?.message ?? String(error));
  announce("alert", [title, detail].filter(Boolean).join(" "));
  put("error", "alert", [
    h("strong", {}, title),
    detail && h("p", {}, detail),
    error?.requestId &&
      h("p", { class: "toast-id" }, t("shell.error.id"), " ", h("code", {}, error.requestId)),
  ]);
}

export function say(text) {
  announce("live", text);
  const toast = put("note", "check", [h("p", {}, text)]);
  setTimeout(() => toast.remove(), SHOWN_MS);
}

function titleOf(error) {
  if (error?.code === "broken_off") return t("shell.error.broken");
  const status = error?.status;
  return t(TITLES[status] ?? (status >= 500 ? "shell.error.server" : "shell.error.other"));
}

function put(kind, symbol, children) {
  const toast = h(
    "div",
    { class: `toast toast-${kind}`, "data-testid": `toast-${kind}` },
    icon(symbol),
    h("div", { class: "toast-text" }, children),
    h(
      "button",
      { class: "button-icon", type: "button", i18nLabel: "shell.dismiss", onclick: () => toast.remove() },
      icon("close"),
    ),
  );
  const toasts = document.getElementById("toasts");
  while (toasts.children.length > 2) toasts.firstChild.remove();
  toasts.append(toast);
  return toast;
}

function announce(id, text) {
  const region = clear(document.getElementById(id));
  // A screen reader tells only of what changes: the same words again must come anew.
  requestAnimationFrame(() => region.append(text));
}
