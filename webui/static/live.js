// Polls the figures every two seconds. Without it the page shows those of its loading.
"use strict";
(() => {
  const EVERY = 2000;
  const button = document.getElementById("pause");
  const note = document.getElementById("live-note");
  const units = ["B", "kB", "MB", "GB", "TB"];
  let paused = false;

  const size = (count) => {
    let unit = 0;
    while (count >= 1000 && unit < units.length - 1) {
      count /= 1000;
      unit += 1;
    }
    return (unit ? count.toFixed(2) : String(count)) + " " + units[unit];
  };
  const show = (name, text) => {
    const place = document.querySelector(`[data-live="${name}"]`);
    if (place) place.textContent = text;
  };
  const poll = async () => {
    if (paused || document.hidden) return;
    try {
      const answer = await fetch("/live.json", { redirect: "error" });
      if (!answer.ok) throw new Error(String(answer.status));
      const c = (await answer.json()).counters;
      show("open", c.tcp + c.udp + c.icmp);
      for (const kind of ["tcp", "udp", "icmp"]) show(kind, c[kind]);
      show("to_wan", size(c.bytes_to_wan));
      show("to_lan", size(c.bytes_to_lan));
      show("failed", c.refused + c.unreachable + c.denied + c.limited);
      note.textContent = "Live, every 2 s";
    } catch {
      note.textContent = "The box does not answer";
    }
  };
  button.hidden = false;
  note.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    note.textContent = paused ? "Paused" : "Live, every 2 s";
  });
  setInterval(poll, EVERY);
})();
