"use strict";
// Draws the token maps in the element "maps". Text is only set through textContent, which keeps
// markup in a response from being interpreted.

const { document: maps, quantities, colours } = JSON.parse(document.getElementById("maps").textContent);
const SIDES = ["chosen", "rejected"];
const DETAILS = [
  ["policy_logps", "log π"],
  ["ref_logps", "log π_ref"],
  ["log_ratios", "log-ratio r"],
  ["kl", "KL k"],
  ["reward_mask", "mask m_u"],
  ["kl_mask", "mask m_d"],
  ["rewards", "reward β·r"],
  ["masked_rewards", "reward β·m_u·r"],
  ["weighted_kl", "KL β·k"],
  ["masked_kl", "KL β·m_d·k"],
  ["contributions", "contribution"],
];

const element = (id) => document.getElementById(id);
const controls = { pair: element("pair"), quantity: element("quantity"), shared: element("shared") };
const tooltip = element("tooltip");

function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e4 ? value.toPrecision(4) : value.toExponential(2);
  return text.replaceAll("-", "−");
}

// The visible form of a token: line breaks and tokens without text are shown as symbols.
function visible(text) {
  return text === "" ? "▯" : text.replace(/\r?\n/g, "⏎\n");
}

// --- colours ---

function mix(from, to, share) {
  const parts = [1, 3, 5].map((at) => {
    const [low, high] = [from, to].map((colour) => parseInt(colour.slice(at, at + 2), 16));
    return Math.round(low + (high - low) * share);
  });
  return `rgb(${parts.join(" ")})`;
}

function colourOf(value, largest, signed) {
  const share = largest > 0 ? Math.min(1, Math.abs(value) / largest) : 0;
  const end = !signed ? colours.high : value < 0 ? colours.negative : colours.positive;
  return mix(colours.zero, end, share);
}

function largestOf(pairs, field) {
  let largest = 0;
  for (const pair of pairs) {
    for (const side of SIDES) {
      for (const value of pair[side][field] ?? []) largest = Math.max(largest, Math.abs(value));
    }
  }
  return largest;
}

function scaleBar(largest, signed) {
  const scale = make("div", "scale");
  const ends = signed ? [colours.negative, colours.zero, colours.positive] : [colours.zero, colours.high];
  const bar = make("span", "bar");
  bar.style.background = `linear-gradient(to right, ${ends.join(", ")})`;
  scale.append(make("span", "", signed ? number(-largest) : "0"), bar, make("span", "", number(largest)));
  return scale;
}

// --- one token ---

function showTooltip(token, response, place) {
  const table = make("table");
  for (const [field, label] of DETAILS) {
    const row = table.insertRow();
    row.append(make("th", "", label));
    row.append(make("td", "", response[field] ? number(response[field][place]) : "none"));
  }
  const name = make("p", "name", `“${visible(response.tokens[place])}”  id ${response.token_ids[place]}`);
  tooltip.replaceChildren(name, table);
  tooltip.hidden = false;
  const at = token.getClientRects()[0] ?? token.getBoundingClientRect();
  const box = tooltip.getBoundingClientRect();
  const below = at.bottom + 8 + box.height <= window.innerHeight;
  tooltip.style.left = `${Math.max(8, Math.min(at.left, window.innerWidth - box.width - 8))}px`;
  tooltip.style.top = `${below ? at.bottom + 8 : Math.max(8, at.top - box.height - 8)}px`;
  for (const other of document.querySelectorAll(".token")) {
    other.classList.toggle("same", other !== token && other.dataset.place === token.dataset.place);
  }
}

function hideTooltip() {
  tooltip.hidden = true;
  for (const other of document.querySelectorAll(".token.same")) other.classList.remove("same");
}

// Tab stops once per response; the arrow keys move between its tokens.
function moveFocus(event) {
  const tokens = [...event.currentTarget.children];
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const ends = { Home: 0, End: tokens.length - 1 }[event.key];
  if (event.key === "Escape") hideTooltip();
  if (step === undefined && ends === undefined) return;
  const here = tokens.indexOf(document.activeElement);
  const goal = tokens[ends ?? Math.max(0, Math.min(tokens.length - 1, here + step))];
  for (const token of tokens) token.tabIndex = token === goal ? 0 : -1;
  goal.focus();
  event.preventDefault();
}

function drawResponse(response, side, quantity, largest) {
  const line = make("p", "text tokens");
  line.setAttribute("aria-label", `${side} response`);
  const masks = quantity.field.includes("kl") ? response.kl_mask : response.reward_mask;
  const values = response[quantity.field];
  response.tokens.forEach((text, place) => {
    const token = make("span", "token", visible(text));
    token.tabIndex = place === 0 ? 0 : -1;
    token.dataset.place = `${side} ${place}`;
    token.setAttribute("aria-describedby", "tooltip");
    if (values) token.style.background = colourOf(values[place], largest, quantity.signed);
    if (masks && masks[place] === 0) token.classList.add("off");
    for (const event of ["mouseenter", "focus"]) {
      token.addEventListener(event, () => showTooltip(token, response, place));
    }
    for (const event of ["mouseleave", "blur"]) token.addEventListener(event, hideTooltip);
    line.append(token);
  });
  line.addEventListener("keydown", moveFocus);
  return line;
}

// --- one method ---

function facts(model, pair) {
  const settings = Object.entries(model.hyper_parameters).map(([name, value]) => `${name}=${value}`);
  const zeros = ["reward", "kl"]
    .filter((mask) => model[`${mask}_sparsity`])
    .map((mask) => {
      const { chosen, rejected } = model[`${mask}_sparsity`];
      return `${mask === "kl" ? "KL" : mask} mask ${chosen.toFixed(1)} % zeros chosen, ${rejected.toFixed(1)} % rejected`;
    });
  const beta = model.beta === null ? "" : `β ${model.beta} · `;
  const lines = [`${beta}margin ${number(pair.margin)} · loss ${number(pair.loss)}`];
  if (zeros.length) lines.push(`all pairs: ${zeros.join("; ")}`);
  const details = make("details", "facts");
  details.append(make("summary", "", "model and settings"));
  const origins = [`model ${model.model}`, `reference ${model.reference ?? "none"}`, `method ${model.method}`];
  for (const line of [...origins, ...settings]) details.append(make("div", "", line));
  return [...lines.map((line) => make("p", "facts", line)), details];
}

function drawPanel(model, pair, quantity, largest) {
  const panel = make("section", "panel");
  panel.append(make("h2", "", model.label));
  if (!pair) {
    const reasons = Object.entries(model.skipped).map(([reason, count]) => `${count} ${reason}`);
    panel.append(make("p", "note", `This pair was left out under this model (${reasons.join(", ")}).`));
    return panel;
  }
  panel.append(...facts(model, pair));
  if (pair.chosen[quantity.field]) panel.append(scaleBar(largest, quantity.signed));
  else panel.append(make("p", "note", `This method has no ${quantity.label}.`));
  for (const side of SIDES) {
    const reward = `${side}, implicit reward ${number(pair[side].reward)}`;
    panel.append(make("h3", "", reward), drawResponse(pair[side], side, quantity, largest));
  }
  return panel;
}

// --- the page ---

const pairIds = [...new Set(maps.models.flatMap((model) => model.pairs.map((pair) => pair.pair_id)))];
const found = maps.models.map((model) => new Map(model.pairs.map((pair) => [pair.pair_id, pair])));

function draw() {
  const quantity = quantities[controls.quantity.selectedIndex];
  const pairId = pairIds[controls.pair.selectedIndex];
  const pairs = found.map((known) => known.get(pairId));
  const together = largestOf(pairs.filter(Boolean), quantity.field);
  hideTooltip();
  element("prompt").textContent = pairs.find(Boolean).prompt;
  element("panels").replaceChildren(
    ...maps.models.map((model, at) => {
      const own = pairs[at] ? largestOf([pairs[at]], quantity.field) : 0;
      return drawPanel(model, pairs[at], quantity, controls.shared.checked ? together : own);
    }),
  );
  element("previous").disabled = controls.pair.selectedIndex === 0;
  element("next").disabled = controls.pair.selectedIndex === pairIds.length - 1;
}

for (const id of pairIds) {
  const { prompt } = found.map((known) => known.get(id)).find(Boolean);
  const start = prompt.length > 60 ? `…${prompt.slice(-60)}` : prompt;
  controls.pair.append(make("option", "", `${id}: ${start.replace(/\s+/g, " ")}`));
}
for (const quantity of quantities) controls.quantity.append(make("option", "", quantity.label));
const first = quantities.findIndex(({ field }) => maps.models.some((model) => model.pairs[0].chosen[field]));
controls.quantity.selectedIndex = first;
for (const control of Object.values(controls)) control.addEventListener("change", draw);
for (const [id, step] of [["previous", -1], ["next", 1]]) {
  element(id).addEventListener("click", () => {
    controls.pair.selectedIndex += step;
    draw();
  });
}
element("controls").addEventListener("submit", (event) => event.preventDefault());
draw();
