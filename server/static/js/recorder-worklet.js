// Runs on the audio thread: hands the first channel over in blocks.

const BLOCK_SAMPLES = 2048;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(BLOCK_SAMPLES);
    this.length = 0;
  }

  process([input]) {
    const samples = input[0];
    if (!samples) return true;
    this.block.set(samples, this.length);
    this.length += samples.length;
    // A quantum has 128 samples, of which a block holds a whole number.
    if (this.length === BLOCK_SAMPLES) {
      this.port.postMessage(this.block.slice());
      this.length = 0;
    }
    return true;
  }
}

registerProcessor("capture", Capture);
