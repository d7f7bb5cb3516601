// Sound to text: chosen or recorded, written down as it is heard, saved with its times.

import { h, icon } from "./dom.js";
import { onLanguage } from "./i18n.js";
import { soundSource } from "./recorder-source.js";
import { modelChoices } from "./transcribe-choices.js";
import { transcriptView } from "./transcribe-result.js";
import { transcribe } from "./transcribe-stream.js";

const RECORDING = { maxSeconds: 600, isRaw: false, sampleRate: 16000 };

export function mount(section, { api, t, toast }) {
  let sound = null;
  let url = null;
  let running = null;

  const choices = modelChoices();
  const source = soundSource({
    id: "transcribe",
    hint: "transcribe.hint",
    recording: RECORDING,
    onSound: take,
    onError: toast.showError,
  });
  const player = h("audio", {
    id: "transcribe-player",
    controls: true,
    preload: "metadata",
    i18nLabel: "transcribe.player",
  });
  const view = transcriptView(player);
  const fileName = h("strong", { id: "transcribe-file-name" });
  const chosen = h(
    "div",
    { class: "stack", id: "transcribe-chosen", hidden: true },
    h(
      "div",
      { class: "row-between" },
      fileName,
      h(
        "button",
        { type: "button", class: "button button-small button-quiet", id: "transcribe-again", onclick: drop },
        icon("reset"),
        h("span", { i18n: "transcribe.again" }),
      ),
    ),
    player,
  );
  const start = h(
    "button",
    { type: "button", class: "button button-primary", id: "transcribe-start", disabled: true, onclick: run },
    h("span", { i18n: "transcribe.start" }),
  );
  const stop = h(
    "button",
    { type: "button", class: "button", id: "transcribe-stop", hidden: true, onclick: () => running?.abort() },
    icon("stop"),
    h("span", { i18n: "transcribe.stop" }),
  );

  section.append(
    h(
      "div",
      { class: "panel-head" },
      h("div", {}, h("h1", { i18n: "transcribe.title" }), h("p", { i18n: "transcribe.lead" })),
    ),
    h(
      "div",
      { class: "transcribe-columns" },
      h(
        "div",
        { class: "card" },
        h(
          "div",
          { class: "card-body stack" },
          source.node,
          chosen,
          choices.node,
          h("div", { class: "transcribe-run" }, start, stop),
        ),
      ),
      view.node,
    ),
  );
  onLanguage(() => choices.render());

  function take(file) {
    drop();
    sound = file;
    url = URL.createObjectURL(file);
    player.src = url;
    fileName.textContent = file.name === "recording.wav" ? t("transcribe.recorded") : file.name;
    source.node.hidden = true;
    chosen.hidden = false;
    start.disabled = false;
    start.focus();
  }

  function drop() {
    running?.abort();
    sound = null;
    player.removeAttribute("src");
    player.load();
    if (url) URL.revokeObjectURL(url);
    url = null;
    source.node.hidden = false;
    chosen.hidden = true;
    start.disabled = true;
    view.reset();
  }

  async function run() {
    const controller = new AbortController();
    running = controller;
    const request = { sound, ...choices.value() };
    wait(true);
    view.begin({ name: sound.name, model: request.model });
    try {
      for await (const event of transcribe(request, controller.signal)) view.take(event);
      view.end("done");
      toast.say(t("transcribe.done"));
    } catch (error) {
      if (running !== controller) return; // Another file was taken meanwhile.
      view.end(error.name === "AbortError" ? "stopped" : "failed");
      toast.showError(error);
    } finally {
      if (running === controller) {
        running = null;
        wait(false);
      }
    }
  }

  function wait(is) {
    const hadFocus = [start, stop].includes(document.activeElement);
    start.hidden = is;
    stop.hidden = !is;
    if (hadFocus) (is ? stop : start).focus();
  }

  async function loadModels() {
    const { data } = await api.json("/v1/models");
    choices.take(data);
  }

  return {
    shown: () => loadModels().catch(toast.showError),
    hidden: () => {
      source.cancel();
      player.pause();
    },
  };
}
