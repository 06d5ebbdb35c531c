// Charts to point at: drawn when they are opened, by Vega without eval, and marked at the step that the page looks at.
const chartStyle = (() => {
  const text = { labelColor: "var(--ink)", titleColor: "var(--ink)", titleFontWeight: "normal" };
  const axis = { ...text, labelColor: "var(--muted)", gridColor: "var(--rule)", domainColor: "var(--muted)", tickColor: "var(--muted)" };
  const category = [0, 1, 2].map((i) => `var(--series-${i})`);
  return { background: null, font: "system-ui, sans-serif", view: { stroke: null }, axis, legend: text, range: { category } };
})();
for (const box of document.querySelectorAll("details.explore")) {
  box.addEventListener("toggle", async () => {
    if (!box.open || box.dataset.drawn) return;
    box.dataset.drawn = "yes";
    for (const place of box.querySelectorAll(".chart")) {
      const spec = JSON.parse(place.dataset.spec), columns = Object.entries(JSON.parse(place.dataset.columns));
      spec.datasets = { ...spec.datasets, table: columns[0][1].map((_, i) => Object.fromEntries(columns.map(([name, values]) => [name, values[i]]))) };
      const drawn = await vegaEmbed(place, spec, { config: chartStyle, ast: true, actions: false, renderer: "svg", logLevel: 1, tooltip: { disableDefaultStyle: true } });
      const plot = drawn.view;
      const mark = (step) => plot.signal("chosen_step", step === undefined || step === "" ? null : Number(step)).runAsync();
      const follows = (spec.params ?? []).some((one) => one.name === "chosen_step");
      if (follows) {
        view.follow((changes) => { if ("step" in changes) mark(changes.step); });
        mark(view.get("step"));
      }
      plot.addEventListener("click", (event, item) => {
        if (item && item.datum && item.datum.step !== undefined) view.set({ step: item.datum.step });
      });
      place.dataset.ready = "yes";
    }
  });
}
