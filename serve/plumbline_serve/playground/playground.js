// The form: which image, which prompt, which scorers; sends a multipart form to POST /v1/score.
import { showAnswer, showProblem, showWaiting } from "./results.js";

const byId = (id) => document.getElementById(id);
const state = { image: null, scorers: [] };

function headers() {
  const key = byId("key").value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

function takeImage(file) {
  if (!file) return;
  state.image = file;
  const preview = byId("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.alt = file.name || "the image to be scored";
  preview.hidden = false;
  byId("hint").textContent = file.name || "";
}

function scorerLine(scorer) {
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.name = "scorer";
  box.value = scorer.id;
  box.checked = true;
  const summary = document.createElement("small");
  summary.textContent = scorer.summary;
  label.append(box, scorer.id, summary);
  return label;
}

async function loadScorers() {
  const place = byId("scorers");
  try {
    const response = await fetch("v1/scorers", { headers: headers() });
    const body = await response.json();
    if (!response.ok) throw new Error(body.detail);
    state.scorers = body.scorers;
    place.replaceChildren(...state.scorers.map(scorerLine));
  } catch (error) {
    place.textContent = `The scorers cannot be listed: ${error.message}`;
  }
}

function chosen(text) {
  const boxes = [...document.querySelectorAll("input[name=scorer]:checked")];
  const names = boxes.map((box) => box.value);
  // Scorers that need what is not here would only say so.
  const given = text ? ["image", "text"] : ["image"];
  return names.filter((name) => state.scorers.find((each) => each.id === name).needs.every((need) => given.includes(need)));
}

function form(text) {
  const item = text ? { image: { part: "image" }, text } : { image: { part: "image" } };
  const request = { items: [item], scorers: chosen(text) };
  const data = new FormData();
  data.append("request", new Blob([JSON.stringify(request)], { type: "application/json" }));
  data.append("image", state.image, "image");
  return data;
}

async function score(event) {
  event.preventDefault();
  const place = byId("answer");
  const text = byId("text").value;
  if (!state.image) {
    showProblem(place, { title: "No image", detail: "Choose an image first." });
    byId("file").focus();
    return;
  }
  const button = byId("send");
  button.disabled = true;
  showWaiting(place);
  try {
    const response = await fetch("v1/score", { method: "POST", body: form(text), headers: headers() });
    const body = await response.json();
    if (response.ok) showAnswer(place, body, { text, scorers: state.scorers });
    else showProblem(place, body);
  } catch (error) {
    showProblem(place, { title: "No answer", detail: error.message });
  } finally {
    button.disabled = false;
  }
}

function dropZone(zone) {
  const mark = (over) => (event) => {
    event.preventDefault();
    zone.classList.toggle("over", over);
  };
  zone.addEventListener("dragover", mark(true));
  zone.addEventListener("dragleave", mark(false));
  zone.addEventListener("drop", (event) => {
    mark(false)(event);
    takeImage(event.dataTransfer.files[0]);
  });
}

dropZone(byId("drop"));
byId("file").addEventListener("change", (event) => takeImage(event.target.files[0]));
document.addEventListener("paste", (event) => takeImage(event.clipboardData.files[0]));
byId("key").addEventListener("change", loadScorers);
byId("request").addEventListener("submit", score);
loadScorers();
