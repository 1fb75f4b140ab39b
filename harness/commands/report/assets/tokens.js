"use strict";
// Draws the token map of one response. Text is only set through textContent.

const TOKEN_DETAILS = [
  ["policy_logps", "log π"], ["ref_logps", "log π_ref"], ["log_ratios", "log-ratio r"], ["kl", "KL k"],
  ["reward_mask", "mask m_u"], ["kl_mask", "mask m_d"], ["rewards", "reward β·r"],
  ["masked_rewards", "reward β·m_u·r"], ["weighted_kl", "KL β·k"], ["masked_kl", "KL β·m_d·k"],
  ["contributions", "contribution"],
];

function shortNumber(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e4 ? String(Number(value.toPrecision(4))) : value.toExponential(2);
  return text.replaceAll("-", "−");
}

// Line breaks and tokens without text are shown as symbols.
function visibleToken(text) {
  return text === "" ? "▯" : text.replace(/\r?\n/g, "⏎\n");
}

function mixColours(from, to, share) {
  const parts = [1, 3, 5].map((at) => {
    const [low, high] = [from, to].map((colour) => parseInt(colour.slice(at, at + 2), 16));
    return Math.round(low + (high - low) * share);
  });
  return `rgb(${parts.join(" ")})`;
}

function largestToken(responses, field) {
  let largest = 0;
  for (const response of responses) {
    for (const value of response.tokens?.[field] ?? []) largest = Math.max(largest, Math.abs(value));
  }
  return largest;
}

function tokenScale(quantity, largest, colours) {
  const scale = makeElement("div", "scale");
  const ends = quantity.signed ? [colours.negative, colours.zero, colours.positive] : [colours.zero, colours.high];
  const bar = makeElement("span", "bar");
  bar.style.background = `linear-gradient(to right, ${ends.join(", ")})`;
  scale.append(makeElement("span", "", quantity.signed ? shortNumber(-largest) : "0"), bar, makeElement("span", "", shortNumber(largest)));
  return scale;
}

// Tab stops once per response; the arrow keys move between its tokens.
function moveAmongTokens(event) {
  const tokens = [...event.currentTarget.children];
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const end = { Home: 0, End: tokens.length - 1 }[event.key];
  if (step === undefined && end === undefined) return;
  const here = tokens.indexOf(document.activeElement);
  const goal = tokens[end ?? Math.max(0, Math.min(tokens.length - 1, here + step))];
  for (const token of tokens) token.tabIndex = token === goal ? 0 : -1;
  goal.focus();
  event.preventDefault();
  event.stopPropagation();
}

function drawTokens(map, label, quantity, largest, colours) {
  const line = makeElement("p", "tokens");
  line.setAttribute("role", "group");
  line.setAttribute("aria-label", `tokens of ${label}`);
  const details = makeElement("p", "values", "Point at a token, or move to it with Tab and the arrow keys.");
  const masks = quantity.field.includes("kl") ? map.kl_mask : map.reward_mask;
  const values = map[quantity.field];
  map.tokens.forEach((text, place) => {
    const token = makeElement("span", "token", visibleToken(text));
    token.tabIndex = place === 0 ? 0 : -1;
    token.dataset.place = place;
    if (values) {
      const share = largest > 0 ? Math.min(1, Math.abs(values[place]) / largest) : 0;
      const end = !quantity.signed ? colours.high : values[place] < 0 ? colours.negative : colours.positive;
      token.style.background = mixColours(colours.zero, end, share);
    }
    if (masks && masks[place] === 0) token.classList.add("off");
    const show = () => {
      const numbers = TOKEN_DETAILS.filter(([field]) => map[field]).map(([field, name]) => `${name} ${shortNumber(map[field][place])}`);
      details.textContent = `“${visibleToken(text)}”: ${numbers.join(" · ")}`;
      for (const other of document.querySelectorAll(".token")) {
        other.classList.toggle("same", other !== token && other.dataset.place === token.dataset.place);
      }
    };
    token.addEventListener("mouseenter", show);
    token.addEventListener("focus", show);
    line.append(token);
  });
  line.addEventListener("keydown", moveAmongTokens);
  const parts = values ? [tokenScale(quantity, largest, colours)] : [makeElement("p", "note", `This method has no ${quantity.label}.`)];
  return [...parts, line, details];
}
