// Which languages a text is in, by its script, as the server tells it when nobody says.

const SCRIPTS = {
  ja: ["Hiragana", "Katakana"],
  zh: ["Han", "Bopomofo"],
  ko: ["Hangul"],
  ru: ["Cyrillic"],
  el: ["Greek"],
  hy: ["Armenian"],
  ka: ["Georgian"],
  he: ["Hebrew"],
  ar: ["Arabic"],
  am: ["Ethiopic"],
  hi: ["Devanagari"],
  bn: ["Bengali"],
  pa: ["Gurmukhi"],
  gu: ["Gujarati"],
  or: ["Oriya"],
  ta: ["Tamil"],
  te: ["Telugu"],
  kn: ["Kannada"],
  ml: ["Malayalam"],
  si: ["Sinhala"],
  th: ["Thai"],
  my: ["Myanmar"],
};
const LETTERS = Object.entries(SCRIPTS).map(([language, scripts]) => [language, lettersOf(scripts)]);
const LATIN = lettersOf(["Latin"]);

function lettersOf(scripts) {
  return new RegExp(`[${scripts.map((script) => `\\p{Script=${script}}`).join("")}]`, "gu");
}

/** Code points: what the server counts. */
export function characters(text) {
  return [...text].length;
}

/** BCP 47 tags, most letters first; Latin script is in `latin`, the language of the voice. */
export function languagesOf(text, latin) {
  const counts = LETTERS.map(([language, letters]) => [language, (text.match(letters) ?? []).length]);
  const found = new Map(counts);
  if (found.get("ja")) {
    // Where there is kana, Han is Japanese too.
    found.set("ja", found.get("ja") + found.get("zh"));
    found.set("zh", 0);
  }
  found.set(latin, (found.get(latin) ?? 0) + (text.match(LATIN) ?? []).length);
  const ranked = [...found].filter(([, count]) => count > 0).sort((one, other) => other[1] - one[1]);
  return ranked.map(([language]) => language);
}
