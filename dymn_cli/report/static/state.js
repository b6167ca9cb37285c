// The data of the page, what is filtered, what is decided, and how it is kept.

const $ = (id) => document.getElementById(id);
const DATA = JSON.parse($("data").textContent);
const SOURCES = DATA.sources;
const LABELS = DATA.labels;
const E = DATA.events; // columns: s source, a start, b end, l label, v score, c channel
const N = E.s.length;
const OF_SOURCE = SOURCES.map(() => []);
for (let e = 0; e < N; e++) OF_SOURCE[E.s[e]].push(e);

const COLLATOR = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const filter = { text: "", labels: null, threshold: 0, status: "all" };
const passes = new Uint8Array(N); // events that pass the filter
let shown = []; // sources in the list, in order

// A name may hold bytes that are no UTF-8: they arrive as lone surrogates, and are shown as U+FFFD.
const shownText = (text) => text.replace(/[\uD800-\uDBFF][\uDC00-\uDFFF]|([\uD800-\uDFFF])/g, (all, lone) => (lone ? "\uFFFD" : all));
const NAMES = SOURCES.map((source) => shownText(source.n));

const number = (value) => value.toLocaleString("en");
const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;
const scoreText = (e) => (E.v[e] === null ? "" : E.v[e].toFixed(2));

function timeText(seconds, digits = 0) {
  const whole = digits ? Math.floor(seconds * 10 ** digits + 0.5) / 10 ** digits : Math.floor(seconds + 0.5);
  const h = Math.floor(whole / 3600), m = Math.floor((whole % 3600) / 60);
  const s = (whole % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return h ? `${h}:${String(m).padStart(2, "0")}:${s}` : `${m}:${s}`;
}

// The time of day, where the name of the recording says when it begins; it has no zone.
function clockText(source, seconds, withSeconds = true) {
  const at = new Date(Date.parse(`${SOURCES[source].k}Z`) + seconds * 1000).toISOString();
  return at.slice(11, withSeconds ? 19 : 16);
}

// ------------------------------------------------------------------ decisions

const STORE = `dymn-report:${DATA.id}`;
const decisions = new Map(); // event -> {verdict, label, mid}
const undone = []; // [event, decision before]
let unsaved = false;
let storageWorks = true;

function loadDecisions() {
  for (const [e, verdict, label, mid] of DATA.decisions) decisions.set(e, { verdict, label, mid });
  try {
    localStorage.setItem(`${STORE}:test`, "1");
    localStorage.removeItem(`${STORE}:test`);
  } catch {
    storageWorks = false;
  }
  readDecisions();
}

// What the browser keeps: another tab with this page may have changed it.
function readDecisions() {
  if (!storageWorks) return;
  try {
    const kept = JSON.parse(localStorage.getItem(STORE) ?? "null");
    if (!Array.isArray(kept)) return;
    decisions.clear();
    for (const [e, verdict, label, mid] of kept) {
      if (Number.isInteger(e) && e >= 0 && e < N && ["keep", "reject", "relabel"].includes(verdict)) {
        decisions.set(e, { verdict, label: String(label), mid: String(mid) });
      }
    }
  } catch {
    storageWorks = false;
  }
}

function saveDecisions() {
  unsaved = true;
  const rows = [...decisions].map(([e, { verdict, label, mid }]) => [e, verdict, label, mid]);
  try {
    localStorage.setItem(STORE, JSON.stringify(rows));
  } catch {
    storageWorks = false;
  }
}

function setDecision(e, decision) {
  readDecisions();
  undone.push([e, decisions.get(e) ?? null]);
  if (decision) decisions.set(e, decision);
  else decisions.delete(e);
  saveDecisions();
}

function undoDecision() {
  const last = undone.pop();
  if (!last) return null;
  readDecisions();
  const [e, before] = last;
  if (before) decisions.set(e, before);
  else decisions.delete(e);
  saveDecisions();
  return e;
}

// ------------------------------------------------------------------ filter

const labelOf = (e) => decisions.get(e)?.verdict === "relabel" ? decisions.get(e).label : LABELS[E.l[e]][0];

function passesStatus(e) {
  if (filter.status === "all") return true;
  const verdict = decisions.get(e)?.verdict ?? "open";
  return verdict === filter.status;
}

function applyFilter() {
  const text = filter.text.trim().toLowerCase();
  const fits = NAMES.map((name) => !text || name.toLowerCase().includes(text));
  for (let e = 0; e < N; e++) {
    passes[e] = fits[E.s[e]]
      && (filter.labels === null || filter.labels.has(E.l[e]))
      && (E.v[e] === null || E.v[e] >= filter.threshold)
      && passesStatus(e) ? 1 : 0;
  }
  const onlyWith = $("with-events").checked || filter.labels !== null || filter.status !== "all";
  const counts = SOURCES.map((_, s) => OF_SOURCE[s].reduce((sum, e) => sum + passes[e], 0));
  shown = SOURCES.map((_, s) => s).filter((s) => fits[s] && (!onlyWith || counts[s]));
  sortShown(counts);
  const nEvents = counts.reduce((sum, n) => sum + n, 0);
  $("count").textContent = `${number(nEvents)} of ${plural(N, "event")} in ${number(shown.length)} of ${plural(SOURCES.length, "recording")}`;
}

function sortShown(counts) {
  const by = $("sort").value;
  const best = (s) => OF_SOURCE[s].reduce((most, e) => (passes[e] ? Math.max(most, E.v[e] ?? 0) : most), -1);
  const key = {
    events: (s) => -counts[s],
    score: (s) => -best(s),
    duration: (s) => -(SOURCES[s].d ?? 0),
  }[by];
  if (by === "name") shown.sort((a, b) => COLLATOR.compare(NAMES[a], NAMES[b]));
  else if (by === "clock") shown.sort((a, b) => (SOURCES[a].k ?? "~").localeCompare(SOURCES[b].k ?? "~"));
  else if (key) {
    const keys = new Map(shown.map((s) => [s, key(s)]));
    shown.sort((a, b) => keys.get(a) - keys.get(b) || a - b);
  }
}

// ------------------------------------------------------------------ export

const cell = (text) => (/[",\r\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text);

function decisionRows() {
  const rows = [DATA.columns];
  const order = [...decisions.keys()].sort((x, y) => x - y);
  for (const e of order) {
    const { verdict, label, mid } = decisions.get(e);
    const [found, foundMid] = LABELS[E.l[e]];
    rows.push([
      SOURCES[E.s[e]].n, E.c ? E.c[e] : "mix", E.a[e].toFixed(3), E.b[e].toFixed(3),
      verdict === "relabel" ? label : found, verdict === "relabel" ? mid : foundMid,
      E.v[e] === null ? "" : E.v[e].toFixed(4), verdict === "reject" ? "reject" : "keep", found,
    ]);
  }
  return rows.concat(DATA.carried);
}

// As bytes, so that a name that is no UTF-8 leaves as it came.
function csvBytes(rows) {
  const text = rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
  const encoder = new TextEncoder();
  const parts = text.split(/((?<![\uD800-\uDBFF])[\uDC80-\uDCFF])/);
  return new Blob(parts.map((part, n) => (n % 2 ? Uint8Array.of(part.charCodeAt(0) - 0xdc00) : encoder.encode(part))), { type: "text/csv" });
}

function exportDecisions() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(csvBytes(decisionRows()));
  link.download = "decisions.csv";
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  unsaved = false;
}
