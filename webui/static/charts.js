// Two charts of what the page has polled: uPlot draws, the table and the sentence say the same.
// Colours come from the tokens, so a change of theme redraws.
const WINDOW = 1800; // seconds kept; at one poll each two seconds, 900 points
const BUCKET = 30; // one row of the table

const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);
const token = (name, alpha = 1) => {
  probe.style.color = `var(--${name})`;
  const colour = getComputedStyle(probe).color;
  return alpha === 1 ? colour : colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
};
const clock = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 5);
const one = (value) => value.toFixed(1);

// The next round figure above: 1, 2, 4, 6, 8 or 10 of a power of ten.
const above = (value, least) => {
  const top = Math.max(value * 1.1, least);
  const power = 10 ** Math.floor(Math.log10(top));
  return [1, 2, 4, 6, 8, 10].find((step) => step * power >= top) * power;
};
const most = (rows, key) => rows.reduce((best, row) => (row[key] > best[key] ? row : best));

const KINDS = {
  throughput: {
    keys: ["toWan", "toLan"],
    text: one,
    data: (rows) => [rows.map((r) => r.time), rows.map((r) => r.toWan), rows.map((r) => -r.toLan)],
    range: (rows) => [-above(most(rows, "toLan").toLan, 1), above(most(rows, "toWan").toWan, 1)],
    series: (area) => [{}, area("four", { fillTo: 0 }), area("six", { fillTo: 0 })],
    sentence: (rows) => {
      const lan = most(rows, "toLan");
      const wan = most(rows, "toWan");
      return `Most to the LAN: ${one(lan.toLan)} Mbit/s at ${clock(lan.time)}. ` +
        `Most to the WAN: ${one(wan.toWan)} Mbit/s at ${clock(wan.time)}.`;
    },
  },
  sessions: {
    keys: ["open", "failed"],
    text: (value) => String(Math.round(value)),
    data: (rows) => [rows.map((r) => r.time), rows.map((r) => r.open), rows.map((r) => r.failed)],
    range: (rows) => [0, above(Math.max(most(rows, "open").open, most(rows, "failed").failed), 10)],
    series: (area) => [
      {},
      area("ink-2", { fill: token("ink-2", 0.07) }),
      { stroke: token("bad"), width: 1.75, dash: [5, 3], points: { show: false } },
    ],
    sentence: (rows) => {
      const best = most(rows, "open");
      const worst = most(rows, "failed");
      return `Most at once: ${best.open} at ${clock(best.time)}. ` +
        (worst.failed ? `Most not carried in a minute: ${Math.round(worst.failed)} at ${clock(worst.time)}.` : "All were carried.");
    },
  },
};

export class Charts {
  constructor() {
    this.rows = [];
    this.plots = new Map();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw(true));
    let wait;
    addEventListener("resize", () => {
      clearTimeout(wait);
      wait = setTimeout(() => this.draw(true), 80);
    });
  }

  add(row) {
    this.rows.push(row);
    while (this.rows[0].time < row.time - WINDOW) this.rows.shift();
    this.draw(false);
  }

  draw(anew) {
    if (this.rows.length < 2) return;
    for (const place of document.querySelectorAll("[data-chart]")) {
      const name = place.dataset.chart;
      const kind = KINDS[name];
      const data = kind.data(this.rows);
      if (anew && this.plots.has(name)) {
        this.plots.get(name).destroy();
        this.plots.delete(name);
      }
      if (this.plots.has(name)) this.plots.get(name).setData(data);
      else this.plots.set(name, this.plot(place, kind, data));
      const last = this.rows[this.rows.length - 1];
      kind.keys.forEach((key, i) => {
        document.querySelector(`[data-now="${name}-${i}"]`).textContent = kind.text(last[key]);
      });
      document.querySelector(`[data-sentence="${name}"]`).textContent = kind.sentence(this.rows);
      this.table(name, kind);
    }
  }

  plot(place, kind, data) {
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: token("ink-3"), font, ticks: { show: false }, grid: { stroke: token("hair"), width: 1 } };
    const area = (colour, extra) => ({
      stroke: token(colour), width: 1.75, fill: token(colour, 0.14), points: { show: false }, ...extra,
    });
    const base = (u) => {
      const y = Math.round(u.valToPos(0, "y", true));
      u.ctx.save();
      u.ctx.strokeStyle = token("field");
      u.ctx.lineWidth = devicePixelRatio;
      u.ctx.beginPath();
      u.ctx.moveTo(u.bbox.left, y);
      u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
      u.ctx.stroke();
      u.ctx.restore();
    };
    return new uPlot({
      width: place.clientWidth, height: place.clientHeight, padding: [8, 8, 0, 0],
      cursor: { y: false, points: { size: 7, width: 0 }, drag: { x: false } }, legend: { show: false },
      scales: { x: { time: true }, y: { range: () => kind.range(this.rows) } },
      axes: [
        { ...axis, values: (u, times) => times.map(clock), incrs: [60, 120, 300, 600], size: 26, gap: 6, space: 70, grid: { show: false } },
        { ...axis, size: 44, gap: 8, values: (u, values) => values.map((v) => String(Math.abs(v))) },
      ],
      series: kind.series(area),
      hooks: { draw: [base] },
    }, data, place);
  }

  // The mean of each half minute, newest first; rewritten only when there is a new one.
  table(name, kind) {
    const place = document.querySelector(`[data-rows="${name}"]`);
    const buckets = new Map();
    for (const row of this.rows) {
      const start = Math.floor(row.time / BUCKET) * BUCKET;
      buckets.set(start, [...(buckets.get(start) ?? []), row]);
    }
    if (place.dataset.buckets === String([...buckets.keys()].pop())) return;
    place.dataset.buckets = String([...buckets.keys()].pop());
    place.replaceChildren(...[...buckets].reverse().map(([start, rows]) => {
      const line = document.createElement("tr");
      const cell = (text, number) => {
        const made = document.createElement("td");
        made.textContent = text;
        if (number) made.className = "num";
        line.append(made);
      };
      cell(new Date(start * 1000).toTimeString().slice(0, 8), false);
      for (const key of kind.keys) cell(kind.text(rows.reduce((sum, r) => sum + r[key], 0) / rows.length), true);
      return line;
    }));
  }
}
