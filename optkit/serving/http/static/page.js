"use strict";
const $ = (id) => document.getElementById(id);
const say = (text, error) => { $("status").textContent = text; $("status").className = error ? "error" : ""; };

async function call(path, body) {
  const headers = { "content-type": "application/json" };
  if ($("key").value) headers.authorization = "Bearer " + $("key").value;
  const options = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  const response = await fetch(path, options);
  if (response.status === 401) $("key-label").hidden = false;
  const content = await response.json();
  if (!response.ok) throw new Error(`${response.status}: ${content.error}`);
  return content;
}

let models = [];
const chosen = () => models.find((model) => model.name === $("model").value);

// A second part that every input needs makes an object of the two; one that may lack makes a pair.
function input() {
  const [first, second] = chosen().inputs, text = $("text").value, other = $("second").value;
  if (second && second.required) return { [first.name]: other, [second.name]: text };
  return second && other ? [text, other] : text;
}

const title = (name) => (name.charAt(0).toUpperCase() + name.slice(1)).replace("_", " ");

function shape() {
  const [first, second] = chosen().inputs, both = second && second.required;
  $("second-label").hidden = !second;
  $("second-name").textContent = both ? title(first.name) : "Second text (pairs only)";
  $("first-name").textContent = title(both ? second.name : first.name);
}

function show(prediction) {
  const names = Array.isArray(prediction.scores) && prediction.labels;  // one list beside the other
  const scored = Object.entries(prediction.scores || {}).map(([key, score]) => [names ? names[key] : key, score]);
  const rows = scored.sort((a, b) => b[1] - a[1]).slice(0, 10);
  $("scores").replaceChildren(...rows.map(([label, score]) => {
    const row = document.createElement("tr"), meter = document.createElement("meter");
    meter.value = score;
    row.insertCell().textContent = label;
    row.insertCell().append(meter);
    row.insertCell().textContent = score.toFixed(4);
    return row;
  }));
  $("scores").hidden = !rows.length;
  $("answer").textContent = JSON.stringify(prediction, null, 2);
  $("answer").hidden = false;
}

async function send(event) {
  event.preventDefault();
  if (!models.length) { await begin(); return; }
  $("send").disabled = true;
  const begun = performance.now();
  try {
    const found = await call(`v1/models/${chosen().name}:predict`, { instances: [input()] });
    show(found.predictions[0]);
    say(`${(performance.now() - begun).toFixed(1)} ms, version ${found.model_version}`);
  } catch (error) { say(error.message, true); }
  $("send").disabled = false;
}

async function begin() {
  try {
    models = (await call("v1/models")).data.filter((model) => !model.inputs.some((part) => part.binary));
    $("model").replaceChildren(...models.map((model) => new Option(`${model.name} (${model.task})`, model.name)));
    if (models.length) shape();
    say(models.length ? "" : "No model here takes a text.");
  } catch (error) { say(error.message, true); }
}

function part(title, content) {
  const heading = document.createElement("p"), code = document.createElement("pre");
  heading.textContent = title;
  code.textContent = JSON.stringify(content, null, 2);
  return [heading, code];
}

async function describe() {
  try {
    const api = await call("openapi.json");
    const found = Object.entries(api.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => {
        const details = document.createElement("details"), summary = document.createElement("summary");
        const code = document.createElement("code");
        code.textContent = `${method.toUpperCase()} ${path}`;
        summary.append(code, ` ${operation.summary || ""}`);
        details.append(summary);
        const body = operation.requestBody?.content?.["application/json"]?.schema;
        if (body) details.append(...part("Body", body));
        details.append(...part("Answers", Object.fromEntries(
          Object.entries(operation.responses).map(([code, response]) => [code, response.description]))));
        return details;
      }));
    $("operations").replaceChildren(...found);
    say("");
  } catch (error) { say(error.message, true); }
}

if ($("form")) {
  $("form").addEventListener("submit", send);
  $("model").addEventListener("change", shape);
  $("key").addEventListener("change", begin);
  begin().then(() => {
    // A link can carry a text: what follows # is never sent to a server, but by the button.
    if (location.hash.length < 2 || !models.length) return;
    $("text").value = decodeURIComponent(location.hash.slice(1));
    $("form").requestSubmit();
  });
} else {
  $("key").addEventListener("change", describe);
  describe();
}
