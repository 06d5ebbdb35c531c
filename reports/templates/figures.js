// Where a wanted number is on an axis: the nearest value, or the narrowest window that holds it; -1 where there is none.
const place = (link, wanted) => {
  if (!link.spans) return nearest(link.values, wanted);
  const value = wanted === "" || wanted === undefined ? NaN : Number(wanted);
  const wide = ([first, last]) => last - first;
  return link.spans.reduce((best, one, i) => (one[0] <= value && value <= one[1] && (best < 0 || wide(one) < wide(link.spans[best])) ? i : best), -1);
};
// Still figures: a line marks the chosen step and layer wherever an axis has them; a click or the arrow keys choose.
for (const svg of document.querySelectorAll("svg[data-links]")) {
  const links = JSON.parse(svg.dataset.links);
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const line = (link, place) => {
    const one = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const [from, to] = link.across, x = link.along === "x";
    const ends = x ? [place * width, from * height, place * width, to * height] : [from * width, place * height, to * width, place * height];
    ["x1", "y1", "x2", "y2"].forEach((name, i) => one.setAttribute(name, ends[i]));
    one.setAttribute("class", "chosen");
    one.dataset.name = link.name;
    const at = link.at.indexOf(place);
    one.dataset.value = link.spans ? link.spans[at].join("-") : link.values[at];
    one.dataset.at = at;
    return one;
  };
  const marks = links.map(() => null);
  // A window is where it says; another window may have the same first step, so that its place is told apart from the choice.
  const choose = (i, at) => {
    const { name, values, spans } = links[i];
    view.set({ [name]: values[at] });
    if (spans) links.forEach((other, j) => {
      const same = other.name === name && other.spans ? other.spans.findIndex((one) => String(one) === String(spans[at])) : -1;
      if (same < 0) return;
      if (marks[j]) marks[j].remove();
      marks[j] = svg.appendChild(line(other, other.at[same]));
    });
  };
  view.follow((changes) => links.forEach((link, i) => {
    const at = place(link, changes[link.name]);
    if (at < 0 && !(link.spans && link.name in changes)) return;
    if (marks[i]) marks[i].remove();
    marks[i] = at < 0 ? null : svg.appendChild(line(link, link.at[at]));
  }));
  if (!links.length) continue;
  svg.classList.add("linked");
  const box = svg.parentElement;
  box.tabIndex = 0;
  box.addEventListener("keydown", (event) => {
    const [along, by] = { ArrowLeft: ["x", -1], ArrowRight: ["x", 1], ArrowDown: ["y", -1], ArrowUp: ["y", 1] }[event.key] ?? [];
    const i = links.findIndex((link) => link.along === along);
    if (i < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const { name, values } = links[i], at = marks[i] ? Number(marks[i].dataset.at) + by : by < 0 ? values.length - 1 : 0;
    choose(i, Math.min(values.length - 1, Math.max(0, at)));
    event.preventDefault();
  });
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const point = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    const inside = (link) => { const other = point[link.along === "x" ? "y" : "x"]; return other >= link.across[0] && other <= link.across[1]; };
    const chosen = new Map();
    links.forEach((link, i) => {
      const room = Math.abs(link.at[1] - link.at[0]), at = nearest(link.at, point[link.along]);
      if (inside(link) && Math.abs(link.at[at] - point[link.along]) <= room) chosen.set(i, at);
    });
    view.set(Object.fromEntries([...chosen].map(([i, at]) => [links[i].name, links[i].values[at]])));
    for (const [i, at] of chosen) if (links[i].spans) choose(i, at);
  });
}
// A run or a frame that has a pane of its own: chosen by its name or its picture, marked wherever the page shows it.
const panes = [...document.querySelectorAll(".pane[data-choice]")];
const lines = [...document.querySelectorAll("svg [data-run]")];
const toggle = (name, value, more) => {
  view.set({ [name]: view.get(name) === value ? "" : value, ...more });
};
for (const pane of panes) {
  const { choice, value } = pane.dataset, film = pane.closest(".film"), title = pane.querySelector(".pane-title b");
  const pick = () => toggle(choice, value, { at: film.id });
  title.setAttribute("role", "button");
  title.tabIndex = 0;
  title.setAttribute("aria-pressed", false);
  title.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    pick();
    event.preventDefault();
    event.stopPropagation();
  });
  for (const part of [title, pane.querySelector(".stack")]) part.addEventListener("click", pick);
}
for (const one of lines) one.addEventListener("click", () => toggle("run", one.dataset.run));
view.follow((changes) => {
  for (const pane of panes) {
    if (!(pane.dataset.choice in changes)) continue;
    const on = String(changes[pane.dataset.choice]) === pane.dataset.value;
    pane.classList.toggle("picked", on);
    pane.querySelector(".pane-title b").setAttribute("aria-pressed", on);
  }
  if (!("run" in changes)) return;
  for (const one of lines) one.classList.toggle("picked", one.dataset.run === changes.run);
});
