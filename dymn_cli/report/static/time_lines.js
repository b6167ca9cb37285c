// A lane a recording; only those in sight are in the document.

const HEAD_H = 12 + 26, NARROW_HEAD_H = 12 + 44, GAP = 8;
const lanes = new Map(); // source -> its elements
const views = new Map(); // source -> [t0, t1] where it is zoomed
let tops = [];

const laneCanvasHeight = (s) => SPEC_H + 3 + nTracks[s] * TRACK_H + AXIS_H;
const lengthOf = (s) => SOURCES[s].d || Math.max(1, ...OF_SOURCE[s].map((e) => E.b[e]));
const viewOf = (s) => views.get(s) ?? [0, lengthOf(s)];

function layoutLanes() {
  const head = matchMedia("(max-width: 640px)").matches ? NARROW_HEAD_H : HEAD_H;
  tops = [0];
  for (const s of shown) tops.push(tops.at(-1) + head + laneCanvasHeight(s) + GAP);
  $("lane-list").style.height = `${tops.at(-1)}px`;
  $("nothing").hidden = shown.length > 0;
  showLanes({ redraw: true });
}

function firstBelow(y) {
  let low = 0, high = shown.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (tops[middle + 1] < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

function showLanes({ redraw = false } = {}) {
  if ($("lanes").hidden) return;
  const list = $("lane-list"), above = list.getBoundingClientRect().top;
  const from = firstBelow(-above - 400), until = -above + innerHeight + 400;
  const wanted = new Set();
  for (let n = from; n < shown.length && tops[n] < until; n++) wanted.add(n);
  const sources = new Set([...wanted].map((n) => shown[n]));
  const focused = document.activeElement?.closest?.(".lane");
  for (const [s, lane] of lanes) {
    if (!sources.has(s) && !(lane.box === focused && shown.includes(s))) {
      lane.box.remove();
      lanes.delete(s);
    }
  }
  for (const n of wanted) {
    const s = shown[n];
    const isNew = !lanes.has(s);
    if (isNew) {
      lanes.set(s, makeLane(s));
      list.append(lanes.get(s).box);
    }
    const { box } = lanes.get(s);
    box.style.top = `${tops[n]}px`;
    box.setAttribute("aria-posinset", n + 1);
    box.setAttribute("aria-setsize", shown.length);
    if (isNew || redraw) drawLane(s);
  }
  if (lanes.size > 1) inOrder(list);
}

// Tab goes through the document: the lanes must stand in it as they stand on the page.
function inOrder(list) {
  const boxes = [...list.children];
  const sorted = [...boxes].sort((a, b) => parseFloat(a.style.top) - parseFloat(b.style.top));
  const focus = document.activeElement;
  if (boxes.some((box, n) => box !== sorted[n])) {
    list.append(...sorted);
    if (list.contains(focus)) focus.focus({ preventScroll: true });
  }
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function makeLane(s) {
  const source = SOURCES[s];
  const [, folder, last] = /^(.*[/\\])?([^]*)$/.exec(NAMES[s]);
  const name = element("h3", { title: NAMES[s] }, ...(folder ? [element("span", { class: "folder" }, folder)] : []), last);
  const meta = element("span", { class: "meta" });
  const zoom = element("div", { class: "zoom" });
  const zoomButton = (text, label, act) => zoom.append(element("button", { type: "button", "aria-label": `${label}: ${last}`, title: label, onclick: act }, text));
  zoomButton("−", "Zoom out", () => zoomLane(s, 2));
  zoomButton("+", "Zoom in", () => zoomLane(s, 0.5));
  zoomButton("⤢", "Whole recording", () => zoomLane(s, Infinity));
  const canvas = element("canvas", { tabindex: "0", role: "application" });
  canvas.style.height = `${laneCanvasHeight(s)}px`;
  const playhead = element("div", { class: "playhead", hidden: "" });
  playhead.style.height = `${SPEC_H}px`;
  const wrap = element("div", { class: "wrap" }, canvas, playhead);
  const box = element("article", { class: "lane", role: "listitem", "data-source": s }, element("div", { class: "lane-head" }, name, meta, zoom), wrap);
  const facts = [];
  if (source.k) facts.push(source.k.slice(0, 16).replace("T", " "));
  if (source.d !== null) facts.push(timeText(source.d, source.d < 60 ? 1 : 0));
  if (source.r) facts.push(`${source.r / 1000} kHz`);
  if (source.c > 1) facts.push(`${source.c} channels`);
  const warning = source.p || source.o.join("; ");
  listenToLane(s, canvas);
  return { box, canvas, playhead, meta, facts, warning };
}

function drawLane(s) {
  const lane = lanes.get(s);
  if (!lane) return;
  const visible = OF_SOURCE[s].filter((e) => passes[e]);
  const more = SOURCES[s].f > OF_SOURCE[s].length ? ` of ${number(SOURCES[s].f)}` : "";
  const text = [...lane.facts, `${number(visible.length)}${more} event${visible.length === 1 && !more ? "" : "s"}`].join(" · ");
  if (lane.text !== text) {
    lane.text = text;
    lane.meta.replaceChildren(text);
    if (lane.warning) lane.meta.append(element("span", { class: "warn", title: lane.warning, tabindex: "0", role: "img", "aria-label": `Problem: ${lane.warning}` }, "  ⚠"));
    lane.canvas.setAttribute("aria-label", `Time line of ${NAMES[s]}, ${plural(visible.length, "event")}. Left and right go through them, space plays.`);
  }
  const height = laneCanvasHeight(s);
  const [ctx, width] = fitCanvas(lane.canvas, height);
  const [t0, t1] = viewOf(s);
  const x = (t) => ((t - t0) / (t1 - t0)) * width;
  drawSpectrogram(ctx, s, t0, t1, width, SPEC_H, drawLane);
  if (!SOURCES[s].t.length) {
    ctx.fillStyle = colours.faint;
    ctx.font = "12px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    ctx.fillText(SOURCES[s].p || "No picture", 10, SPEC_H / 2, width - 20);
  }
  if (player.event >= 0 && E.s[player.event] === s) {
    ctx.fillStyle = colourOf(E.l[player.event]);
    ctx.globalAlpha = 0.28;
    ctx.fillRect(x(E.a[player.event]), 0, Math.max(2, x(E.b[player.event]) - x(E.a[player.event])), SPEC_H);
    ctx.globalAlpha = 1;
  }
  const boxes = [];
  for (const e of visible) {
    if (E.b[e] < t0 || E.a[e] > t1) continue;
    const left = x(E.a[e]);
    boxes.push([e, left, Math.max(3, x(E.b[e]) - left)]);
  }
  boxes.sort((one, other) => (one[0] === player.event) - (other[0] === player.event));
  for (const [e, left, w] of boxes) drawEvent(ctx, e, left, SPEC_H + 3 + track[e] * TRACK_H, w, e === player.event);
  drawAxis(ctx, s, t0, t1, width, height - AXIS_H);
  placeHead(s);
}

function placeHead(s) {
  const lane = lanes.get(s);
  if (!lane) return;
  const here = player.source === s && player.time() !== null;
  lane.playhead.hidden = !here;
  if (!here) return;
  const [t0, t1] = viewOf(s);
  const share = (player.time() - t0) / (t1 - t0);
  lane.playhead.style.transform = `translateX(${share * lane.canvas.clientWidth}px)`;
}

function zoomLane(s, factor, around = null) {
  const whole = lengthOf(s);
  const [t0, t1] = viewOf(s);
  const own = player.event >= 0 && E.s[player.event] === s ? (E.a[player.event] + E.b[player.event]) / 2 : null;
  const centre = around ?? (own !== null && own >= t0 && own <= t1 ? own : (t0 + t1) / 2);
  const span = Math.min(whole, Math.max(1, (t1 - t0) * factor));
  if (span >= whole) views.delete(s);
  else panLane(s, centre - (centre - t0) * (span / (t1 - t0)), span);
  drawLane(s);
}

function panLane(s, start, span) {
  const from = Math.max(0, Math.min(start, lengthOf(s) - span));
  views.set(s, [from, from + span]);
  drawLane(s);
}

// ------------------------------------------------------------------ pointer and keys

function eventAt(s, canvas, event) {
  const box = canvas.getBoundingClientRect();
  const [t0, t1] = viewOf(s);
  const px = (t1 - t0) / box.width;
  const t = t0 + (event.clientX - box.left) * px, y = event.clientY - box.top;
  const near = OF_SOURCE[s].filter((e) => passes[e] && E.a[e] - 3 * px <= t && E.b[e] + 3 * px >= t);
  const row = Math.floor((y - SPEC_H - 3) / TRACK_H);
  const hits = row >= 0 ? near.filter((e) => track[e] === row) : near;
  const hit = hits.sort((one, other) => (E.b[one] - E.a[one]) - (E.b[other] - E.a[other]))[0];
  return { t, hit: hit ?? -1, below: y > SPEC_H + 3 + nTracks[s] * TRACK_H };
}

function describe(e) {
  const s = E.s[e];
  const score = scoreText(e) && ` · ${scoreText(e)}`;
  return `${labelOf(e)}${score}\n${timeText(E.a[e], 1)} – ${timeText(E.b[e], 1)}${SOURCES[s].k ? ` · ${clockText(s, E.a[e])}` : ""}`;
}

function showTip(text, x, y) {
  const tip = $("tip");
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.transform = `translate(${Math.max(8, Math.min(x + 12, innerWidth - width - 8))}px, ${y - height - 12 < 4 ? y + 18 : y - height - 12}px)`;
}

function listenToLane(s, canvas) {
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    drag = { x: event.clientX, view: viewOf(s), moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag && event.buttons & 1 && views.has(s) && Math.abs(event.clientX - drag.x) > 4) {
      drag.moved = true;
      canvas.setPointerCapture(event.pointerId);
      const [t0, t1] = drag.view;
      panLane(s, t0 - ((event.clientX - drag.x) / canvas.clientWidth) * (t1 - t0), t1 - t0);
      showTip("");
      return;
    }
    const { hit, t, below } = eventAt(s, canvas, event);
    if (event.pointerType === "mouse") showTip(hit >= 0 && !below ? describe(hit) : below ? "" : timeText(t, 1), event.clientX, event.clientY);
  });
  canvas.addEventListener("pointerleave", () => showTip(""));
  canvas.addEventListener("click", (event) => {
    if (drag?.moved) return;
    const { hit, t, below } = eventAt(s, canvas, event);
    if (hit >= 0 && !below) select(hit, { play: true });
    else player.playStretch(s, t);
  });
  canvas.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      zoomLane(s, event.deltaY < 0 ? 0.7 : 1.4, eventAt(s, canvas, event).t);
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && views.has(s)) {
      event.preventDefault();
      const [t0, t1] = viewOf(s);
      panLane(s, t0 + (event.deltaX / canvas.clientWidth) * (t1 - t0), t1 - t0);
    }
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) {
      const visible = OF_SOURCE[s].filter((e) => passes[e]);
      const at = visible.indexOf(player.last);
      const next = visible[at < 0 ? (step > 0 ? 0 : visible.length - 1) : at + step];
      if (next !== undefined) select(next, { follow: true });
    } else if (event.key === "+" || event.key === "=") zoomLane(s, 0.5);
    else if (event.key === "-") zoomLane(s, 2);
    else if (event.key === "0") zoomLane(s, Infinity);
    else if (event.key === "Enter") {
      if (player.event >= 0 && E.s[player.event] === s) player.playEvent(player.event);
      else player.playStretch(s, viewOf(s)[0]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

function scrollToEvent(e) {
  const n = shown.indexOf(E.s[e]);
  if (n < 0) return;
  const [t0, t1] = viewOf(E.s[e]);
  if (E.a[e] < t0 || E.b[e] > t1) panLane(E.s[e], (E.a[e] + E.b[e]) / 2 - (t1 - t0) / 2, t1 - t0);
  const list = $("lane-list").getBoundingClientRect().top + scrollY;
  const top = list + tops[n], bottom = list + tops[n + 1];
  if (top < scrollY + 90 || bottom > scrollY + innerHeight - 110) scrollTo({ top: top - innerHeight / 3 });
  showLanes();
}
