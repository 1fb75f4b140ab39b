"use strict";
// Makes every table of class "sortable" sortable by its columns and filterable by its rows; tables
// of class "heat" can be shaded by their values. Without this script the tables are plain ones.

const FILTER_FROM = 4; // rows from which a filter is worth its place

function makeElement(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// The value of a cell: a number where the table gives one, otherwise its text.
function valueOf(row, column) {
  const cell = row.cells[column];
  if (!cell) return "";
  const given = cell.dataset.sort;
  if (given === undefined) return cell.textContent.trim();
  return given === "" ? null : Number(given);
}

// Cells without a value are last in either direction.
function compare(first, second, sign) {
  if (first === null || second === null) return (first === null) - (second === null);
  if (typeof first === "number" && typeof second === "number") return sign * (first - second);
  return sign * String(first).localeCompare(String(second), "en", { numeric: true });
}

function sortBy(table, column, header) {
  const falling = header.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
  rows.sort((one, other) => compare(one[0], other[0], falling ? -1 : 1));
  body.append(...rows.map(([, row]) => row));
}

function addSorting(table) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = makeElement("button", "", header.textContent);
    button.type = "button";
    button.addEventListener("click", () => sortBy(table, column, header));
    header.replaceChildren(button);
  });
}

function checkbox(text, onChange) {
  const label = makeElement("label");
  const box = makeElement("input");
  box.type = "checkbox";
  box.addEventListener("change", () => onChange(box.checked));
  label.append(box, text);
  return [label, box];
}

// Every column has its own scale, from its smallest to its largest value.
function shade(table, on) {
  table.classList.toggle("shaded", on);
  if (!on || table.dataset.scaled) return;
  table.dataset.scaled = "yes";
  const rows = [...table.tBodies[0].rows];
  for (let column = 0; column < table.tHead.rows[0].cells.length; column += 1) {
    const values = rows.map((row) => valueOf(row, column)).filter((value) => typeof value === "number");
    const low = Math.min(...values);
    const width = Math.max(...values) - low;
    if (!(width > 0)) continue;
    for (const row of rows) {
      const value = valueOf(row, column);
      if (typeof value !== "number") continue;
      row.cells[column].classList.add("shade");
      row.cells[column].style.setProperty("--share", `${Math.round((45 * (value - low)) / width)}%`);
    }
  }
}

function addTools(table) {
  const rows = [...table.tBodies[0].rows];
  const tools = makeElement("div", "tools");
  const found = makeElement("span", "note");
  found.setAttribute("role", "status");
  let query = "";
  let onlyMarked = false;
  const apply = () => {
    const words = query.toLocaleLowerCase("en").split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLocaleLowerCase("en");
      const fits = words.every((word) => text.includes(word));
      row.hidden = !(fits && (!onlyMarked || row.querySelector(".mark")));
      shown += row.hidden ? 0 : 1;
    }
    found.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
  };
  if (rows.length >= FILTER_FROM) {
    const label = makeElement("label", "", "Filter rows ");
    const input = makeElement("input");
    input.type = "search";
    input.autocomplete = "off";
    input.addEventListener("input", () => {
      query = input.value;
      apply();
    });
    label.append(input);
    tools.append(label);
  }
  if (rows.some((row) => row.querySelector(".mark"))) {
    tools.append(checkbox("only significant differences", (on) => {
      onlyMarked = on;
      apply();
    })[0]);
  }
  if (table.classList.contains("heat") && rows.length > 1) {
    tools.append(checkbox("shade by value", (on) => shade(table, on))[0]);
  }
  if (tools.childElementCount) {
    tools.append(found);
    (table.closest(".scroll") ?? table).before(tools);
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  addSorting(table);
  addTools(table);
}
