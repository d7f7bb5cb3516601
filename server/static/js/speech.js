// One speech request: what is asked, and its answer as it comes.

import { errorOfEvent, events, request } from "./api.js";
import { bytesOfBase64 } from "./audio.js";

/**
 * Speak. Calls `on.start({engine, ignored, voice, requestId})` when the answer begins, then
 * `on.audio(bytes, progress)` for each part; `progress` is the server's, 0 to 1, or null.
 *
 * Returns {usage, numbers}: `numbers` is the server's {ttfa_s, audio_s, rtf, ...}, or null.
 * Throws ApiError; or AbortError, when `signal` has ended it here and on the server.
 */
export async function speak(body, signal, on) {
  const options = { method: "POST", body: { ...body, stream_format: "sse" }, signal };
  const response = await request("/v1/audio/speech", options);
  const header = (name) => response.headers.get(`x-rhapsode-${name}`);
  on.start({
    engine: header("engine"),
    ignored: header("ignored")?.split(/,\s*/) ?? [],
    voice: header("voice"),
    requestId: response.headers.get("x-request-id"),
  });
  let done = null;
  for await (const event of events(response)) {
    if (event.type === "speech.audio.delta") on.audio(bytesOfBase64(event.audio), event.progress ?? null);
    else if (event.type === "speech.audio.done") done = event;
    else if (event.error) throw errorOfEvent(event, response);
  }
  if (!done) throw errorOfEvent({ error: { message: "", code: "broken_off", param: null } }, response);
  return { usage: done.usage, numbers: done.rhapsode ?? null };
}
