// One pass over a recording: its text and, where the server tells them, its segments, as they come.

import { ApiError, errorOfEvent, events, request } from "./api.js";

/**
 * @param {{sound: File, model: string, language: string}} asked An empty language: the engine tells.
 * @param {AbortSignal} signal Ends it on the server, too.
 * @yields {{segment: {start, end, text}} | {delta: string} | {text: string, language: string | null}}
 *     The last one is the whole.
 * @throws {ApiError} Also if it ends before the whole has come.
 */
export async function* transcribe({ sound, model, language }, signal) {
  const body = new FormData();
  body.set("file", sound, sound.name);
  body.set("model", model);
  if (language) body.set("language", language);
  body.set("stream", "true");
  body.set("timestamp_granularities[]", "segment");
  const response = await request("/v1/audio/transcriptions", { method: "POST", body, signal });
  for await (const event of events(response)) {
    switch (event.type) {
      case "transcript.text.segment":
        yield { segment: { start: event.start, end: event.end, text: event.text } };
        break;
      case "transcript.text.delta":
        yield { delta: event.delta };
        break;
      case "transcript.text.done":
        yield { text: event.text, language: event.languages[0]?.code ?? null };
        return;
      case "error":
        throw errorOfEvent(event, response);
    }
  }
  throw new ApiError({ status: 0, message: "", code: "broken_off", requestId: response.headers.get("x-request-id") });
}
