// Spectrograms, events and time axes on a canvas.

const PALETTE = {
  light: ["#3668ad", "#c2512f", "#22865f", "#8353aa", "#a8780d", "#2c8299", "#ad3f72", "#65791f"],
  dark: ["#7fabea", "#f0906f", "#67c9a0", "#c19ae6", "#dfb65a", "#6fc5d8", "#ea8bb8", "#adc468"],
};
const OTHER = { light: "#6c757d", dark: "#98a1a9" };
const SPEC_H = 64, TRACK_H = 15, AXIS_H = 18, MAX_TRACKS = 4;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800];

const isDark = () => {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const cssVar = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let colours = {};

function readColours() {
  const mode = isDark() ? "dark" : "light";
  colours = { mode, text: cssVar("--text"), faint: cssVar("--faint"), line: cssVar("--line"), spec: cssVar("--spec"), surface: cssVar("--surface"), bg: cssVar("--bg") };
}
const colourOf = (label) => PALETTE[colours.mode][label] ?? OTHER[colours.mode];

// ------------------------------------------------------------------ pictures

const pictures = new Map(); // source -> its images, the ones used last at the end
const MAX_PICTURES = 60;

function picturesOf(source, redraw) {
  let images = pictures.get(source);
  if (images) pictures.delete(source);
  else {
    images = SOURCES[source].t.map(([start, end, data]) => {
      const image = new Image();
      image.addEventListener("load", () => redraw(source), { once: true });
      image.src = `data:image/png;base64,${data}`;
      return { start, end, image };
    });
  }
  pictures.set(source, images);
  if (pictures.size > MAX_PICTURES) pictures.delete(pictures.keys().next().value);
  return images;
}

function drawSpectrogram(ctx, source, t0, t1, width, height, redraw) {
  ctx.fillStyle = "#000";
  ctx.fillRect(0, 0, width, height);
  const perSecond = width / (t1 - t0);
  for (const { start, end, image } of picturesOf(source, redraw)) {
    if (!image.complete || !image.naturalWidth || end <= t0 || start >= t1) continue;
    const from = Math.max(start, t0), to = Math.min(end, t1);
    const columns = image.naturalWidth / (end - start);
    ctx.drawImage(image, (from - start) * columns, 0, (to - from) * columns, image.naturalHeight, (from - t0) * perSecond, 0, (to - from) * perSecond, height);
  }
  if (colours.mode === "light") { // dark on light, as on paper
    ctx.globalCompositeOperation = "difference";
    ctx.fillStyle = "#fff";
    ctx.fillRect(0, 0, width, height);
    ctx.globalCompositeOperation = "darken";
  } else ctx.globalCompositeOperation = "lighten";
  ctx.fillStyle = colours.spec;
  ctx.fillRect(0, 0, width, height);
  ctx.globalCompositeOperation = "source-over";
}

function drawAxis(ctx, source, t0, t1, width, top) {
  const clock = SOURCES[source].k && (SOURCES[source].d ?? 0) >= 60;
  const step = STEPS.find((one) => (one / (t1 - t0)) * width >= 76) ?? STEPS.at(-1);
  const offset = clock ? (Date.parse(`${SOURCES[source].k}Z`) / 1000) % step : 0;
  ctx.fillStyle = colours.faint;
  ctx.font = "11px system-ui, sans-serif";
  ctx.textBaseline = "top";
  for (let t = Math.ceil((t0 + offset) / step) * step - offset; t <= t1; t += step) {
    const x = Math.round(((t - t0) / (t1 - t0)) * width);
    ctx.fillRect(x, top, 1, 4);
    const text = clock ? clockText(source, t, step < 60) : timeText(t, step < 1 ? 1 : 0);
    const w = ctx.measureText(text).width;
    if (x + 4 + w < width) ctx.fillText(text, x + 4, top + 4);
  }
}

// Which of up to four lines an event lies on: fixed for a recording, so that filtering moves nothing.
const track = new Uint8Array(N);
const nTracks = SOURCES.map((_, s) => {
  const ends = [];
  for (const e of OF_SOURCE[s]) {
    let n = ends.findIndex((end) => end <= E.a[e] + 1e-6);
    if (n < 0) n = ends.length < MAX_TRACKS ? ends.length : ends.indexOf(Math.min(...ends));
    ends[n] = Math.max(ends[n] ?? 0, E.b[e]);
    track[e] = n;
  }
  return ends.length;
});

function drawEvent(ctx, e, x, y, w, selected) {
  const verdict = decisions.get(e)?.verdict;
  const colour = colourOf(E.l[e]);
  const h = TRACK_H - 2;
  ctx.globalAlpha = verdict === "reject" ? 0.35 : 1;
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.roundRect(x, y, w, h, Math.min(3, w / 2));
  if (verdict === "reject") {
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1;
    ctx.globalAlpha = 0.8;
    ctx.stroke();
  } else ctx.fill();
  if (w > 26) {
    ctx.save();
    ctx.clip();
    ctx.globalAlpha = 1;
    ctx.fillStyle = verdict === "reject" ? colours.faint : colours.bg;
    ctx.font = "600 10.5px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    const mark = { keep: "✓ ", reject: "✗ ", relabel: "✎ " }[verdict] ?? "";
    ctx.fillText(mark + labelOf(e), x + 5, y + h / 2 + 0.5);
    ctx.restore();
  }
  ctx.globalAlpha = 1;
  if (selected) {
    ctx.strokeStyle = colours.text;
    ctx.lineWidth = 2;
    ctx.beginPath();
    ctx.roundRect(x - 1, y - 1, w + 2, h + 2, 4);
    ctx.stroke();
  }
}

function fitCanvas(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const w = Math.max(1, Math.round(width * ratio)), h = Math.round(height * ratio);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  return [ctx, width];
}
