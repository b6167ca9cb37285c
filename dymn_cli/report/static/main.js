// Controls, keys, themes, and the start.

function refresh() {
  applyFilter();
  layoutLanes();
  makeQueue();
  showReview();
  drawMap();
}

function fillLabels() {
  const wanted = $("labels-search").value.trim().toLowerCase();
  const counts = new Uint32Array(LABELS.length);
  for (let e = 0; e < N; e++) if (E.v[e] === null || E.v[e] >= filter.threshold) counts[E.l[e]]++;
  $("labels-list").replaceChildren(...LABELS.flatMap(([name], l) => {
    if (wanted && !name.toLowerCase().includes(wanted)) return [];
    const box = element("input", { type: "checkbox" });
    box.checked = filter.labels === null || filter.labels.has(l);
    box.addEventListener("change", () => {
      const chosen = filter.labels === null ? new Set() : new Set(filter.labels);
      if (filter.labels === null) chosen.add(l); // the first choice is the only one
      else if (box.checked) chosen.add(l);
      else chosen.delete(l);
      chooseLabels(chosen.size && chosen.size < LABELS.length ? chosen : null);
      fillLabels();
      $("labels-list").querySelectorAll("input")[n(l)]?.focus();
    });
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = colourOf(l);
    return [element("li", {}, element("label", {}, box, swatch, element("span", { class: "name" }, name), element("span", { class: "n" }, number(counts[l]))))];
  }));
  function n(l) {
    return LABELS.slice(0, l).filter(([name]) => !wanted || name.toLowerCase().includes(wanted)).length;
  }
}

function chooseLabels(chosen) {
  filter.labels = chosen;
  const names = chosen === null ? [] : [...chosen].map((l) => LABELS[l][0]);
  $("labels-open").textContent = chosen === null ? "All" : names.length === 1 ? names[0] : `${names.length} labels`;
  refresh();
}

function openLabels(open) {
  $("labels-panel").hidden = !open;
  $("labels-open").setAttribute("aria-expanded", String(open));
  if (open) {
    $("labels-search").value = "";
    fillLabels();
    $("labels-search").focus();
  }
}

function setThreshold(value) {
  filter.threshold = Math.min(1, Math.max(0, Math.round(value * 100) / 100));
  $("threshold").value = filter.threshold;
  $("threshold-value").textContent = filter.threshold.toFixed(2);
  refresh();
}

function showAround() {
  $("around-field").hidden = !inReview() || $("order").value !== "threshold";
}

function showView(name) {
  for (const view of ["lanes", "review"]) {
    const here = view === name;
    $(view).hidden = !here;
    $(`tab-${view}`).setAttribute("aria-selected", String(here));
    $(`tab-${view}`).tabIndex = here ? 0 : -1;
    for (const field of document.querySelectorAll(`.for-${view}`)) field.hidden = !here;
  }
  showAround();
  if (name === "lanes") {
    layoutLanes();
    if (player.event >= 0 && passes[player.event]) scrollToEvent(player.event);
  } else {
    makeQueue();
    showReview();
    drawCard();
    const top = $("explore").getBoundingClientRect().top;
    if (top < 0 || top > innerHeight / 3) $("explore").scrollIntoView();
  }
}

const THEMES = [["", "Auto", "as the system", "◐"], ["light", "Light", "light", "○"], ["dark", "Dark", "dark", "●"]];

function setTheme(name) {
  const [theme, word, spoken, sign] = THEMES.find(([one]) => one === name) ?? THEMES[0];
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  $("theme").querySelector(".word").textContent = word;
  $("theme").firstElementChild.textContent = sign;
  $("theme").setAttribute("aria-label", `Theme: ${spoken}`);
  try {
    localStorage.setItem("dymn-report:theme", theme);
  } catch { /* it is only a colour */ }
  redrawAll();
}

function redrawAll() {
  readColours();
  for (const s of lanes.keys()) drawLane(s);
  drawMap();
  if (!$("review").hidden) showCard();
  if (!$("labels-panel").hidden) fillLabels();
}

function nextTheme() {
  const at = THEMES.findIndex(([name]) => name === (document.documentElement.dataset.theme ?? ""));
  setTheme(THEMES[(at + 1) % THEMES.length][0]);
}

const KEYS = {
  " ": () => player.toggle(),
  n: () => step(1),
  p: () => step(-1),
  k: () => decide("keep"),
  r: () => decide("reject"),
  x: () => decide("reject"),
  l: askLabel,
  u: undo,
  e: () => (decisions.size || DATA.carried.length) && exportDecisions(),
  v: () => showView(inReview() ? "lanes" : "review"),
  t: nextTheme,
  "/": () => {
    $("filters").classList.add("open");
    $("search").focus();
  },
  "[": () => setThreshold(filter.threshold - 0.05),
  "]": () => setThreshold(filter.threshold + 0.05),
  "?": () => $("help").showModal(),
};

const REPEATED = new Set(["n", "p", "[", "]"]); // the keys that act again while they are held

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("labels-panel").hidden) {
    openLabels(false);
    $("labels-open").focus();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest("input:not([type=range], [type=checkbox]), select, textarea");
  if (typing || (event.key === " " && event.target.closest("button, summary, input"))) return;
  if (event.repeat && event.key === "Enter" && event.target.closest(".verdicts")) event.preventDefault();
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!KEYS[key]) return;
  event.preventDefault();
  if (!event.repeat || REPEATED.has(key)) KEYS[key]();
});

// A button that the mouse has pressed gives the focus back: space plays again.
document.addEventListener("click", (event) => {
  if (event.detail) event.target.closest("button")?.blur();
}, { capture: true }); // before a dialog opens, which gives the focus back to where it was

function listen() {
  let waiting = 0;
  $("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      filter.text = $("search").value;
      refresh();
    }, 80);
  });
  $("threshold").addEventListener("input", () => setThreshold(Number($("threshold").value)));
  $("status").addEventListener("change", () => {
    filter.status = $("status").value;
    refresh();
  });
  for (const id of ["sort", "with-events"]) $(id).addEventListener("change", refresh);
  for (const id of ["order", "around"]) {
    $(id).addEventListener("change", () => {
      showAround();
      makeQueue();
      if (queue.length) select(queue.find((e) => !decisions.has(e)) ?? queue[0]);
      showReview();
    });
  }
  $("labels-open").addEventListener("click", () => openLabels($("labels-panel").hidden));
  $("labels-search").addEventListener("input", fillLabels);
  $("labels-all").addEventListener("click", () => {
    chooseLabels(null);
    fillLabels();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!$("labels-panel").hidden && !event.target.closest(".pop")) openLabels(false);
  });
  $("filters-open").addEventListener("click", () => {
    $("filters-open").setAttribute("aria-expanded", String($("filters").classList.toggle("open")));
  });
  $("reset").addEventListener("click", () => {
    Object.assign(filter, { text: "", labels: null, threshold: 0, status: "all" });
    $("search").value = "";
    $("status").value = "all";
    $("with-events").checked = false;
    $("labels-open").textContent = "All";
    setThreshold(0);
  });
  for (const button of document.querySelectorAll("[data-only]")) {
    button.addEventListener("click", () => {
      const l = LABELS.findIndex(([name]) => name === button.dataset.only);
      if (l < 0) return;
      chooseLabels(new Set([l]));
      $("explore").scrollIntoView();
    });
  }
  for (const view of ["lanes", "review"]) {
    $(`tab-${view}`).addEventListener("click", () => showView(view));
    $(`tab-${view}`).addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const other = view === "lanes" ? "review" : "lanes";
      showView(other);
      $(`tab-${other}`).focus();
      event.preventDefault();
    });
  }
  $("play").addEventListener("click", () => player.toggle());
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("keep").addEventListener("click", () => decide("keep"));
  $("reject").addEventListener("click", () => decide("reject"));
  $("relabel").addEventListener("click", askLabel);
  $("undo").addEventListener("click", undo);
  $("export").addEventListener("click", exportDecisions);
  $("forget").addEventListener("click", () => {
    if (!confirm(`Forget ${plural(decisions.size, "decision")}? Export them first if you want to keep them.`)) return;
    decisions.clear();
    undone.length = 0;
    saveDecisions();
    refresh();
    showNow();
  });
  $("card-canvas").addEventListener("click", (event) => {
    const box = $("card-canvas").getBoundingClientRect();
    const [t0, t1] = cardView(player.event);
    const t = t0 + ((event.clientX - box.left) / box.width) * (t1 - t0);
    if (t >= E.a[player.event] && t <= E.b[player.event]) player.playEvent(player.event);
    else player.play(E.s[player.event], t, t1);
  });
  $("theme").addEventListener("click", nextTheme);
  $("help-open").addEventListener("click", () => $("help").showModal());
  addEventListener("scroll", () => {
    showTip("");
    showLanes();
  }, { passive: true });
  addEventListener("resize", () => {
    layoutLanes();
    drawMap();
    if (inReview()) drawCard();
  });
  listenToMap();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  addEventListener("storage", (event) => { // another tab has decided
    if (event.key !== STORE) return;
    readDecisions();
    redrawAll();
    showNow();
    showProgress();
  });
  addEventListener("beforeunload", (event) => {
    if (unsaved && !storageWorks) event.preventDefault();
  });
}

loadDecisions();
$("order").value = DATA.order;
$("around").value = DATA.threshold;
let theme = "";
try {
  theme = localStorage.getItem("dymn-report:theme") ?? "";
} catch { /* as the system, then */ }
$("explore").hidden = SOURCES.length === 0;
readColours();
setTheme(theme);
listen();
refresh();
showNow();
showProgress();
