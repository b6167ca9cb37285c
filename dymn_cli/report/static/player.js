// One audio element for all recordings, and the event that is selected.

const audio = $("audio");
const player = {
  event: -1,
  last: -1, // the event selected last: the next one comes after it
  source: -1,
  from: 0,
  until: Infinity,
  time: () => (player.source < 0 || !audio.src ? null : audio.currentTime),

  playEvent(e) {
    const pad = $("context").checked ? 1 : 0;
    player.play(E.s[e], Math.max(0, E.a[e] - pad), E.b[e] + pad);
  },

  playStretch(s, from, until = Infinity) { // of no event, so none stays selected
    deselect();
    player.play(s, from, until);
  },

  play(s, from, until) {
    const source = SOURCES[s];
    $("message").textContent = "";
    $("player").hidden = false;
    const before = player.source;
    Object.assign(player, { source: s, from, until });
    if (before >= 0 && before !== s) placeHead(before);
    showNow();
    if (!source.h) {
      audio.pause();
      say(`No audio to play: ${source.p || "the page has no link to it"}`);
      return;
    }
    const href = new URL(source.h, document.baseURI).href;
    if (audio.src !== href) audio.src = source.h;
    const start = () => {
      if (player.source !== s) return;
      audio.currentTime = player.from;
      audio.play().catch((error) => {
        if (error.name === "NotAllowedError") say("The browser wants a click before it plays: press play.");
        else if (error.name !== "AbortError") failed();
      });
    };
    if (audio.readyState >= 1) start();
    else {
      audio.addEventListener("loadedmetadata", start, { once: true });
      audio.load();
    }
  },

  toggle() {
    if (!audio.paused) audio.pause();
    else if (player.event >= 0) player.playEvent(player.event);
    else if (player.source >= 0) player.play(player.source, player.from, player.until);
  },
};

function say(text) {
  $("message").textContent = text;
}

function failed() {
  if (player.source < 0) return;
  const source = SOURCES[player.source];
  const name = shownText(decodeName(source.h));
  const suffix = /\.([^.]+)$/.exec(name)?.[1]?.toLowerCase() ?? "";
  const why = ["aif", "aiff", "caf", "w64", "wma", "au", "amr"].includes(suffix)
    ? `this browser may not know .${suffix}: dymn report --embed-audio puts copies of short recordings into the page`
    : "if it has moved, dymn report --audio DIR makes a page that finds it";
  say(`${name} cannot be played: ${why}.`);
}

function decodeName(href) {
  if (href.startsWith("data:")) return "The embedded audio";
  try {
    return decodeURIComponent(href);
  } catch {
    return href;
  }
}

function tick() {
  if (audio.currentTime >= player.until) audio.pause();
  placeHead(player.source);
  placeCardHead();
  if (!audio.paused) requestAnimationFrame(tick);
}

audio.addEventListener("play", () => {
  $("play").setAttribute("aria-label", "Pause");
  $("play").firstElementChild.textContent = "❚❚";
  requestAnimationFrame(tick);
});
audio.addEventListener("pause", () => {
  $("play").setAttribute("aria-label", "Play");
  $("play").firstElementChild.textContent = "▶";
  tick();
});
audio.addEventListener("timeupdate", () => {
  if (audio.currentTime >= player.until) audio.pause(); // frames stop in a tab that nobody sees
});
audio.addEventListener("error", failed);

// ------------------------------------------------------------------ the selected event

function select(e, { play = false, follow = false } = {}) {
  const before = player.event;
  player.event = player.last = e;
  if (!play && player.source >= 0 && player.source !== E.s[e]) audio.pause();
  $("player").hidden = false;
  say("");
  showNow();
  if (before >= 0 && E.s[before] !== E.s[e]) drawLane(E.s[before]);
  if (follow && !$("lanes").hidden) scrollToEvent(e);
  drawLane(E.s[e]);
  if (!$("review").hidden) showCard();
  const verdict = decisions.get(e)?.verdict;
  $("live").textContent = `${describe(e).replace("\n", ", ")}${verdict ? `, ${WORDS[verdict]}` : ""}`;
  if (play) player.playEvent(e);
}

function deselect() {
  const before = player.event;
  if (before < 0) return;
  player.event = -1;
  drawLane(E.s[before]);
  if (inReview()) showCard();
  showNow();
}

const WORDS = { keep: "kept", reject: "rejected", relabel: "relabelled" };

function showNow() {
  const e = player.event;
  const has = e >= 0;
  for (const id of ["keep", "reject", "relabel"]) {
    $(id).disabled = !has;
    $(id).setAttribute("aria-pressed", String(has && decisions.get(e)?.verdict === id));
  }
  $("undo").disabled = !undone.length;
  const s = has ? E.s[e] : player.source;
  const name = s < 0 ? "" : NAMES[s].split(/[/\\]/).at(-1);
  $("now-label").textContent = has ? `${labelOf(e)}${scoreText(e) && `  ${scoreText(e)}`}` : name;
  if (has) $("now-source").textContent = `${timeText(E.a[e], 1)} – ${timeText(E.b[e], 1)} · ${name}`;
  else $("now-source").textContent = name && `from ${timeText(player.from, 1)}`;
}
