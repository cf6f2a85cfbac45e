// What is pleasant and can be done without: a copy button, a filter, and a key to reach it.
"use strict";

// The clipboard interface is for encrypted pages alone; what is selected can be copied on all.
function copy(code) {
  const selection = window.getSelection();
  const range = document.createRange();
  range.selectNodeContents(code);
  selection.removeAllRanges();
  selection.addRange(range);
  if (navigator.clipboard) return navigator.clipboard.writeText(code.textContent);
  return document.execCommand("copy") ? Promise.resolve() : Promise.reject();
}

for (const code of document.querySelectorAll(".take code")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-live", "polite");
  const say = (text) => {
    button.textContent = text;
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  };
  button.addEventListener("click", () => copy(code).then(() => say("Copied"), () => say("Selected")));
  code.closest(".take").append(button);
}

const table = document.querySelector("table.files");
if (table && table.tBodies[0].rows.length > 1) {
  const rows = Array.from(table.tBodies[0].rows, (row) => [row, row.cells[0].textContent.toLowerCase()]);
  const paged = document.querySelector(".pager") !== null;
  const label = document.createElement("label");
  const input = document.createElement("input");
  const found = document.createElement("output");
  label.className = "filter";
  input.type = "search";
  input.placeholder = paged ? "Filter this page" : "Filter";
  input.setAttribute("aria-label", `${input.placeholder} by name`);
  input.setAttribute("aria-keyshortcuts", "/");
  input.autocomplete = "off";
  input.spellcheck = false;
  label.append(input, found);
  document.querySelector(".tools").prepend(label);

  const filter = () => {
    const text = input.value.toLowerCase();
    let shown = 0;
    for (const [row, name] of rows) {
      row.hidden = !name.includes(text);
      if (!row.hidden) shown += 1;
    }
    found.textContent = text ? `${shown} of ${rows.length}` : "";
  };
  input.addEventListener("input", filter);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      input.value = "";
      filter();
      input.blur();
    }
  });
  document.addEventListener("keydown", (event) => {
    const busy = event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select");
    if (event.key === "/" && !busy) {
      event.preventDefault();
      input.focus();
      input.select();
    }
  });
  // What a browser put back into the box after a step back counts as typed.
  if (input.value) filter();
}
