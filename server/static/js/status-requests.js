// The last requests, newest first.

import { clear, h } from "./dom.js";
import { currentLanguage, t } from "./i18n.js";
import { seconds } from "./status-units.js";

const KINDS = { done: "badge badge-accent", failed: "badge badge-danger", left: "badge" };
const COLUMNS = ["time", "task", "engine", "result", "ttfa", "audio", "rtf", "underrun", "wall", "id"];
const NUMBERS = new Set(["ttfa", "audio", "rtf", "underrun", "wall"]);

export function requestTable() {
  const rows = h("tbody", { id: "status-requests-rows" });
  const empty = h("p", { class: "empty", id: "status-requests-empty", i18n: "status.requests.none" });
  const table = h(
    "table",
    { class: "table status-table" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        COLUMNS.map((name) =>
          h("th", {
            scope: "col",
            class: NUMBERS.has(name) && "number",
            i18n: `status.requests.${name}`,
            i18nTitle: NUMBERS.has(name) ? `status.requests.${name}.title` : null,
          }),
        ),
      ),
    ),
    rows,
  );
  const wrap = h(
    "div",
    { class: "table-wrap", tabindex: "0", role: "region", "aria-labelledby": "status-requests-title" },
    table,
  );
  const node = h(
    "section",
    { class: "card", id: "status-requests" },
    h("div", { class: "card-head" }, h("h2", { id: "status-requests-title", i18n: "status.requests" })),
    wrap,
    empty,
  );

  function update(entries) {
    empty.hidden = entries.length > 0;
    wrap.hidden = entries.length === 0;
    clear(rows).append(...entries.map(row));
  }

  return { node, update };
}

function row(entry) {
  const cells = {
    time: new Date(entry.created_at * 1000).toLocaleTimeString(currentLanguage()),
    task: t(`status.task.${entry.task}`),
    engine: [entry.engine, entry.voice && h("span", { class: "muted" }, ` ${entry.voice}`)],
    result: [
      h("span", { class: KINDS[entry.status] ?? "badge" }, t(`status.requests.${entry.status}`)),
      entry.error && h("span", { class: "status-error small" }, ` ${entry.error}`),
    ],
    ttfa: seconds(entry.ttfa_s),
    audio: seconds(entry.audio_s),
    rtf: entry.rtf === null ? "–" : entry.rtf.toFixed(3),
    underrun: seconds(entry.underrun_s),
    wall: seconds(entry.wall_s),
    id: h("code", { class: "small" }, entry.id),
  };
  // On a phone each row is a card: a cell carries its column's name.
  return h(
    "tr",
    { "data-testid": "request", dataset: { request: entry.id } },
    COLUMNS.map((name) =>
      h(
        "td",
        { class: NUMBERS.has(name) && "number", dataset: { column: t(`status.requests.${name}`), name } },
        cells[name],
      ),
    ),
  );
}
