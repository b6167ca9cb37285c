// One event after the other: listen, decide, next.

let queue = [];
const QUEUE_ROWS = 9;

function mixed(e) { // a number that looks random, the same for an event each time
  let h = (e + 1) * 0x9e3779b1 ^ DATA.seed * 0x85ebca6b;
  h = Math.imul(h ^ (h >>> 16), 0x21f0aaad);
  h = Math.imul(h ^ (h >>> 15), 0x735a2d97);
  return (h ^ (h >>> 15)) >>> 0;
}

function makeQueue() {
  queue = [];
  for (let e = 0; e < N; e++) if (passes[e]) queue.push(e);
  const order = $("order").value;
  const around = Number($("around").value);
  const score = (e) => E.v[e] ?? 0;
  const key = {
    highest: (e) => -score(e),
    lowest: score,
    threshold: (e) => Math.abs(score(e) - around),
    random: mixed,
    balanced: mixed,
    time: (e) => e,
  }[order];
  queue.sort((a, b) => key(a) - key(b) || a - b);
  if (order === "balanced") {
    const turn = new Map();
    const turns = new Map(queue.map((e) => {
      const n = turn.get(E.l[e]) ?? 0;
      turn.set(E.l[e], n + 1);
      return [e, n];
    }));
    queue.sort((a, b) => turns.get(a) - turns.get(b) || E.l[a] - E.l[b]);
  }
}

function showReview() {
  if ($("review").hidden) return;
  if (!queue.length) deselect();
  else if (!queue.includes(player.event)) {
    const first = queue.find((e) => !decisions.has(e)) ?? queue[0];
    select(first);
    return;
  }
  showCard();
}

function cardView(e) {
  const around = Math.max(2.5, (E.b[e] - E.a[e]) * 0.6);
  const length = lengthOf(E.s[e]);
  return [Math.max(0, E.a[e] - around), Math.max(Math.min(length, E.b[e] + around), E.b[e])];
}

function showCard() {
  const e = player.event;
  const has = queue.length > 0 && e >= 0;
  document.querySelector(".card").hidden = !has;
  if (has) {
    const s = E.s[e], decision = decisions.get(e);
    $("card-label").textContent = labelOf(e);
    $("card-score").textContent = scoreText(e);
    $("card-verdict").className = `badge ${decision?.verdict ?? ""}`;
    $("card-verdict").textContent = decision ? WORDS[decision.verdict] + (decision.verdict === "relabel" ? `, was ${LABELS[E.l[e]][0]}` : "") : "";
    const clock = SOURCES[s].k ? ` · ${SOURCES[s].k.slice(0, 10)} ${clockText(s, E.a[e])}` : "";
    $("card-source").textContent = `${NAMES[s]} · ${timeText(E.a[e], 1)} – ${timeText(E.b[e], 1)}${clock}`;
    drawCard();
  }
  showProgress();
  showQueue();
}

function drawCard() {
  const e = player.event, canvas = $("card-canvas");
  if (e < 0 || !canvas.clientWidth) return;
  const s = E.s[e], height = canvas.clientHeight;
  const [ctx, width] = fitCanvas(canvas, height);
  const [t0, t1] = cardView(e);
  const spec = height - AXIS_H;
  drawSpectrogram(ctx, s, t0, t1, width, spec, (source) => source === E.s[player.event] && drawCard());
  const x = (t) => ((t - t0) / (t1 - t0)) * width;
  ctx.fillStyle = colours.bg;
  ctx.globalAlpha = 0.55;
  ctx.fillRect(0, 0, x(E.a[e]), spec);
  ctx.fillRect(x(E.b[e]), 0, width, spec);
  ctx.globalAlpha = 1;
  ctx.fillStyle = colourOf(E.l[e]);
  ctx.fillRect(x(E.a[e]), spec - 4, Math.max(2, x(E.b[e]) - x(E.a[e])), 4);
  if (!SOURCES[s].t.length) {
    ctx.fillStyle = colours.faint;
    ctx.font = "13px system-ui, sans-serif";
    ctx.textBaseline = "middle";
    ctx.fillText(SOURCES[s].p || "No picture", 12, spec / 2, width - 24);
  }
  drawAxis(ctx, s, t0, t1, width, spec);
  placeCardHead();
}

function placeCardHead() {
  if ($("review").hidden || player.event < 0) return;
  const [t0, t1] = cardView(player.event), head = $("card-head");
  const share = (audio.currentTime - t0) / (t1 - t0);
  head.hidden = player.source !== E.s[player.event] || audio.paused || share < 0 || share > 1;
  head.style.transform = `translateX(${share * $("card-canvas").clientWidth}px)`;
}

function showProgress() {
  const verdicts = queue.map((e) => decisions.get(e)?.verdict).filter(Boolean);
  const n = (verdict) => verdicts.filter((one) => one === verdict).length;
  $("progress").max = Math.max(1, queue.length);
  $("progress").value = verdicts.length;
  $("progress-text").textContent = queue.length
    ? `${number(verdicts.length)} of ${number(queue.length)} decided: ${n("keep")} kept, ${n("reject")} rejected, ${n("relabel")} relabelled`
    : "Nothing to review: no event passes these filters.";
  $("export").disabled = !decisions.size && !DATA.carried.length;
  $("forget").disabled = !decisions.size;
  const all = decisions.size + DATA.carried.length;
  $("storage").className = storageWorks ? "faint" : "warn";
  $("storage").textContent = !storageWorks
    ? "This browser keeps nothing for this page: export the decisions before you close it."
    : `${all ? `${plural(all, "decision")} in all, saved` : "Decisions are saved"} in this browser.${DATA.carried.length ? ` ${DATA.carried.length} from --review fit no event here; they are exported again.` : ""}`;
}

function showQueue() {
  const at = Math.max(0, queue.indexOf(player.last));
  const from = Math.max(0, Math.min(at - 2, queue.length - QUEUE_ROWS));
  $("queue").replaceChildren(...queue.slice(from, from + QUEUE_ROWS).map((e) => {
    const verdict = decisions.get(e)?.verdict;
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = colourOf(E.l[e]);
    const button = element("button", { type: "button", onclick: () => select(e, { play: $("autoplay").checked }) },
      swatch, element("span", { class: "name" }, labelOf(e)), element("span", { class: "number faint" }, scoreText(e)),
      element("span", { class: `mark ${verdict ?? ""}`, "aria-label": verdict ? WORDS[verdict] : "undecided" }, { keep: "✓", reject: "✗", relabel: "✎" }[verdict] ?? "·"));
    if (e === player.event) button.setAttribute("aria-current", "true");
    return element("li", {}, button);
  }));
}

// ------------------------------------------------------------------ deciding

const inReview = () => !$("review").hidden;
const inTimeOrder = () => shown.flatMap((s) => OF_SOURCE[s].filter((e) => passes[e]));

function step(by, { undecided = false } = {}) {
  const events = inReview() ? queue : inTimeOrder();
  let at = events.indexOf(player.last);
  at = at < 0 ? (by > 0 ? 0 : events.length - 1) : at + by;
  while (undecided && at < events.length && decisions.has(events[at])) at++;
  if (at >= 0 && at < events.length) select(events[at], { play: inReview() && $("autoplay").checked, follow: true });
  else if (undecided) {
    say("That was the last one in this order.");
    showNow();
  }
}

function decide(verdict, label = "", mid = "") {
  const e = player.event;
  if (e < 0) return;
  const same = decisions.get(e)?.verdict === verdict && verdict !== "relabel";
  setDecision(e, same ? null : { verdict, label, mid });
  afterDecision(e);
  if (inReview() && !same) step(1, { undecided: true });
}

function afterDecision(e) {
  showNow();
  drawLane(E.s[e]);
  if (inReview()) showCard();
  else showProgress();
}

function undo() {
  const e = undoDecision();
  if (e === null) return;
  select(e, { follow: true });
  afterDecision(e);
}

// The labels of this page, as it spells them, then those of AudioSet.
function vocabulary() {
  const mids = new Map(DATA.vocabulary);
  const own = new Map(LABELS);
  const others = [...decisions].filter(([e]) => e !== player.event); // one's own spelling can be changed
  const given = others.map(([, { label, mid }]) => [label, mid]);
  const carried = DATA.carried.map(([, , , , label, mid]) => [label, mid]);
  for (const [name, mid] of [...given, ...carried]) if (name && !own.has(name)) own.set(name, mid);
  const known = new Set([...own.keys()].map((name) => name.toLowerCase()));
  return [
    ...[...own].map(([name, mid]) => [name, mid || (mids.get(name) ?? "")]),
    ...DATA.vocabulary.filter(([name]) => !known.has(name.toLowerCase())),
  ];
}

function askLabel() {
  if (player.event < 0) return;
  audio.pause();
  const found = LABELS[E.l[player.event]][0];
  $("relabel-found").textContent = `Found: ${found}`;
  $("relabel-input").value = decisions.get(player.event)?.label ?? "";
  $("vocabulary").replaceChildren(...vocabulary().map(([name]) => element("option", { value: name })));
  $("relabel-dialog").returnValue = "";
  $("relabel-dialog").showModal();
  $("relabel-input").focus();
}

$("relabel-cancel").addEventListener("click", () => $("relabel-dialog").close("cancel"));
$("relabel-dialog").addEventListener("close", () => {
  if ($("relabel-dialog").returnValue !== "save") return;
  const typed = $("relabel-input").value.trim();
  if (!typed) return;
  const names = vocabulary();
  const known = names.find(([name]) => name === typed) ?? names.find(([name]) => name.toLowerCase() === typed.toLowerCase());
  const label = known?.[0] ?? typed;
  const isFound = label === LABELS[E.l[player.event]][0];
  if (!isFound) decide("relabel", label, known?.[1] ?? "");
  else if (decisions.get(player.event)?.verdict !== "keep") decide("keep");
});
