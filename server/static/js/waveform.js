// A clip's loudness along its time, drawn as it grows; where it is heard is the border of two inks.

const BAR_PX = 3;
const GAP_PX = 2;

export class Waveform {
  #canvas;
  #ink = {};

  constructor(canvas) {
    this.#canvas = canvas;
    const schemes = matchMedia("(prefers-color-scheme: dark)");
    schemes.addEventListener("change", () => this.#readInk());
    const themes = new MutationObserver(() => this.#readInk());
    themes.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    this.#readInk();
  }

  /**
   * envelope: of what is here, or null.
   * duration: s, of what is here; total: s, of the whole clip as far as is known.
   * time: s, what is heard now.
   */
  draw({ envelope, duration, total, time }) {
    const { width, height } = this.#fit();
    const paint = this.#canvas.getContext("2d");
    const ratio = devicePixelRatio;
    paint.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint.clearRect(0, 0, width, height);
    const step = BAR_PX + GAP_PX;
    const count = Math.floor((width + GAP_PX) / step);
    const loudest = Math.max(envelope?.peak ?? 0, 0.05);
    for (let bar = 0; bar < count; bar += 1) {
      const start = (bar / count) * total;
      const isHere = total > 0 && start < duration;
      const level = isHere ? envelope.level(start, ((bar + 1) / count) * total) / loudest : 0;
      const tall = Math.max(BAR_PX, level * (height - 4));
      paint.fillStyle = !isHere ? this.#ink.empty : start < time ? this.#ink.heard : this.#ink.coming;
      paint.beginPath();
      paint.roundRect(bar * step, (height - tall) / 2, BAR_PX, tall, BAR_PX / 2);
      paint.fill();
    }
  }

  /** The canvas has as many pixels as the screen under it. */
  #fit() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const [wide, tall] = [Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio)];
    if (this.#canvas.width !== wide) this.#canvas.width = wide;
    if (this.#canvas.height !== tall) this.#canvas.height = tall;
    return { width, height };
  }

  #readInk() {
    const probe = document.createElement("span");
    document.body.append(probe);
    const colour = (token) => {
      probe.style.color = `var(${token})`; // Resolves light-dark(), which a canvas cannot.
      return getComputedStyle(probe).color;
    };
    this.#ink = { heard: colour("--accent"), coming: colour("--line-strong"), empty: colour("--line") };
    probe.remove();
  }
}
