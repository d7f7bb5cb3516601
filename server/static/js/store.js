// What this browser remembers, as JSON under "rhapsode.". A browser may forbid it: then we forget.

const memory = new Map();

export function get(name, fallback = null) {
  if (memory.has(name)) return memory.get(name);
  try {
    const text = localStorage.getItem(`rhapsode.${name}`);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

/** null or undefined forgets it. */
export function set(name, value) {
  memory.delete(name);
  try {
    if (value == null) localStorage.removeItem(`rhapsode.${name}`);
    else localStorage.setItem(`rhapsode.${name}`, JSON.stringify(value));
  } catch {
    memory.set(name, value ?? null);
  }
}
