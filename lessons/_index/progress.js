"use strict";
// How far the server is, until it is ready; a lesson that waits for it is loaded then.
const box = document.getElementById("progress"), line = box.querySelector("[role=status]"), bar = box.querySelector("progress");

function say(text) {
  // What a screen reader reads out is changed only where it says something new.
  if (line.textContent !== text) line.textContent = text;
}

async function look() {
  let status;
  try {
    status = await (await fetch(box.dataset.address)).json();
  } catch {
    say("The server has ended.");
    return;
  }
  const waits = "reload" in box.dataset;
  if (status.ready && waits) {
    location.reload();
    return;
  }
  box.hidden = status.done;
  if (status.done) return;
  say(`Getting ready, step ${status.step} of ${status.n_steps}: ${status.text}`);
  bar.max = status.n_steps;
  bar.value = status.step - 1;
  setTimeout(look, 400);
}
look();
