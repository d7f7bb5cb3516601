// The last clips, with their sound, in this browser's IndexedDB; in memory where that is forbidden.

const KEPT = 20;
const STORE = "clips";

let opening = null;
let memory = [];

/** All clips, newest first: {id, at, text, settings, format, blob, duration}. */
export async function clips() {
  const database = await open();
  const all = database ? await ask(database, "readonly", (store) => store.getAll()) : memory;
  return all.toSorted((one, other) => other.at - one.at);
}

/** Keep a clip, and forget those beyond the last 20. */
export async function keep(clip) {
  const database = await open();
  if (database) await ask(database, "readwrite", (store) => store.put(clip));
  else memory.push(clip);
  for (const { id } of (await clips()).slice(KEPT)) await forget(id);
}

export async function forget(id) {
  const database = await open();
  if (database) await ask(database, "readwrite", (store) => store.delete(id));
  else memory = memory.filter((clip) => clip.id !== id);
}

export async function forgetAll() {
  const database = await open();
  if (database) await ask(database, "readwrite", (store) => store.clear());
  else memory = [];
}

/** The database, or null where this browser gives none. */
function open() {
  opening ??= new Promise((resolve) => {
    const request = indexedDB.open("rhapsode", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => resolve(null);
  }).catch(() => null);
  return opening;
}

function ask(database, mode, work) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const request = work(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}
