"use strict";
// Times, keys, zoom and brightness of the rating page. Without this script the page still rates.

const form = document.getElementById("rating");
const save = document.getElementById("save");
const error = document.getElementById("error");
const cards = [...form.querySelectorAll(".card")].map(watchCard);
const saveText = save.textContent;
let isSaving = false;

function watchCard(card) {
  const token = card.dataset.token;
  const state = { card, token, started: null, isBroken: false, hidden: 0, hiddenSince: null, zoom: 1, brightness: 1 };
  const images = [...card.querySelectorAll("img")];
  // The clock starts when the images are decoded, not when the page is.
  Promise.all(images.map((image) => image.decode())).then(
    () => requestAnimationFrame(() => { state.started = performance.now(); if (document.hidden) state.hiddenSince = state.started; }),
    () => { state.isBroken = true; showError(form.dataset.broken); },
  );
  for (const radio of card.querySelectorAll('.scale input')) radio.addEventListener("change", () => answered(state));
  const display = card.querySelector(".display");
  if (display) {
    display.hidden = false;
    const zoom = display.querySelector(".zoom");
    const brightness = display.querySelector(".brightness");
    const apply = () => {
      state.zoom = Math.max(state.zoom, Number(zoom.value));
      state.brightness = Number(brightness.value);
      for (const shown of images) {
        shown.style.width = `${100 * zoom.value}%`;
        shown.style.filter = `brightness(${brightness.value})`;
      }
    };
    zoom.addEventListener("input", apply);
    brightness.addEventListener("input", apply);
    display.querySelector(".reset").addEventListener("click", () => { zoom.value = 1; brightness.value = 1; apply(); });
  }
  return state;
}

function answered(state) {
  error.hidden = true;
  if (state.started === null) return;
  const ms = Math.max(0, Math.round(performance.now() - state.started - state.hidden));
  form.elements[`ms-${state.token}`].value = ms;
}

document.addEventListener("visibilitychange", () => {
  for (const state of cards) {
    if (state.started === null) continue;
    if (document.hidden) state.hiddenSince = performance.now();
    else if (state.hiddenSince !== null) {
      state.hidden += performance.now() - state.hiddenSince;
      state.hiddenSince = null;
    }
  }
});

function isAnswered(state) {
  return state.card.querySelector(".scale input:checked") !== null;
}

// The image that a digit is for: the one in use, else the first without a score.
function currentCard() {
  const focused = cards.find((state) => state.card.contains(document.activeElement));
  return focused || cards.find((state) => !isAnswered(state)) || cards[cards.length - 1];
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (event.target.closest("textarea, select, input[type=range]")) return;
  // The place of the key: a Kazakh layout prints letters on the digits.
  const digit = /^(?:Digit|Numpad)([1-5])$/.exec(event.code);
  if (digit) {
    const state = currentCard();
    const radio = state.card.querySelector(`.scale input[value="${digit[1]}"]`);
    radio.checked = true;
    radio.dispatchEvent(new Event("change", { bubbles: true }));
    event.preventDefault();
  } else if ((event.code === "Enter" || event.code === "NumpadEnter") && !event.target.closest("button, a, summary")) {
    event.preventDefault();
    form.requestSubmit(save);
  }
});

function showError(text) {
  error.textContent = text;
  error.hidden = false;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (isSaving) return;
  const missing = cards.find((state) => !isAnswered(state));
  if (missing) {
    showError(form.dataset.missing);
    missing.card.querySelector(".scale input").focus();
    return;
  }
  // An image that was not seen is not rated.
  if (cards.some((state) => state.isBroken)) {
    showError(form.dataset.broken);
    return;
  }
  isSaving = true;
  save.setAttribute("aria-disabled", "true");
  save.textContent = form.dataset.saving;
  for (const state of cards) {
    const view = window.visualViewport;
    form.elements[`display-${state.token}`].value = JSON.stringify({
      zoom: Math.max(state.zoom, view ? view.scale : 1), brightness: state.brightness,
      width: window.innerWidth, height: window.innerHeight, ratio: window.devicePixelRatio,
      hidden_ms: Math.round(state.hidden),
    });
  }
  try {
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch(form.action, {
      method: "POST", body, headers: { Accept: "application/json" }, signal: AbortSignal.timeout(30_000),
    });
    const result = await answer.json();
    if (result.saved) {
      location.replace(result.next);
      return;
    }
    showError(result.error);
  } catch {
    showError(form.dataset.unreachable);
  }
  isSaving = false;
  save.removeAttribute("aria-disabled");
  save.textContent = saveText;
});

form.noValidate = true;
for (const hint of document.querySelectorAll(".keys")) hint.hidden = false;
// A page that Back took out of the browser's memory may be out of date.
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
