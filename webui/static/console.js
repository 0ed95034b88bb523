// What the pages gain by JavaScript: rows without a round trip, order by dragging, the count-down, keys.
// Each form works without it.

// -- rows of a list: added and removed here, as the buttons do by way of the server ---------------------
const renumber = (rows) => {
  for (const [index, input] of [...rows.querySelectorAll("input")].entries()) {
    const label = rows.querySelectorAll("label")[index];
    const id = input.id.replace(/-\d+$/, `-${index}`);
    const word = label.textContent.replace(/\d+$/, index + 1);
    const remove = rows.querySelectorAll("button[name=drop]")[index];
    input.id = id;
    label.htmlFor = id;
    label.textContent = word;
    remove.value = remove.value.replace(/\d+$/, index);
    remove.setAttribute("aria-label", remove.getAttribute("aria-label").replace(/\d+$/, index + 1));
  }
};
const clear = (row) => {
  const input = row.querySelector("input");
  input.value = "";
  input.removeAttribute("aria-invalid");
  input.removeAttribute("aria-describedby");
  row.querySelector(".error")?.remove();
  return input;
};
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[name=more], button[name=drop]");
  if (!button) return;
  if (button.name === "more") {
    const rows = button.closest("fieldset").querySelector(":scope > [data-rows]");
    if (!rows?.lastElementChild) return; // a list of tables: the server makes the next one
    event.preventDefault();
    const row = rows.lastElementChild.cloneNode(true);
    const input = clear(row);
    rows.append(row);
    renumber(rows);
    input.focus();
    return;
  }
  const rows = button.closest("[data-rows]");
  if (!rows) return;
  event.preventDefault();
  const row = [...rows.children].find((one) => one.contains(button));
  if (rows.children.length === 1) {
    clear(row).focus();
    return;
  }
  const near = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  renumber(rows);
  near.querySelector("input").focus();
});

// -- order: a row is dragged to another's place; the buttons beside it do the same ------------------------
const table = document.querySelector("[data-order]");
if (table) {
  const form = document.getElementById("drag");
  const rows = [...table.querySelectorAll("tr[data-name]")];
  let dragged = null;
  const unmark = () => {
    for (const row of rows) row.classList.remove("before");
  };
  // The place is before the row below the pointer, or behind the last one.
  const target = (event) => {
    const row = event.target.closest("tr");
    if (!row || !table.tBodies[0].contains(row)) return undefined;
    if (!row.dataset.name) return rows.indexOf(row) === -1 && row.rowIndex > rows.at(-1).rowIndex ? null : rows[0];
    const box = row.getBoundingClientRect();
    return event.clientY < box.top + box.height / 2 ? row : (rows[rows.indexOf(row) + 1] ?? null);
  };
  for (const row of rows) {
    row.draggable = true;
    row.addEventListener("dragstart", (event) => {
      dragged = row;
      row.classList.add("dragged");
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("text/plain", row.dataset.name);
    });
    row.addEventListener("dragend", () => {
      dragged = null;
      row.classList.remove("dragged");
      unmark();
    });
  }
  table.addEventListener("dragover", (event) => {
    const place = dragged && target(event);
    if (place === undefined) return;
    event.preventDefault();
    unmark();
    (place ?? rows.at(-1).nextElementSibling)?.classList.add("before");
  });
  table.addEventListener("drop", (event) => {
    const place = dragged && target(event);
    if (place === undefined || place === dragged) return;
    event.preventDefault();
    form.elements.name.value = dragged.dataset.name;
    form.elements.before.value = place?.dataset.name ?? "";
    form.submit();
  });
}

// -- the count-down: by the clock, since a hidden tab's timers are late ----------------------------------------
const seconds = document.querySelector("[data-countdown]");
if (seconds) {
  const bar = document.querySelector(".countdown progress");
  const end = performance.now() + Number(seconds.dataset.countdown) * 1000;
  const tick = () => {
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    seconds.textContent = left;
    bar.value = left;
    if (left > 0) setTimeout(tick, 250);
    else setTimeout(() => location.replace("/history"), 2000); // the box has gone back by then
  };
  tick();
}

// -- tabs: on a phone the current one may be out of sight -------------------------------------------------
document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });

// -- keys: / searches, g and a letter goes to a page -------------------------------------------------------------
const PAGES = { d: "/", s: "/sessions", l: "/log", p: "/policy", u: "/users", n: "/network", y: "/system", h: "/history", c: "/changes" };
let going = 0;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  const now = performance.now();
  if (event.key === "/") {
    const search = document.querySelector("input[type=search]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  } else if (now - going < 1500 && PAGES[event.key]) {
    location.assign(PAGES[event.key]);
  } else if (event.key === "?") {
    document.getElementById("keys")?.showModal();
  }
  going = event.key === "g" ? now : 0;
});

// -- while the box changes its address: this page stays until one of its addresses answers again ------------
if (document.querySelector("[data-leaving]")) {
  const look = async () => {
    try {
      const answer = await fetch("/changes/state.json", { signal: AbortSignal.timeout(4000) });
      if (answer.status === 401 || (answer.ok && !(await answer.json()).leaving)) {
        location.replace("/changes/confirm");
        return;
      }
    } catch {
      // not reachable: the links to both addresses are all there is to do
    }
    setTimeout(look, 1500);
  };
  setTimeout(look, 3000);
}
