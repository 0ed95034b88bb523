// Polls the figures every two seconds. Without it the page shows those of its loading.

const EVERY = 2000;
const LATE = 20000; // the console itself answers or gives up within this time
const button = document.getElementById("pause");
const note = document.getElementById("live-note");
const shown = new Map();
let paused = false;
let before = null;
let seen = ""; // the last of the charts’ points

const say = (text, trouble = false) => {
  if (note.textContent !== text) note.textContent = text;
  note.classList.toggle("wide", !trouble);
  note.classList.toggle("bad", trouble);
  note.classList.toggle("faint", !trouble);
};
const show = (name, text) => {
  for (const place of document.querySelectorAll(`[data-live="${name}"]`)) place.textContent = text;
};
const readout = (name, value, unit) => {
  const place = document.querySelector(`[data-rate="${name}"]`);
  place.querySelector("b").textContent = value;
  place.querySelector("span").textContent = unit;
};
const bits = (rate) => {
  const units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"];
  let unit = 0;
  while (rate >= 1000 && unit < units.length - 1) {
    rate /= 1000;
    unit += 1;
  }
  return [unit ? rate.toFixed(1) : String(Math.round(rate)), units[unit]];
};

const figures = (live) => {
  const c = live.counters;
  show("open", live.open);
  show("open-word", live.open === 1 ? "session" : "sessions");
  for (const row of live.kinds) {
    show(row.kind, row.open);
    show(`${row.kind}-share`, row.share);
    document.querySelector(`[data-lane="${row.kind}"]`).setAttribute("class", `w${row.lane}`);
    document.querySelector(`[data-bar="${row.kind}"]`).className = `w${row.lane}`;
  }
  show("half_open", c.half_open);
  show("not_carried", live.not_carried);
  show("dial", live.dial);
  show("total", live.total);
  show("uptime", live.uptime);
};

// Rates are what two polls differ by. After a restart of the proxy the totals start anew: that
// interval has no rate, rather than a negative one.
const rates = (live) => {
  const now = { ...live.counters, time: live.time };
  const last = before;
  before = now;
  if (!last || now.time <= last.time) return;
  if (["opened", "bytes_to_wan", "bytes_to_lan"].some((name) => now[name] < last[name])) {
    return;
  }
  const rate = (name) => (now[name] - last[name]) / (now.time - last.time);
  const opened = rate("opened");
  readout("opened", opened < 10 ? opened.toFixed(1) : String(Math.round(opened)), "/s");
  readout("to_wan", ...bits(8 * rate("bytes_to_wan")));
  readout("to_lan", ...bits(8 * rate("bytes_to_lan")));
};

const regions = (parts) => {
  for (const [name, html] of Object.entries(parts)) {
    const place = document.querySelector(`[data-region="${name}"]`);
    // What has the focus is left alone; so is what has not changed.
    if (!place || shown.get(name) === html || (place !== document.activeElement && place.contains(document.activeElement))) continue;
    place.innerHTML = html;
    shown.set(name, html);
  }
};

const poll = async () => {
  if (paused || document.hidden) return;
  try {
    const answer = await fetch(`/live.json?seen=${encodeURIComponent(seen)}`, { redirect: "error", signal: AbortSignal.timeout(LATE) });
    if (answer.status === 401) {
      location.reload(); // which leads to the sign-in
      return;
    }
    const live = await answer.json();
    if (paused) return;
    if (!answer.ok) {
      say(live.problem ?? "The box answers with an error", true);
      return;
    }
    figures(live);
    rates(live);
    regions(live.regions);
    seen = live.seen;
    say("Live, every 2 s");
  } catch {
    say("The box does not answer. The figures are old.", true);
  }
};
// One at a time; a slow answer shortens the wait for the next.
const again = async () => {
  const start = performance.now();
  await poll();
  setTimeout(again, Math.max(200, EVERY - (performance.now() - start)));
};

button.hidden = false;
note.hidden = false;
say("Live, every 2 s");
button.addEventListener("click", () => {
  paused = !paused;
  before = null;
  button.querySelector("use").setAttribute("href", `/static/icons.svg#${paused ? "refresh-cw" : "pause"}`);
  button.querySelector("span").textContent = paused ? "Go on" : "Pause";
  say(paused ? "Paused" : "Live, every 2 s");
});

if (navigator.clipboard) {
  const copied = document.getElementById("copied");
  for (const place of document.querySelectorAll("[data-copy]")) {
    place.hidden = false;
    place.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(place.dataset.copy);
        copied.textContent = `${place.dataset.copy} copied.`;
      } catch {
        copied.textContent = "The browser does not let the page copy.";
      }
      setTimeout(() => { copied.textContent = ""; }, 4000);
    });
  }
}
again();
