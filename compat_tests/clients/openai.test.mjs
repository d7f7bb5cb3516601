// openai for Node against the server at BASE_URL. Order matters: the first test's speech is what
// the others upload.
import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({
  baseURL: `${process.env.BASE_URL}/v1`,
  apiKey: process.env.OPENAI_API_KEY ?? "sk-test",
  maxRetries: 0,
});
const text = "The weather is very nice today.";
const speech = { model: "tts-1", voice: "ash", input: text };

let folder;
let path;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "compat-"));
  path = join(folder, "speech.wav");
  const answer = await client.audio.speech.create({ ...speech, response_format: "wav" });
  await writeFile(path, Buffer.from(await answer.arrayBuffer()));
});

after(() => rm(folder, { recursive: true }));

function assertHeard(heard) {
  const words = new Set(heard.toLowerCase().match(/[a-z']+/g));
  const right = ["weather", "very", "nice", "today"].filter((word) => words.has(word));
  assert.ok(right.length >= 2, heard);
}

test("speech is mp3 unless asked otherwise", async () => {
  const answer = await client.audio.speech.create(speech);
  assert.equal(answer.headers.get("content-type"), "audio/mpeg");
  const bytes = Buffer.from(await answer.arrayBuffer());
  assert.ok(bytes.subarray(0, 3).equals(Buffer.from("ID3")) || bytes.readUInt16BE() >= 0xffe0);
});

test("pcm streams in more than one piece, of whole samples", async () => {
  const answer = await client.audio.speech.create({
    ...speech,
    input: `${text} `.repeat(20),
    response_format: "pcm",
  });
  const sizes = [];
  for await (const chunk of answer.body) sizes.push(chunk.length);
  assert.ok(sizes.length > 1);
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  assert.equal(bytes % 2, 0);
  assert.ok(bytes > 20 * 48_000);
});

test("a read stream is uploaded in chunks and understood", async () => {
  const answer = await client.audio.transcriptions.create({
    model: "whisper-1",
    file: createReadStream(path),
  });
  assertHeard(answer.text);
  assert.equal(answer.usage.type, "duration");
});

test("a buffer with a name is understood", async () => {
  const response = await client.audio.speech.create({ ...speech, response_format: "mp3" });
  const file = await toFile(Buffer.from(await response.arrayBuffer()), "speech.mp3");
  const answer = await client.audio.transcriptions.create({ model: "gpt-4o-transcribe", file });
  assertHeard(answer.text);
});

test("verbose_json has words and segments", async () => {
  const answer = await client.audio.transcriptions.create({
    model: "whisper-1",
    file: createReadStream(path),
    response_format: "verbose_json",
    timestamp_granularities: ["word", "segment"],
  });
  assert.equal(typeof answer.duration, "number");
  assert.equal(answer.words.map(({ word }) => word).join(" "), answer.text);
  assert.ok(answer.segments.length >= 1);
});

for (const response_format of ["text", "srt", "vtt"]) {
  test(`${response_format} is a string`, async () => {
    const answer = await client.audio.transcriptions.create({
      model: "whisper-1",
      file: createReadStream(path),
      response_format,
    });
    assert.equal(typeof answer, "string");
    assertHeard(answer);
  });
}

test("deltas of a stream join to its text", async () => {
  const stream = await client.audio.transcriptions.create({
    model: "gpt-4o-transcribe",
    file: createReadStream(path),
    stream: true,
  });
  let joined = "";
  let done;
  for await (const event of stream) {
    if (event.type === "transcript.text.delta") joined += event.delta;
    if (event.type === "transcript.text.done") done = event;
  }
  assert.equal(joined, done.text);
  assertHeard(joined);
});

test("the chunking strategy may be an object", async () => {
  const answer = await client.audio.transcriptions.create({
    model: "gpt-4o-transcribe",
    file: createReadStream(path),
    chunking_strategy: { type: "server_vad", threshold: 0.4, silence_duration_ms: 300 },
  });
  assertHeard(answer.text);
});

const refused = [
  ["a voice that is none", OpenAI.BadRequestError, "voice", () =>
    client.audio.speech.create({ ...speech, voice: "nope" })],
  ["a model that is none", OpenAI.NotFoundError, "model", () =>
    client.audio.transcriptions.create({ model: "nope", file: createReadStream(path) })],
  ["a file that is no recording", OpenAI.BadRequestError, "file", async () =>
    client.audio.transcriptions.create({
      model: "whisper-1",
      file: await toFile(Buffer.alloc(5000), "junk.mp3"),
    })],
  ["an empty file", OpenAI.BadRequestError, "file", async () =>
    client.audio.transcriptions.create({
      model: "whisper-1",
      file: await toFile(Buffer.alloc(0), "empty.wav"),
    })],
];

for (const [what, kind, param, call] of refused) {
  test(`${what} is an error that names ${param}`, async () => {
    const error = await call().then(assert.fail, (reason) => reason);
    assert.equal(error.constructor, kind);
    assert.equal(error.param, param);
    assert.ok(error.requestID.startsWith("req_"));
    assert.deepEqual(Object.keys(error.error).sort(), ["code", "message", "param", "type"]);
  });
}

test("a body over the limit is 413, not a broken connection", async () => {
  const file = await toFile(Buffer.alloc(26 * 2 ** 20 + 1), "large.wav");
  const error = await client.audio.transcriptions
    .create({ model: "whisper-1", file })
    .then(assert.fail, (reason) => reason);
  assert.equal(error.constructor, OpenAI.APIError);
  assert.equal(error.status, 413);
});
