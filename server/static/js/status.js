// How the server is: its engines, what they take, and what the last requests cost.

import { clear, h, icon } from "./dom.js";
import { onLanguage } from "./i18n.js";
import { engineCard } from "./status-engine.js";
import { requestTable } from "./status-requests.js";

const EVERY_MS = 2000;

export function mount(section, { api, t, toast }) {
  let isShown = false;
  let timer = null;
  let latest = null;
  const cards = new Map();

  const ready = h("span", { id: "status-ready", role: "status" });
  const summary = h("p", { id: "status-summary" });
  const problem = h("div", { class: "note note-error", id: "status-problem", role: "alert", hidden: true });
  const engines = h("div", { class: "status-engines", id: "status-engines" });
  const requests = requestTable();

  section.append(
    h(
      "div",
      { class: "panel-head" },
      h("div", {}, h("div", { class: "row" }, h("h1", { i18n: "status.title" }), ready), summary),
    ),
    problem,
    h("div", { class: "stack-large" }, engines, requests.node),
  );
  onLanguage(() => latest && render(latest));
  document.addEventListener("visibilitychange", schedule);

  function schedule() {
    clearTimeout(timer);
    timer = null;
    if (isShown && document.visibilityState === "visible") poll();
  }

  async function poll() {
    const mine = (timer = setTimeout(schedule, 10 * EVERY_MS)); // If an answer never comes.
    try {
      latest = await ask(api);
      render(latest);
      problem.hidden = true;
    } catch (error) {
      // Not a toast every two seconds: it stands here until it is over.
      tell(error);
    }
    if (timer !== mine) return;
    clearTimeout(mine);
    timer = isShown ? setTimeout(schedule, EVERY_MS) : null;
  }

  function tell(error) {
    const id = error.requestId
      ? h("span", { class: "small" }, t("shell.error.id"), " ", h("code", {}, error.requestId))
      : null;
    const words = error.code === "unreachable" ? t("shell.error.unreachable") : error.message;
    if (problem.hidden || problem.dataset.words !== words)
      clear(problem).append(icon("alert"), h("span", {}, words), id ?? "");
    problem.dataset.words = words;
    problem.hidden = false;
  }

  function render({ entries, models, isReady, recent }) {
    ready.className = isReady ? "badge badge-accent" : "badge badge-warning";
    ready.textContent = t(isReady ? "status.ready" : "status.not_ready");
    const jobs = entries.reduce((sum, { jobs: some }) => sum + some, 0);
    summary.textContent = t(jobs ? "status.jobs" : "status.no_jobs", { jobs });
    // Those that are there come first.
    const ranked = [...entries].sort((one, other) => (one.status === "absent") - (other.status === "absent"));
    for (const entry of ranked) {
      if (!cards.has(entry.id)) {
        cards.set(
          entry.id,
          engineCard(entry.id, (verb) => act(entry.id, verb)),
        );
        engines.append(cards.get(entry.id).node);
      }
      cards.get(entry.id).update(
        entry,
        models.find(({ id }) => id === entry.id),
      );
    }
    requests.update(recent);
  }

  async function act(name, verb) {
    const card = cards.get(name);
    card.wait(verb);
    try {
      const entry = await api.json(`/v1/engines/${encodeURIComponent(name)}/${verb}`, { method: "POST" });
      toast.say(t(`status.did.${verb}`, { name }));
      card.update(
        entry,
        latest.models.find(({ id }) => id === name),
      );
    } catch (error) {
      toast.showError(error);
    } finally {
      card.wait(null);
      schedule();
    }
  }

  return {
    shown() {
      isShown = true;
      schedule();
    },
    hidden() {
      isShown = false;
      schedule();
    },
  };
}

async function ask(api) {
  const [engines, models, readiness, recent] = await Promise.all([
    api.json("/v1/engines"),
    api.json("/v1/models"),
    // 503 is an answer here, not an error.
    fetch("/ready").then((response) => response.json()),
    api.json("/v1/requests"),
  ]);
  return { entries: engines.data, models: models.data, isReady: readiness.status === "ready", recent: recent.data };
}
