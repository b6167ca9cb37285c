// The map of a library: a point a recording or a stretch of it; click to play.

const MAP = DATA.map; // columns: s source, a start, b end, x, y from 0 to 1, l label or null
const MAP_H = 460, MAP_MARGIN = 14, MAP_REACH = 12;
let mapAt = -1; // the point that is chosen

function mapPlace(n, width) {
  const scale = (value, size) => MAP_MARGIN + value * (size - 2 * MAP_MARGIN);
  return [scale(MAP.x[n], width), scale(1 - MAP.y[n], MAP_H)];
}

const mapPasses = (n) => (filter.labels === null || filter.labels.has(MAP.l[n]))
  && (!filter.text.trim() || NAMES[MAP.s[n]].toLowerCase().includes(filter.text.trim().toLowerCase()));
const mapText = (n) => `${MAP.l[n] === null ? "No event" : LABELS[MAP.l[n]][0]}\n${NAMES[MAP.s[n]]}, ${timeText(MAP.a[n], 1)} – ${timeText(MAP.b[n], 1)}`;

function drawMap() {
  if (!MAP) return;
  const [ctx, width] = fitCanvas($("map"), MAP_H);
  const dot = (n, radius) => {
    const [x, y] = mapPlace(n, width);
    ctx.beginPath();
    ctx.arc(x, y, radius, 0, 2 * Math.PI);
  };
  const radius = MAP.s.length > 2000 ? 2.5 : 4;
  for (let n = 0; n < MAP.s.length; n++) {
    ctx.globalAlpha = mapPasses(n) ? 0.75 : 0.08;
    ctx.fillStyle = MAP.l[n] === null ? colours.line : colourOf(MAP.l[n]);
    dot(n, radius);
    ctx.fill();
  }
  ctx.globalAlpha = 1;
  if (mapAt >= 0) {
    ctx.strokeStyle = colours.text;
    ctx.lineWidth = 2;
    dot(mapAt, radius + 2);
    ctx.stroke();
  }
  const seen = new Set(MAP.l);
  const item = (colour, name) => {
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = colour;
    return element("li", {}, swatch, name);
  };
  const named = PALETTE[colours.mode].map((colour, l) => (seen.has(l) ? item(colour, LABELS[l][0]) : null));
  const others = [...seen].some((l) => l !== null && l >= named.length) ? item(OTHER[colours.mode], "other labels") : null;
  $("map-key").replaceChildren(...[...named, others, seen.has(null) ? item(colours.line, "no event") : null].filter(Boolean));
}

function mapPointAt(event) {
  const box = $("map").getBoundingClientRect();
  let best = -1, least = MAP_REACH ** 2;
  for (let n = 0; n < MAP.s.length; n++) {
    const [x, y] = mapPlace(n, box.width);
    const distance = (x - event.clientX + box.left) ** 2 + (y - event.clientY + box.top) ** 2;
    if (distance <= least && mapPasses(n)) [best, least] = [n, distance];
  }
  return best;
}

function chooseOnMap(n, play) {
  mapAt = n;
  drawMap();
  $("live").textContent = mapText(n).replace("\n", ", ");
  if (play) player.playStretch(MAP.s[n], MAP.a[n], MAP.b[n]);
}

function listenToMap() {
  if (!MAP) return;
  const canvas = $("map");
  canvas.addEventListener("click", (event) => {
    const n = mapPointAt(event);
    if (n >= 0) chooseOnMap(n, true);
  });
  canvas.addEventListener("pointermove", (event) => {
    const n = event.pointerType === "mouse" ? mapPointAt(event) : -1;
    showTip(n < 0 ? "" : mapText(n), event.clientX, event.clientY);
  });
  canvas.addEventListener("pointerleave", () => showTip(""));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const count = MAP.s.length;
    if (step) chooseOnMap((mapAt + step + count) % count, false);
    else if (event.key === "Enter" && mapAt >= 0) chooseOnMap(mapAt, true);
    else return;
    event.preventDefault();
  });
}
