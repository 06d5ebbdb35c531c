// A sheet is decoded when a picture that shows it comes near the window; until then its opening cell lies there.
const nearby = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    target.classList.add("on");
    nearby.unobserve(target);
  }
}, { rootMargin: "50% 0px" });
for (const screen of document.querySelectorAll(".screen.live, .screen.under")) nearby.observe(screen);
window.addEventListener("beforeprint", () => document.querySelectorAll(".screen.live").forEach((one) => one.classList.add("on")));
// Each film: sliders move every picture of it to another cell of its sheet. Without this script the page shows posters.
for (const film of document.querySelectorAll(".film")) {
  const sliders = [...film.querySelectorAll("input[type=range]")].map((input) => ({
    input,
    name: input.dataset.name,
    labels: JSON.parse(input.dataset.labels),
    values: JSON.parse(input.dataset.values),
    places: JSON.parse(input.dataset.places),
    rows: Number(input.dataset.rows),
    columns: Number(input.dataset.columns),
    fps: Number(input.dataset.fps),
    output: input.parentElement.querySelector("output"),
    button: input.parentElement.querySelector(".play"),
    timer: 0,
  }));
  const screens = [...film.querySelectorAll(".screen.live")];
  const readouts = [...film.querySelectorAll("[data-values].follows")].map((cell) => ({
    cell,
    axis: cell.dataset.axis,
    screen: cell.closest(".pane").querySelector(".screen.live"),
    values: JSON.parse(cell.dataset.values),
  }));
  const unders = [...film.querySelectorAll(".screen.under")].map((screen) => ({ screen, rows: JSON.parse(screen.dataset.rows) }));
  const strips = [...film.querySelectorAll(".strip")];
  const curves = [...film.querySelectorAll(".curves")];

  const show = () => {
    const at = sliders.map((slider) => Number(slider.input.value));
    for (const screen of screens) {
      let row = Number(screen.dataset.row), column = Number(screen.dataset.column);
      sliders.forEach((slider, i) => {
        row += slider.places[at[i]] * slider.rows;
        column += slider.places[at[i]] * slider.columns;
      });
      screen.dataset.at = row;
      screen.style.setProperty("--r", row);
      screen.style.setProperty("--c", column);
    }
    for (const under of unders) under.screen.style.setProperty("--r", under.rows[at[0]]);
    sliders.forEach((slider, i) => {
      slider.output.textContent = slider.labels[at[i]];
      slider.input.setAttribute("aria-valuetext", slider.labels[at[i]]);
    });
    for (const readout of readouts) readout.cell.textContent = readout.values[readout.axis ? at[readout.axis] : readout.screen.dataset.at];
    for (const strip of strips) [...strip.children].forEach((bar, i) => bar.classList.toggle("now", i === at[0]));
    for (const curve of curves) curve.style.setProperty("--now", at[0]);
    film.dispatchEvent(new CustomEvent("moved", { detail: at }));
  };
  // Sliders of one page that mean the same thing are at the same place, as near as each can be.
  const follow = (changes) => {
    let moved = false;
    for (const slider of sliders) {
      const at = nearest(slider.values, changes[slider.name]);
      if (at < 0 || at === Number(slider.input.value)) continue;
      slider.input.value = at;
      moved = true;
    }
    if (moved) show();
  };
  view.follow(follow);
  const tell = (slider) => {
    show();
    view.set({ [slider.name]: slider.values[Number(slider.input.value)], at: film.id }, follow);
  };
  const move = (slider, to) => { slider.input.value = to; tell(slider); };
  const by = (slider, delta) => {
    const count = slider.labels.length;
    move(slider, (Number(slider.input.value) + delta + count) % count);
  };
  const stop = (slider) => {
    clearInterval(slider.timer);
    slider.timer = 0;
    slider.button.setAttribute("aria-pressed", "false");
  };
  const play = (slider) => {
    if (slider.timer) return stop(slider);
    slider.button.setAttribute("aria-pressed", "true");
    slider.timer = setInterval(() => by(slider, 1), 1000 / slider.fps);
  };

  for (const slider of sliders) {
    slider.input.addEventListener("input", () => tell(slider));
    slider.input.addEventListener("pointerdown", () => stop(slider));
    slider.button.addEventListener("click", () => play(slider));
  }
  for (const strip of strips) {
    strip.addEventListener("click", (event) => {
      const at = [...strip.children].indexOf(event.target);
      if (at >= 0) move(sliders[0], at);
    });
  }
  for (const curve of curves) {
    curve.addEventListener("click", (event) => {
      const box = curve.getBoundingClientRect(), last = sliders[0].labels.length - 1;
      move(sliders[0], Math.round(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * last));
    });
  }
  film.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, -1], ArrowUp: [1, 1] };
    const key = keys[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.tagName === "SELECT") return;
    if (key && sliders[key[0]]) {
      stop(sliders[key[0]]);
      by(sliders[key[0]], key[1]);
    } else if (event.key === " " && !event.target.closest("button, summary, a, input[type=checkbox]")) {
      play(sliders[sliders.length - 1]);
    } else {
      return;
    }
    event.preventDefault();
  });
  film.addEventListener("click", (event) => {
    if (event.target.closest(".pane, .cells")) film.focus({ preventScroll: true });
  });
  show();
}
