// The grid of a film: a click or the sliders choose a layer and a step; the number of that cell is told.
for (const grid of document.querySelectorAll(".grid")) {
  const film = grid.closest(".film");
  const statistics = JSON.parse(grid.dataset.statistics);
  const [steps, layers] = [...film.querySelectorAll("input[type=range]")].map((input) => ({
    input,
    values: JSON.parse(input.dataset.values),
  }));
  const part = (name) => grid.querySelector("." + name);
  const cells = part("cells"), choice = part("choice"), over = film.querySelector(".over-x0");
  let shown = statistics[0];

  const at = () => [steps, layers].map((slider) => slider.values[Number(slider.input.value)]);
  const point = () => {
    const [step, layer] = at();
    const x = nearest(shown.steps, step), y = nearest(shown.layers, layer);
    cells.style.setProperty("--x", x);
    cells.style.setProperty("--y", shown.layers.length - 1 - y);
    const number = (rows) => (rows.length && rows[y][x] !== null ? String(rows[y][x]) : "");
    const ends = number(shown.low) && number(shown.high) ? ` (${number(shown.low)} to ${number(shown.high)})` : "";
    part("cell").textContent = `step ${shown.steps[x]}, layer ${shown.layers[y]}: ${number(shown.values) || "no value"}${ends}`;
  };
  const csv = () => {
    const rows = shown.layers.flatMap((layer, y) => shown.steps.map((step, x) =>
      [step, layer, ...[shown.values, shown.low, shown.high].filter((of) => of.length).map((of) => of[y][x] ?? "")].join(",")));
    const head = ["step", "layer", "value", ...(shown.low.length ? ["low", "high"] : [])].join(",");
    return "data:text/csv;charset=utf-8," + encodeURIComponent([head, ...rows].join("\n") + "\n");
  };
  const show = () => {
    choice.value = shown.id;
    cells.style.backgroundImage = `url(${shown.uri})`;
    cells.style.setProperty("--xs", shown.steps.length);
    cells.style.setProperty("--ys", shown.layers.length);
    cells.setAttribute("aria-label", shown.alt);
    part("said").textContent = [shown.caption, `Colours: ${shown.scale}`, shown.units].filter(Boolean).join(" · ");
    part("upper").textContent = shown.layers[shown.layers.length - 1];
    part("lower").textContent = shown.layers[0];
    part("first").textContent = shown.steps[0];
    part("last").textContent = shown.steps[shown.steps.length - 1];
    part("code").textContent = shown.python;
    part("csv").href = csv();
    point();
  };
  const choose = (id) => {
    const found = statistics.find((one) => one.id === id);
    if (found && found !== shown) { shown = found; show(); }
  };
  const lay = (on) => {
    if (!over) return;
    over.checked = on;
    film.classList.toggle("over", on);
  };
  cells.addEventListener("pointerdown", (event) => {
    const box = cells.getBoundingClientRect();
    const place = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    const x = place((event.clientX - box.left) / box.width, shown.steps.length);
    const y = shown.layers.length - 1 - place((event.clientY - box.top) / box.height, shown.layers.length);
    view.set({ step: shown.steps[x], layer: shown.layers[y], at: film.id });
  });
  choice.addEventListener("change", () => { choose(choice.value); view.set({ statistic: shown.id, at: film.id }); });
  if (over) over.addEventListener("change", () => { lay(over.checked); view.set({ over: over.checked ? 1 : 0, at: film.id }); });
  film.addEventListener("moved", point);
  view.follow((changes) => {
    if (changes.statistic !== undefined) choose(changes.statistic);
    if (changes.over !== undefined) lay(String(changes.over) === "1");
    part("link").href = view.link();
  });
  show();
}
