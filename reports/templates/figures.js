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
    one.dataset.value = link.values[link.at.indexOf(place)];
    return one;
  };
  const marks = links.map(() => null);
  view.follow((changes) => links.forEach((link, i) => {
    const at = nearest(link.values, changes[link.name]);
    if (at < 0) return;
    if (marks[i]) marks[i].remove();
    marks[i] = svg.appendChild(line(link, link.at[at]));
  }));
  if (!links.length) continue;
  svg.classList.add("linked");
  const box = svg.parentElement;
  box.tabIndex = 0;
  box.addEventListener("keydown", (event) => {
    const [along, by] = { ArrowLeft: ["x", -1], ArrowRight: ["x", 1], ArrowDown: ["y", -1], ArrowUp: ["y", 1] }[event.key] ?? [];
    const i = links.findIndex((link) => link.along === along);
    if (i < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const { name, values } = links[i], at = marks[i] ? values.indexOf(Number(marks[i].dataset.value)) + by : by < 0 ? values.length - 1 : 0;
    view.set({ [name]: values[Math.min(values.length - 1, Math.max(0, at))] });
    event.preventDefault();
  });
  svg.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    const point = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    const inside = (link) => { const other = point[link.along === "x" ? "y" : "x"]; return other >= link.across[0] && other <= link.across[1]; };
    const chosen = {};
    for (const link of links) {
      const room = Math.abs(link.at[1] - link.at[0]), at = nearest(link.at, point[link.along]);
      if (inside(link) && Math.abs(link.at[at] - point[link.along]) <= room) chosen[link.name] = link.values[at];
    }
    if (Object.keys(chosen).length) view.set(chosen);
  });
}
