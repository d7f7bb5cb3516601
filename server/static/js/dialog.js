// Questions before what cannot be undone.

import { h } from "./dom.js";

let serial = 0;

/**
 * A modal dialog with a title, closed by Escape and by its backdrop. It leaves the page when it
 * closes, and the focus goes back to where it was.
 */
export function openDialog(title, ...children) {
  const id = `dialog-title-${(serial += 1)}`;
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": id }, h("h2", { id }, title), ...children);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask; resolves to true only if `action`'s button was pressed. */
export function confirm({ title, text, action, cancel, isDangerous = false }) {
  return new Promise((resolve) => {
    const kind = isDangerous ? "button button-danger" : "button button-primary";
    const close = (answer) => () => {
      resolve(answer);
      dialog.close();
    };
    const dialog = openDialog(
      title,
      text && h("p", {}, text),
      h(
        "div",
        { class: "dialog-actions" },
        h(
          "button",
          { class: "button", type: "button", "data-testid": "dialog-cancel", onclick: close(false) },
          cancel,
        ),
        h(
          "button",
          { class: kind, type: "button", "data-testid": "dialog-confirm", onclick: close(true) },
          action,
        ),
      ),
    );
    dialog.addEventListener("close", () => resolve(false));
  });
}
