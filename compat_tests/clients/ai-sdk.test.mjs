// The Vercel AI SDK against the server at BASE_URL.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { experimental_generateSpeech, experimental_transcribe } from "ai";

const provider = createOpenAI({
  baseURL: `${process.env.BASE_URL}/v1`,
  apiKey: process.env.OPENAI_API_KEY ?? "sk-test",
});
const text = "The weather is very nice today.";

async function speak(outputFormat) {
  const { audio } = await experimental_generateSpeech({
    model: provider.speech("tts-1"),
    voice: "ash",
    text,
    outputFormat,
    maxRetries: 0,
  });
  return audio;
}

test("speech is mp3 unless asked otherwise", async () => {
  const audio = await speak();
  assert.equal(audio.mediaType, "audio/mpeg");
  assert.ok(audio.uint8Array.length > 5000);
});

for (const format of ["mp3", "wav", "flac"]) {
  test(`what it spoke as ${format}, it understands`, async () => {
    const audio = await speak(format);
    const answer = await experimental_transcribe({
      model: provider.transcription("whisper-1"),
      audio: audio.uint8Array,
      maxRetries: 0,
    });
    const words = new Set(answer.text.toLowerCase().match(/[a-z']+/g));
    const right = ["weather", "very", "nice", "today"].filter((word) => words.has(word));
    assert.ok(right.length >= 2, answer.text);
  });
}

test("segments come with their times when they are asked for", async () => {
  const audio = await speak("wav");
  const answer = await experimental_transcribe({
    model: provider.transcription("whisper-1"),
    audio: audio.uint8Array,
    providerOptions: { openai: { timestampGranularities: ["segment"] } },
    maxRetries: 0,
  });
  assert.ok(answer.segments.length >= 1);
  assert.ok(answer.segments[0].endSecond > answer.segments[0].startSecond);
  assert.ok(answer.durationInSeconds > 1);
});

test("an unknown voice is an API call error with its message", async () => {
  const error = await experimental_generateSpeech({
    model: provider.speech("tts-1"),
    voice: "nope",
    text,
    maxRetries: 0,
  }).then(assert.fail, (reason) => reason);
  assert.equal(error.name, "AI_APICallError");
  assert.equal(error.statusCode, 400);
  assert.match(error.message, /nope/);
});
