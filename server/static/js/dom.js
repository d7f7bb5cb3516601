// Nodes without innerHTML: what a server or a person wrote stays text.

import { localize } from "./i18n.js";

const I18N = {
  i18n: "i18n",
  i18nLabel: "i18nLabel",
  i18nTitle: "i18nTitle",
  i18nPlaceholder: "i18nPlaceholder",
};

/**
 * An element.
 *
 * props: `class`, any attribute (true: present; false, null: absent), `dataset: {}`, `onclick` and
 * other `on...` listeners, properties `value`, `checked`, `disabled`, `hidden`, `textContent`; and
 * `i18n`, `i18nLabel`, `i18nTitle`, `i18nPlaceholder`: a key of i18n.js for the text, aria-label,
 * title and placeholder, which follow the language; `i18nParams: {}` fills their {names}.
 * children: nodes, text, numbers, arrays of them; null and false are left out.
 */
export function h(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) setProp(node, name, value);
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  if (props && Object.keys(I18N).some((name) => name in props)) localize(node);
  return node;
}

function setProp(node, name, value) {
  if (value == null) return;
  if (name in I18N) node.dataset[I18N[name]] = value;
  else if (name === "i18nParams") node.dataset.i18nParams = JSON.stringify(value);
  else if (name === "dataset") Object.assign(node.dataset, value);
  else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
  else if (["value", "checked", "disabled", "hidden", "textContent"].includes(name)) node[name] = value;
  else if (value === true) node.setAttribute(name, "");
  else if (value !== false) node.setAttribute(name, value);
}

export function clear(node) {
  node.replaceChildren();
  return node;
}

// Strokes on a grid of 24.
const ICONS = {
  alert: "M12 4 2.8 20h18.4zM12 10v4.5M12 17.2v.1",
  back: "M15 5l-7 7 7 7",
  check: "M5 12.5 10 17.5 19.5 7",
  chevron: "M6 9.5l6 6 6-6",
  close: "M6 6l12 12M18 6 6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  dice: "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1zM9 9v.1M15 9v.1M12 12v.1M9 15v.1M15 15v.1",
  download: "M12 4v11M7.5 11 12 15.5 16.5 11M5 19.5h14",
  edit: "M4 20l1-4.5L16 4.5 19.5 8 8.5 19zM14 6.5 17.5 10",
  file: "M7 3.5h7l4 4V20a.5.5 0 0 1-.5.5h-10A.5.5 0 0 1 7 20zM14 3.5V8h4",
  globe:
    "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM3.5 12h17M12 3.5c2.4 2.4 3.5 5.2 3.5 8.5s-1.1 6.1-3.5 8.5c-2.4-2.4-3.5-5.2-3.5-8.5s1.1-6.1 3.5-8.5z",
  info: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM12 11v5M12 7.8v.1",
  key: "M14.5 4.5a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM11 13l-7 7M6.5 17.5 9 20",
  mic: "M12 3.5a3 3 0 0 1 3 3V11a3 3 0 0 1-6 0V6.500a3 3 0 0 1 3-3zM5.500 11a6.500 6.500 0 0 0 13 0M12 17.500V21",
  moon: "M20 14.500A8.500 8.500 0 0 1 9.500 4 8.500 8.500 0 1 0 20 14.500z",
  pause: "M8 5v14M16 5v14",
  play: "M7 4.500v15l12.500-7.500z",
  plus: "M12 5v14M5 12h14",
  refresh: "M19.500 12a7.500 7.500 0 1 1-2.200-5.300L20 9M20 4v5h-5",
  reset: "M4.500 12a7.500 7.500 0 1 0 2.200-5.300L4 9M4 4v5h5",
  search: "M10.500 4a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM15.500 15.500 20.500 20.500",
  stop: "M7 7h10v10H7z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.500v2M12 19.500v2M2.500 12h2M19.500 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M5.300 18.700l1.400-1.400M17.300 6.700l1.400-1.400",
  system: "M4 5h16v11H4zM9 20h6M12 16v4",
  trash: "M4.500 6.500h15M9 6.500V4h6v2.500M6.500 6.500l1 13.500h9l1-13.500M10 10.500v6M14 10.500v6",
  upload: "M12 16V5M7.500 9.500 12 5l4.500 4.500M5 19.500h14",
};

/** One of ICONS; hidden from screen readers: name the button instead. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}
