// Charts to point at: Vega draws one, without eval, when its fold is open and it comes near the window. The page's step or layer is
// marked in it, and a click or the arrow keys choose another.
const chartStyle = (() => {
  const text = { labelColor: "var(--ink)", titleColor: "var(--ink)", titleFontWeight: "normal" };
  const axis = { ...text, labelColor: "var(--muted)", gridColor: "var(--hair)", domainColor: "var(--muted)", tickColor: "var(--muted)", labelLimit: 110, labelSeparation: 4 };
  const category = [0, 1, 2].map((i) => `var(--series-${i})`);
  return { background: null, font: "system-ui, sans-serif", view: { stroke: null }, axis, legend: text, range: { category } };
})();
// The library lies in the page as text and runs once a chart is wanted: a page that is only read does not wait for it.
const startVega = () => {
  const asText = document.querySelector("script[type='text/plain']");
  if (!asText) return;
  const script = document.createElement("script");
  script.textContent = asText.textContent;
  asText.replaceWith(script);
};
const drawChart = async (chart) => {
  startVega();
  const spec = JSON.parse(chart.dataset.spec), columns = Object.entries(JSON.parse(chart.dataset.columns));
  spec.datasets = { ...spec.datasets, table: columns[0][1].map((_, i) => Object.fromEntries(columns.map(([name, values]) => [name, values[i]]))) };
  // Two places beside each other: Vega empties the one that it puts its inputs into.
  const [inputs, picture] = ["inputs", "picture"].map((name) => chart.appendChild(Object.assign(document.createElement("div"), { className: name })));
  const options = { bind: inputs, config: chartStyle, ast: true, actions: false, defaultStyle: false, renderer: "svg", logLevel: 1, tooltip: { disableDefaultStyle: true } };
  const { view: plot } = await vegaEmbed(picture, spec, options);
  // One picture with one name for those who cannot see it, whose numbers are in the file below; Vega names each of its parts, or none.
  picture.querySelector("svg").setAttribute("aria-hidden", "true");
  picture.removeAttribute("aria-roledescription");
  picture.setAttribute("role", "img");
  if (chart.dataset.across) linkChart(chart.dataset.across, Object.fromEntries(columns), plot, picture);
  chart.dataset.ready = "yes";
};
const linkChart = (name, columns, plot, picture) => {
  const values = [...new Set(columns[name])].sort((one, other) => one - other);
  let at = -1;
  const mark = (wanted) => {
    at = nearest(values, wanted);
    plot.signal("chosen", at < 0 ? null : values[at]).runAsync();
  };
  view.follow((changes) => { if (name in changes) mark(changes[name]); });
  mark(view.get(name));
  picture.addEventListener("click", (event) => {
    const box = picture.querySelector("svg").getBoundingClientRect(), scale = plot.scale("x");
    const [x, y] = [event.clientX - box.left - plot.origin()[0] - plot.padding().left, event.clientY - box.top - plot.origin()[1] - plot.padding().top];
    const inside = (at, size) => at > -8 && at < plot.signal(size) + 8; // points at an end reach over it
    if (!inside(x, "width") || !inside(y, "height")) return;
    const places = values.map((value) => scale(value) + (scale.bandwidth ? scale.bandwidth() / 2 : 0));
    view.set({ [name]: values[nearest(places, x)] });
  });
  picture.tabIndex = 0;
  picture.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.altKey || event.ctrlKey || event.metaKey) return;
    const next = at < 0 ? (by < 0 ? values.length - 1 : 0) : at + by;
    view.set({ [name]: values[Math.min(values.length - 1, Math.max(0, next))] });
    event.preventDefault();
  });
};
document.addEventListener("DOMContentLoaded", () => {
  const watch = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) if (isIntersecting) {
      watch.unobserve(target);
      drawChart(target);
    }
  }, { rootMargin: "300px" });
  for (const chart of document.querySelectorAll(".chart")) watch.observe(chart);
});
