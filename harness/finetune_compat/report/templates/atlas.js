// Adds search, filters and sorting to a page that is complete without them.
"use strict";
const byId = id => document.getElementById(id);
const form = byId("filters"), list = byId("issue-list");
const issues = [...list.children], rest = [...document.querySelectorAll(".find:not(.issue)")];
const texts = new Map([...issues, ...rest].map(found => [found, found.textContent.toLowerCase()]));

function apply() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const kind = byId("kind").value, state = byId("state").value;
  const matches = found => words.every(word => texts.get(found).includes(word));
  for (const issue of issues) issue.classList.toggle("left-out", !matches(issue) || (kind !== "" && issue.dataset.kind !== kind));
  for (const found of rest) found.classList.toggle("left-out", !matches(found) || (state !== "" && !found.querySelector(".s-" + state)));
  byId("found").textContent = issues.filter(issue => !issue.classList.contains("left-out")).length + " of " + issues.length + " issues";
}

function sort() {
  const by = byId("sort").value;
  const order = {
    order: (a, b) => a.dataset.order - b.dataset.order,
    cells: (a, b) => b.dataset.cells - a.dataset.cells,
    title: (a, b) => a.dataset.title.localeCompare(b.dataset.title),
    kind: (a, b) => a.dataset.kind.localeCompare(b.dataset.kind) || a.dataset.order - b.dataset.order,
  };
  list.append(...[...issues].sort(order[by]));
}

// A link to something that a filter left out shows it.
addEventListener("hashchange", () => {
  const target = byId(decodeURIComponent(location.hash.slice(1)));
  target?.closest(".left-out")?.classList.remove("left-out");
  target?.scrollIntoView();
});
for (const grid of document.querySelectorAll(".tall")) grid.scrollLeft = grid.scrollWidth; // the newest releases
form.hidden = false;
form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("input", () => { apply(); sort(); });
apply();
