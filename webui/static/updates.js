// The page of updates: how far an upload and an update are, and whether the box is back after a restart.
// Without it the forms work, and a link looks again.
const STATE = "/system/updates/state.json";
const EVERY = 1000;
const LATE = 4000;

const size = (count) => (count < 1e6 ? `${Math.round(count / 1e3)} kB` : `${(count / 1e6).toFixed(1)} MB`);

// -- an update that is at work ------------------------------------------------------------------------------
const watch = async (place) => {
  try {
    const answer = await fetch(STATE, { redirect: "error", signal: AbortSignal.timeout(LATE) });
    if (answer.status === 401) return location.reload();
    if (answer.ok) {
      const now = await answer.json();
      if (!now.busy) return location.replace("/system/updates");
      place.querySelector("[data-update-words]").textContent = now.words;
      place.querySelector("[data-update-done]").textContent = now.total ? `${size(now.done)} of ${size(now.total)}` : "";
      const bar = place.querySelector("progress");
      bar.max = now.total || 1;
      bar.value = now.done;
    }
  } catch {
    // The box is busy, or restarts by itself: it is asked again.
  }
  setTimeout(watch, EVERY, place);
};
const working = document.querySelector("[data-update]");
if (working) setTimeout(watch, EVERY, working);

// -- an upload: the form is sent by a request that tells its progress ---------------------------------------
const form = document.querySelector("[data-upload]");
form?.addEventListener("submit", (event) => {
  if (!form.elements.file.files.length) return; // the server says what is missing
  event.preventDefault();
  const bar = form.querySelector("[data-upload-bar]");
  const words = form.querySelector("[data-upload-words]");
  const button = form.querySelector("button");
  const request = new XMLHttpRequest();
  const over = (text) => {
    words.textContent = text;
    bar.hidden = true;
    button.disabled = false;
  };
  request.upload.addEventListener("progress", (now) => {
    bar.max = now.total || 1;
    bar.value = now.loaded;
    words.textContent = `${size(now.loaded)} of ${size(now.total)}`;
  });
  request.addEventListener("load", () => {
    if (request.status < 300) return location.replace("/system/updates");
    const page = new DOMParser().parseFromString(request.responseText, "text/html");
    over((page.querySelector(".error") ?? page.querySelector("h1"))?.textContent ?? "The box refused the update.");
  });
  request.addEventListener("error", () => over("The upload broke off. Send it again."));
  request.open("POST", form.action);
  request.send(new FormData(form));
  button.disabled = true;
  bar.hidden = false;
  words.hidden = false;
  words.textContent = "";
});

// -- after a restart: the box has been away once it asks for the sign-in again ------------------------------
if (document.querySelector("[data-restarting]")) {
  const look = async () => {
    try {
      const answer = await fetch(STATE, { signal: AbortSignal.timeout(LATE) });
      if (answer.status === 401 || answer.redirected) return location.replace("/");
    } catch {
      // away
    }
    setTimeout(look, 2 * EVERY);
  };
  setTimeout(look, 5 * EVERY);
}
