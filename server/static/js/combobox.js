// A list that is searched by typing: ARIA's editable combobox with a list box.

import { clear, h, icon } from "./dom.js";
import { t } from "./i18n.js";

/**
 * Items are {value, label, meta, group, words}: `meta` stands beside the label, `words` is what is
 * searched, `group` the heading that neighbours share.
 */
export class Combobox {
  #items = [];
  #shown = [];
  #active = -1;
  #selected = null;
  #onChange;

  constructor({ id, testid, label, onChange }) {
    this.#onChange = onChange;
    this.list = h("ul", {
      class: "combobox-list",
      id: `${id}-list`,
      role: "listbox",
      i18nLabel: label,
      hidden: true,
      "data-testid": `${testid}-list`,
    });
    this.input = h("input", {
      class: "input",
      id,
      type: "text",
      role: "combobox",
      autocomplete: "off",
      spellcheck: "false",
      "aria-expanded": "false",
      "aria-controls": `${id}-list`,
      "aria-autocomplete": "list",
      "data-testid": testid,
      onfocus: () => this.input.select(),
      onclick: () => this.#open(),
      oninput: () => this.#filter(),
      onblur: () => this.#close(),
      onkeydown: (event) => this.#key(event),
    });
    this.node = h(
      "div",
      { class: "combobox input-with-icon" },
      icon("search"),
      this.input,
      icon("chevron"),
      this.list,
    );
    // A press in the list must not take the focus from the field, which would close the list.
    this.list.addEventListener("mousedown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.#choose(this.#shown[Number(option.dataset.index)]);
    });
  }

  get value() {
    return this.#selected?.value ?? null;
  }

  get selected() {
    return this.#selected;
  }

  /** The items to choose from; the selection stays if it is still among them. */
  setItems(items, value = this.value) {
    this.#items = items;
    this.select(value);
  }

  /** Without telling `onChange`. Falls back to the first item. */
  select(value) {
    this.#selected = this.#items.find((item) => item.value === value) ?? this.#items[0] ?? null;
    if (this.list.hidden) this.input.value = this.#selected?.label ?? "";
  }

  get #isOpen() {
    return !this.list.hidden;
  }

  #open() {
    if (this.#isOpen) return;
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.input.select();
    this.#render("");
  }

  #close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.input.value = this.#selected?.label ?? "";
  }

  #choose(item) {
    const isNew = item.value !== this.value;
    this.#selected = item;
    this.#close();
    if (isNew) this.#onChange(item);
  }

  #filter() {
    if (!this.#isOpen) {
      this.list.hidden = false;
      this.input.setAttribute("aria-expanded", "true");
    }
    this.#render(this.input.value.trim().toLowerCase());
  }

  #render(query) {
    const parts = query.split(/\s+/);
    this.#shown = this.#items.filter(({ words }) => parts.every((part) => words.includes(part)));
    clear(this.list);
    let group = null;
    this.#shown.forEach((item, index) => {
      if (item.group !== group) {
        group = item.group;
        this.list.append(h("li", { class: "combobox-group", role: "presentation" }, group));
      }
      this.list.append(this.#option(item, index));
    });
    if (!this.#shown.length)
      this.list.append(h("li", { class: "combobox-none", role: "presentation" }, t("speak.voice.none")));
    this.#activate(query ? 0 : this.#shown.indexOf(this.#selected));
  }

  #option(item, index) {
    const props = {
      role: "option",
      id: `${this.input.id}-${index}`,
      class: "combobox-option",
      dataset: { index, value: item.value },
    };
    const isSelected = item === this.#selected;
    return h(
      "li",
      { ...props, "aria-selected": String(isSelected) },
      h("span", {}, item.label),
      item.meta && h("span", { class: "muted small" }, item.meta),
      isSelected && icon("check"),
    );
  }

  #activate(index) {
    this.#active = this.#shown.length ? Math.min(Math.max(index, -1), this.#shown.length - 1) : -1;
    for (const option of this.list.querySelectorAll(".is-active")) option.classList.remove("is-active");
    const option = this.list.querySelector(`[data-index="${this.#active}"]`);
    if (!option) return this.input.removeAttribute("aria-activedescendant");
    option.classList.add("is-active");
    this.input.setAttribute("aria-activedescendant", option.id);
    // The first has its heading above it.
    (this.#active === 0 ? this.list.firstChild : option).scrollIntoView({ block: "nearest" });
  }

  #key(event) {
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    if (event.key in moves) {
      event.preventDefault();
      if (this.#isOpen) this.#activate(Math.max(0, this.#active + moves[event.key]));
      else this.#open();
    } else if (event.key === "Enter" && this.#isOpen && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      if (this.#active >= 0) this.#choose(this.#shown[this.#active]);
    } else if (event.key === "Escape" && this.#isOpen) {
      event.preventDefault();
      event.stopPropagation();
      this.#close();
    }
  }
}
