// What the server measured of a recording, in words.

import { h, icon } from "./dom.js";
import { t } from "./i18n.js";

// The server's sentences are English. Those that it is known to say are said in the page's language,
// any other as it came.
const SENTENCES = [
  [/ is long: /, "voices.warning.long"],
  [/no high frequencies/, "voices.warning.rate"],
  [/samples are clipped/, "voices.warning.clipped"],
  [/speech is quiet/, "voices.warning.quiet"],
  [/over the noise/, "voices.warning.noise"],
  [/recording is pauses/, "voices.warning.pauses"],
];
const OF_TEXT = [
  [/does not seem to be what is said/, "voices.warning.mismatch"],
  [/transcribed by a recogniser/, "voices.warning.unreliable"],
];

/** The warnings that still hold, as a list; null if there are none. */
export function warningsOf(voice) {
  const lines = (voice.report?.warnings ?? []).flatMap((sentence) => {
    const [, ofText] = OF_TEXT.find(([pattern]) => pattern.test(sentence)) ?? [];
    // The report is from the upload; the text may have been corrected since.
    if (ofText) return voice.text_is_reliable ? [] : [h("li", { i18n: ofText })];
    const [, key] = SENTENCES.find(([pattern]) => pattern.test(sentence)) ?? [];
    return [key ? h("li", { i18n: key, i18nParams: figures(voice.report) }) : h("li", { lang: "en" }, sentence)];
  });
  return lines.length
    ? h("ul", { class: "note note-warning voices-warnings", "data-testid": "voice-warnings" }, lines)
    : null;
}

/** All figures, each with a word for what it means. */
export function reportOf({ report }) {
  const facts = figures(report);
  const rows = [
    ["length", report.duration_s <= 10 ? "good" : "long"],
    ["level", report.level_dbfs < -40 ? "quiet" : "good"],
    ["clipping", report.clipped_share > 0.0005 ? "some" : "none"],
    ["noise", report.snr_db < 15 ? "noisy" : report.snr_db < 30 ? "audible" : "clean"],
    ["pauses", report.silence_share > 0.5 ? "many" : "good"],
  ];
  const { pitch_hz: pitch, syllables_per_s: pace } = report.prosody ?? {};
  return h(
    "dl",
    { class: "voices-report", "data-testid": "voice-report" },
    rows.map(([name, verdict]) => row(name, facts, verdict)),
    pitch != null && row("pitch", facts),
    pace != null && row("pace", facts),
  );
}

function row(name, params, verdict) {
  const isGood = ["good", "none", "clean", "audible"].includes(verdict);
  return h(
    "div",
    {},
    h("dt", { i18n: `voices.report.${name}` }),
    h(
      "dd",
      {},
      verdict &&
        h(
          "span",
          { class: isGood ? "voices-verdict" : "voices-verdict is-poor" },
          icon(isGood ? "check" : "alert"),
          h("span", { i18n: `voices.report.${name}.${verdict}` }),
        ),
      h("span", { class: "muted small number", i18n: `voices.report.${name}.figures`, i18nParams: params }),
    ),
  );
}

function figures(report) {
  const { pitch_hz: pitch, pitch_span_semitones: span, syllables_per_s: pace } = report.prosody ?? {};
  return {
    kept: report.duration_s.toFixed(1),
    given: report.given_duration_s.toFixed(1),
    level: whole(report.level_dbfs),
    peak: whole(report.peak_dbfs),
    gain: (report.gain_db >= -0.5 ? "+" : "") + whole(report.gain_db),
    clipped: percent(report.clipped_share, 2),
    snr: report.snr_db.toFixed(0),
    pauses: percent(report.silence_share, 0),
    pitch: pitch?.toFixed(0),
    span: span?.toFixed(0) ?? t("voices.unknown"),
    pace: pace?.toFixed(1),
  };
}

/** Without the sign that -0.3 leaves on its zero. */
function whole(value) {
  return Math.round(value) || 0;
}

function percent(share, digits) {
  return `${(share * 100).toFixed(share ? digits : 0)} %`;
}
