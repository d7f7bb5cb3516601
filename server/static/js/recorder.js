// The microphone as 16-bit PCM in a WAV file: nothing is lost, and a player can seek in it.

const WORKLET = new URL("recorder-worklet.js", import.meta.url);

/** Why there can be no recording: "insecure", "unsupported", or null. */
export function recordingObstacle() {
  if (!window.isSecureContext) return "insecure";
  const can = navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode;
  return can ? null : "unsupported";
}

/**
 * Begin to record.
 *
 * @param {object} options
 * @param {number} options.maxSeconds Ends by itself after this.
 * @param {boolean} options.isRaw Without the browser's noise suppression and gain control, which
 *     change how a voice sounds.
 * @param {number} [options.sampleRate] Hz of the file; absent: as the device records.
 * @param {(peak: number, seconds: number) => void} options.onLevel About 23 times a second; the
 *     peak is 0 to 1.
 * @param {() => void} options.onLimit It has ended by itself; `stop` gives the file.
 * @returns {Promise<{stop: () => Promise<File>, cancel: () => void}>}
 */
export async function record({ maxSeconds, isRaw, sampleRate, onLevel, onLimit }) {
  const context = new AudioContext();
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: {
        channelCount: 1,
        echoCancellation: !isRaw,
        noiseSuppression: !isRaw,
        autoGainControl: !isRaw,
      },
    });
    await context.audioWorklet.addModule(WORKLET);
    await context.resume();
  } catch (error) {
    stream?.getTracks().forEach((track) => track.stop());
    await context.close();
    throw error;
  }

  const rate = context.sampleRate;
  const limit = Math.floor(maxSeconds * rate);
  const blocks = [];
  let length = 0;
  const source = context.createMediaStreamSource(stream);
  const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
  source.connect(capture);

  function end() {
    capture.port.onmessage = null;
    source.disconnect();
    stream.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") context.close();
  }

  capture.port.onmessage = ({ data }) => {
    const block = data.subarray(0, limit - length);
    blocks.push(block);
    length += block.length;
    onLevel(peakOf(block), length / rate);
    if (length >= limit) {
      end();
      onLimit();
    }
  };

  return {
    async stop() {
      end();
      const samples = await resampled(joined(blocks, length), rate, sampleRate ?? rate);
      return new File([wav(samples, sampleRate ?? rate)], "recording.wav", { type: "audio/wav" });
    },
    cancel: end,
  };
}

function peakOf(samples) {
  let peak = 0;
  for (const sample of samples) peak = Math.max(peak, Math.abs(sample));
  return peak;
}

function joined(blocks, length) {
  const samples = new Float32Array(length);
  let at = 0;
  for (const block of blocks) {
    samples.set(block, at);
    at += block.length;
  }
  return samples;
}

async function resampled(samples, from, to) {
  if (from === to || samples.length === 0) return samples;
  const context = new OfflineAudioContext(1, Math.ceil((samples.length * to) / from), to);
  const buffer = context.createBuffer(1, samples.length, from);
  buffer.copyToChannel(samples, 0);
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
  return (await context.startRendering()).getChannelData(0);
}

/** RIFF header of 44 bytes, then PCM, mono, 16 bits, little-endian. */
function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const tag = (at, text) => {
    for (let i = 0; i < text.length; i += 1) view.setUint8(at + i, text.charCodeAt(i));
  };
  tag(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  tag(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  tag(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => {
    const value = Math.max(-1, Math.min(1, sample));
    view.setInt16(44 + 2 * i, Math.round(value * 32767), true);
  });
  return view.buffer;
}
