// One engine: where its weights are, what each worker takes, and the buttons that move it.

import { clear, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { bytes, seconds } from "./status-units.js";

const VERBS = ["load", "offload", "stop"];
const KINDS = {
  resident: "badge badge-accent",
  loading: "badge badge-warning",
  offloaded: "badge",
  stopped: "badge",
  absent: "badge",
};
// Where a button has something to do.
const FROM = { load: ["offloaded", "stopped"], offload: ["resident"], stop: ["resident", "offloaded", "loading"] };

/**
 * @param {string} name Of the engine.
 * @param {(verb: "load" | "offload" | "stop") => void} act
 * @returns {{node: HTMLElement, update: (entry: object, model?: object) => void,
 *     wait: (verb: string | null) => void}} `wait`: while the server does what a button asked.
 */
export function engineCard(name, act) {
  let shown = null;
  let waiting = null;

  const task = h("p", { class: "small muted" });
  const state = h("span", { "data-testid": "engine-state" });
  const about = h("p", { class: "small muted", "data-testid": "engine-description" });
  const problem = h("p", { "data-testid": "engine-error", hidden: true });
  const workers = h("div", { class: "stack" });
  const buttons = VERBS.map((verb) =>
    h(
      "button",
      {
        type: "button",
        class: "button button-small",
        "data-testid": `engine-${verb}`,
        i18nLabel: `status.${verb}.of`,
        i18nParams: { name },
        onclick: press(verb),
      },
      h("span", { i18n: `status.${verb}` }),
    ),
  );
  const progress = h("progress", { class: "progress", i18nLabel: "status.moving", hidden: true });
  const actions = h("div", { class: "status-actions row" }, buttons);
  const title = h("h2", { id: `engine-title-${name}` }, name);
  const node = h(
    "article",
    { class: "card status-engine", "data-testid": "engine", dataset: { engine: name }, "aria-labelledby": title.id },
    h("div", { class: "card-head" }, h("div", {}, title, task), state),
    progress,
    h("div", { class: "card-body stack" }, about, problem, workers),
    actions,
  );

  function update(entry, model) {
    shown = { entry, model };
    const place = entry.status === "absent" ? "absent" : (entry.state ?? entry.status);
    node.dataset.state = place;
    state.className = KINDS[place] ?? "badge badge-warning";
    state.textContent = t(`status.state.${place}`);
    task.textContent = model ? t(`status.task.${model.task}`) : "";
    const description = model && !entry.error ? model.description : "";
    about.textContent = description;
    about.hidden = !description;
    problem.className = place === "absent" ? "note" : "note note-error";
    problem.textContent = entry.error ?? "";
    problem.hidden = !entry.error;
    actions.hidden = place === "absent";
    const rows = place === "absent" ? [] : entry.workers.map((worker) => workerRow(worker, entry.workers.length > 1));
    clear(workers).append(...rows);
    workers.hidden = rows.length === 0;
    buttons[VERBS.indexOf("offload")].hidden = !entry.can_offload;
    VERBS.forEach((verb, i) =>
      buttons[i].setAttribute("aria-disabled", String(waiting !== null || !FROM[verb].includes(place))),
    );
  }

  function wait(verb) {
    waiting = verb;
    progress.hidden = verb === null;
    node.setAttribute("aria-busy", String(verb !== null));
    if (shown) update(shown.entry, shown.model);
  }

  // Not `disabled`: the focus would be lost as the state changes under it.
  function press(verb) {
    return ({ currentTarget }) => currentTarget.getAttribute("aria-disabled") === "false" && act(verb);
  }

  return { node, update, wait };
}

function workerRow(worker, isOneOfMany) {
  const facts = [
    [t("status.device"), worker.device],
    [t("status.jobs_now"), worker.jobs],
    [t("status.idle"), worker.idle_s === null ? t("status.none") : seconds(worker.idle_s)],
    [t("status.restarts"), worker.restarts],
    [
      t("status.wakes"),
      worker.wakes ? t("status.wakes.each", { count: worker.wakes, time: seconds(worker.wake_s / worker.wakes) }) : 0,
    ],
  ];
  return h(
    "div",
    { class: "status-worker", "data-testid": "worker" },
    isOneOfMany && h("p", { class: "small" }, h("span", { class: "badge" }, t(`status.state.${worker.state}`))),
    memory(worker),
    h(
      "dl",
      { class: "facts" },
      facts.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))),
    ),
    worker.error && h("p", { class: "status-problem small" }, icon("alert"), worker.error),
  );
}

/** This worker, others, and what is free, as one bar with its words. */
function memory({ used_bytes: used, free_bytes: free, total_bytes: total }) {
  if (used === null && total === null) return h("p", { class: "small muted" }, t("status.memory.unknown"));
  if (!total)
    return h(
      "p",
      { class: "small muted", "data-testid": "memory-words" },
      used ? t("status.memory.used", { used: bytes(used) }) : t("status.memory.none"),
    );
  const others = Math.max(0, total - (free ?? 0) - (used ?? 0));
  const bar = h(
    "div",
    { class: "status-memory", "aria-hidden": "true" },
    part("used", used ?? 0, total),
    part("others", others, total),
  );
  const words = t("status.memory", {
    used: bytes(used ?? 0),
    others: bytes(others),
    free: bytes(free ?? 0),
    total: bytes(total),
  });
  return h("div", {}, bar, h("p", { class: "small number", "data-testid": "memory-words" }, words));
}

function part(kind, some, total) {
  const node = h("span", { class: `status-memory-${kind}` });
  node.style.width = `${(100 * some) / total}%`;
  return node;
}
