// The server's API: one way to ask, one error.

import * as store from "./store.js";

const denied = new Set();

/** An answer other than the one asked for. `status` 0: no answer at all, the server is not there. */
export class ApiError extends Error {
  constructor({ status, message, code = null, param = null, requestId = null, cause }) {
    super(message, { cause });
    this.name = "ApiError";
    Object.assign(this, { status, code, param, requestId });
  }
}

export function getKey() {
  return store.get("key", "");
}

/** Kept in this browser only; empty forgets it. */
export function setKey(key) {
  store.set("key", key || null);
}

/** Calls fn whenever the server asks for a key, or another one. */
export function onDenied(fn) {
  denied.add(fn);
}

/**
 * Ask the server. A plain object as body goes as JSON; FormData, Blob and text as they are.
 *
 * Returns the Response, whose status is 2xx; its body may still be on its way.
 * Throws ApiError; or the AbortError of `signal`.
 */
export async function request(path, { method = "GET", body, headers = {}, signal } = {}) {
  const isJson = body != null && Object.getPrototypeOf(body) === Object.prototype;
  const all = { ...headers, ...(isJson && { "content-type": "application/json" }) };
  if (getKey()) all.authorization = `Bearer ${getKey()}`;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: all,
      signal,
      body: isJson ? JSON.stringify(body) : body,
    });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new ApiError({ status: 0, message: cause.message, code: "unreachable", cause });
  }
  if (response.ok) return response;
  const error = await errorOf(response);
  if (error.status === 401) for (const fn of denied) fn(error);
  throw error;
}

/** The answer's JSON. */
export async function json(path, options) {
  return (await request(path, options)).json();
}

/** The data of each server-sent event, parsed, as they come. Throws ApiError if the stream breaks. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await read(reader, response);
      if (done) return;
      const parts = (rest + value.replaceAll("\r", "")).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = dataOf(part);
        if (data && data !== "[DONE]") yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // It may have failed already: that was thrown above.
  }
}

/** The error that an event of a broken stream tells: {"error": {...}} as in an answer. */
export function errorOfEvent(event, response) {
  const { message, code, param } = event.error;
  return new ApiError({ status: 500, message, code, param, requestId: idOf(response) });
}

async function read(reader, response) {
  try {
    return await reader.read();
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    const requestId = idOf(response);
    throw new ApiError({ status: 0, message: cause.message, code: "broken_off", requestId, cause });
  }
}

function dataOf(part) {
  const lines = part.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).trimStart()).join("\n");
}

function idOf(response) {
  return response.headers.get("x-request-id");
}

async function errorOf(response) {
  const facts = { status: response.status, requestId: idOf(response) };
  const text = await response.text();
  try {
    const { message, code, param } = JSON.parse(text).error;
    return new ApiError({ ...facts, message, code, param });
  } catch {
    // Not ours: a proxy's page, say.
    return new ApiError({ ...facts, message: response.statusText || `HTTP ${response.status}` });
  }
}
