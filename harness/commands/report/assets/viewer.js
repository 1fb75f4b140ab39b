"use strict";
// The viewer of samples. Its data are scripts that are loaded one by one: index.js with the beginning
// of every prompt, and pages of samples. All text is set through textContent.

const viewer = document.getElementById("viewer");
const part = (id) => document.getElementById(id);
const LIST = 40; // items of the list around the current sample

const pages = new Map(); // page → its samples
const waiting = new Map(); // page → functions to call when it is there
let index = null;
let order = []; // numbers of the samples that fit, in the order shown
let at = 0; // place in order
let searching = 0; // counts searches: an older one stops
const hiddenRows = new Set();

// --- data ---

globalThis.sparsepoSamples = {
  index(text) {
    index = JSON.parse(text);
    start();
  },
  page(text) {
    const { page, samples } = JSON.parse(text);
    pages.set(page, samples);
    for (const done of waiting.get(page) ?? []) done(samples);
    waiting.delete(page);
  },
};

function loadScript(name, onError) {
  const script = document.createElement("script");
  script.src = viewer.dataset.folder + name;
  script.addEventListener("error", onError);
  script.addEventListener("load", () => script.remove());
  document.head.append(script);
}

function loadPage(page) {
  if (pages.has(page)) return Promise.resolve(pages.get(page));
  return new Promise((resolve) => {
    const first = !waiting.has(page);
    if (first) waiting.set(page, []);
    waiting.get(page).push(resolve);
    if (first) loadScript(`${String(page).padStart(4, "0")}.js`, () => say(`Page ${page} of the samples cannot be read.`));
  });
}

async function loadSample(number) {
  const page = index.pages[number];
  return (await loadPage(page))[number - index.pages.indexOf(page)];
}

// --- what is shown, and in which order ---

function say(text) {
  part("status").textContent = text;
}

function textsOf(sample) {
  const prompt = typeof sample.prompt === "string" ? [sample.prompt] : sample.prompt.map((message) => message.content);
  return [...prompt, ...Object.values(sample.references), ...sample.responses.map((response) => response.text)];
}

function inChosenGroup(number) {
  const group = part("group").value;
  const chain = part("chain").value;
  return (group === "" || index.groups.of[number] === Number(group)) && (chain === "" || index.chains.of[number] === Number(chain));
}

function sorted(numbers) {
  const [direction, key] = [part("order").value.slice(0, 1), part("order").value.slice(1)];
  if (!key) return numbers;
  const values = index.values[key];
  const sign = direction === "-" ? -1 : 1;
  return [...numbers].sort((one, other) => {
    const [first, second] = [values[one], values[other]];
    if (first === null || second === null) return (first === null) - (second === null) || one - other;
    if (typeof first === "string" || typeof second === "string") return sign * String(first).localeCompare(String(second), "en") || one - other;
    return sign * (first - second) || one - other;
  });
}

// A search reads page after page; what it finds is shown as it comes.
async function select() {
  searching += 1;
  const own = searching;
  const query = part("search").value.trim().toLocaleLowerCase("en");
  const candidates = index.ids.map((_, number) => number).filter(inChosenGroup);
  if (!query) {
    show(candidates);
    return;
  }
  const found = [];
  const needed = [...new Set(candidates.map((number) => index.pages[number]))];
  show([]);
  for (const [done, page] of needed.entries()) {
    const samples = await loadPage(page);
    if (own !== searching) return;
    const first = index.pages.indexOf(page);
    const more = candidates.filter((number) => index.pages[number] === page
      && textsOf(samples[number - first]).some((text) => text.toLocaleLowerCase("en").includes(query)));
    const empty = !found.length;
    found.push(...more);
    if (more.length && empty) show([...found]);
    else if (more.length) extend(found);
    if (done % 10 === 9) await new Promise((resolve) => setTimeout(resolve));
    if (own !== searching) return;
    say(`Searched ${done + 1} of ${needed.length} pages: ${found.length} samples.`);
  }
  extend(found);
  say(`${found.length} of ${candidates.length} samples contain “${part("search").value.trim()}”.`);
}

function show(numbers) {
  order = sorted(numbers);
  at = 0;
  say(order.length === index.ids.length ? `${order.length} samples.` : `${order.length} of ${index.ids.length} samples.`);
  draw();
}

function extend(numbers) {
  const current = order[at];
  order = sorted([...numbers]);
  at = Math.max(0, order.indexOf(current));
  drawList();
}

// --- one sample ---

function marked(element, text) {
  const query = part("search").value.trim();
  if (!query) {
    element.textContent = text;
    return element;
  }
  const low = text.toLocaleLowerCase("en");
  const sought = query.toLocaleLowerCase("en");
  let from = 0;
  // Lower case may have another length; then nothing is marked.
  for (let place = low.length === text.length ? low.indexOf(sought) : -1; place >= 0; place = low.indexOf(sought, from)) {
    element.append(text.slice(from, place), makeElement("mark", "", text.slice(place, place + sought.length)));
    from = place + sought.length;
  }
  element.append(text.slice(from));
  return element;
}

function drawPrompt(prompt) {
  const box = makeElement("section");
  box.append(makeElement("h2", "", "Prompt"));
  const messages = typeof prompt === "string" ? [{ role: "", content: prompt }] : prompt;
  for (const { role, content } of messages) {
    const message = makeElement("div", "message");
    if (role) message.append(makeElement("div", "role", role));
    message.append(marked(makeElement("p", "text"), content));
    box.append(message);
  }
  return box;
}

function drawScores(scores) {
  const parts = Object.entries(scores).filter(([, value]) => value !== null);
  return parts.map(([name, value]) => {
    const shown = typeof value === "number" ? shortNumber(value) : value;
    return makeElement("p", "scores", `${index.scores[name] ?? name}: ${shown}`);
  });
}

function drawResponse(response, quantity, largest) {
  const panel = makeElement("section", "panel");
  const label = (index.rows[response.row] ?? response.row) + (response.variant ? `, ${response.variant}` : "");
  panel.append(makeElement("h3", "", label));
  if (response.tokens && quantity) panel.append(...drawTokens(response.tokens, label, quantity, largest, index.colours));
  else panel.append(marked(makeElement("p", "text"), response.text || "(empty)"));
  panel.append(...drawScores(response.scores));
  return panel;
}

async function draw() {
  drawList();
  const number = order[at];
  if (number === undefined) {
    part("content").replaceChildren();
    return;
  }
  const sample = await loadSample(number);
  if (order[at] !== number) return;
  const quantity = index.quantities?.[part("colour").selectedIndex];
  const responses = sample.responses.filter((response) => !hiddenRows.has(response.row));
  const largest = quantity ? largestToken(responses, quantity.field) : 0;
  const panels = makeElement("div", "panels");
  for (const [label, text] of Object.entries(sample.references)) {
    const panel = makeElement("section", "panel reference");
    panel.append(makeElement("h3", "", `data: ${label}`), marked(makeElement("p", "text"), text || "(empty)"));
    panels.append(panel);
  }
  panels.append(...responses.map((response) => drawResponse(response, quantity, largest)));
  const place = [sample.id, sample.group, `chain ${sample.chain}`].filter(Boolean).join(" · ");
  part("content").replaceChildren(makeElement("p", "note", place), drawPrompt(sample.prompt), makeElement("h2", "", "Responses"), panels);
  history.replaceState(null, "", `#${number + 1}`);
  for (const near of [at - 1, at + 1]) {
    if (order[near] !== undefined) loadPage(index.pages[order[near]]);
  }
}

function drawList() {
  part("previous").disabled = at <= 0;
  part("next").disabled = at >= order.length - 1;
  part("position").textContent = order.length ? `${at + 1} of ${order.length}` : "none";
  const first = Math.max(0, Math.min(at - Math.floor(LIST / 4), order.length - LIST));
  part("items").replaceChildren(
    ...order.slice(first, first + LIST).map((number, offset) => {
      const item = makeElement("li");
      const group = index.groups.names[index.groups.of[number]];
      const button = makeElement("button");
      button.type = "button";
      button.append(makeElement("span", "", (group ? `${group}: ` : "") + (index.starts[number] || index.ids[number])));
      if (first + offset === at) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => go(first + offset));
      item.append(button);
      return item;
    }),
  );
}

function go(place) {
  const goal = Math.max(0, Math.min(order.length - 1, place));
  if (goal === at) return;
  at = goal;
  draw();
}

// --- controls ---

function addOption(control, value, text) {
  const option = makeElement("option", "", text);
  option.value = value;
  control.append(option);
}

function fill(control, names, all) {
  addOption(control, "", all);
  names.forEach((name, place) => addOption(control, String(place), String(name)));
  control.closest("label").hidden = names.length < 2;
}

function fillOrder() {
  addOption(part("order"), "", "position");
  for (const key of Object.keys(index.values)) {
    const cut = key.lastIndexOf(" ");
    const name = `${index.scores[key.slice(cut + 1)]}, ${index.rows[key.slice(0, cut)]}`;
    addOption(part("order"), `+${key}`, `${name} ↑`);
    addOption(part("order"), `-${key}`, `${name} ↓`);
  }
}

function fillRows() {
  for (const [row, label] of Object.entries(index.rows)) {
    const [box, input] = checkbox(label, (on) => {
      if (on) hiddenRows.delete(row);
      else hiddenRows.add(row);
      draw();
    });
    input.checked = true;
    part("rows").append(box);
  }
}

function fillColours() {
  if (!index.quantities) return;
  for (const { field, label } of index.quantities) addOption(part("colour"), field, label);
  part("colour-label").hidden = false;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inField = event.target.closest("input[type=search], select");
  if (inField) {
    if (event.key === "Escape") inField.blur();
    return;
  }
  const goals = { ArrowRight: at + 1, j: at + 1, ArrowLeft: at - 1, k: at - 1, Home: 0, End: order.length - 1 };
  if (event.key === "/") part("search").focus();
  else if (event.key in goals) go(goals[event.key]);
  else return;
  event.preventDefault();
}

function start() {
  fill(part("group"), index.groups.names, "all");
  fill(part("chain"), index.chains.names, "all");
  fillOrder();
  fillRows();
  fillColours();
  for (const id of ["group", "chain", "order"]) part(id).addEventListener("change", select);
  part("colour").addEventListener("change", draw);
  let typing = 0;
  part("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(select, 150);
  });
  part("controls").addEventListener("submit", (event) => event.preventDefault());
  part("previous").addEventListener("click", () => go(at - 1));
  part("next").addEventListener("click", () => go(at + 1));
  document.addEventListener("keydown", onKey);
  order = index.ids.map((_, number) => number);
  const wanted = Number(location.hash.slice(1));
  at = wanted >= 1 && wanted <= order.length ? wanted - 1 : 0;
  say(`${order.length} samples.`);
  draw();
}

loadScript("index.js", () => say("The list of samples cannot be read; make the site again."));
