"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const sections = [...document.querySelectorAll("[data-cell]")];
const state = Object.fromEntries(Object.entries(data.controls).map(([name, control]) => [name, control.first]));
const typed = {};

// A control that came anew with its cell takes the reader's position.
function restore(section) {
  for (const input of section.querySelectorAll("[data-control]")) {
    const name = input.dataset.control, control = data.controls[name];
    if (input.type === "radio") input.checked = Number(input.value) === state[name];
    else if (input.type === "range") input.value = state[name];
    else if (name in typed) input.value = typed[name];
    label(name, control.labels[state[name]]);
  }
}

function label(name, text) {
  for (const place of document.querySelectorAll(`[data-value="${name}"]`)) place.textContent = text;
  for (const input of document.querySelectorAll(`input[type=range][data-control="${name}"]`))
    input.setAttribute("aria-valuetext", text);
}

function show(name) {
  data.cells.forEach((cell, i) => {
    if (!cell.controls.includes(name)) return;
    const text = data.texts[cell.texts[cell.controls.map(each => state[each]).join(",")]];
    sections[i].innerHTML = text.replace(/src="#(\d+)"/g, (_, number) => `src="${data.images[number]}"`);
    restore(sections[i]);
  });
}

// A number is answered for the nearest of those computed beforehand, and the page says so.
function nearest(name, value) {
  const values = data.controls[name].values;
  return values.reduce((best, each, i) => Math.abs(each - value) < Math.abs(values[best] - value) ? i : best, 0);
}

document.addEventListener("input", ({target}) => {
  const name = target.dataset.control;
  if (!name) return;
  const control = data.controls[name];
  if (target.type === "number") {
    const value = target.value === "" ? NaN : Number(target.value);
    typed[name] = target.value;
    state[name] = Number.isFinite(value) ? nearest(name, value) : control.first;
    const used = control.values[state[name]];
    document.querySelector(`[data-note="${name}"]`).textContent =
      Number.isFinite(value) && used !== value ? `computed beforehand for ${used}` : "";
  } else {
    state[name] = Number(target.value);
    label(name, control.labels[state[name]]);
  }
  show(name);
});

// A browser that goes back keeps the inputs' values, but not what belongs to them.
window.addEventListener("pageshow", () => {
  for (const name of Object.keys(data.controls)) show(name);
  restore(document);
});
