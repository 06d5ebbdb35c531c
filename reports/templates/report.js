"use strict";
// Each film: sliders move every picture of it to another cell of its sheet. Without this script the page shows posters.
document.documentElement.classList.add("js");
for (const film of document.querySelectorAll(".film")) {
  const sliders = [...film.querySelectorAll("input[type=range]")].map((input) => ({
    input,
    labels: JSON.parse(input.dataset.labels),
    rows: Number(input.dataset.rows),
    columns: Number(input.dataset.columns),
    fps: Number(input.dataset.fps),
    output: input.parentElement.querySelector("output"),
    button: input.parentElement.querySelector(".play"),
    timer: 0,
  }));
  const screens = [...film.querySelectorAll(".screen.live")];
  const readouts = [...film.querySelectorAll("[data-values]")].map((cell) => ({
    cell,
    axis: cell.dataset.axis,
    screen: cell.closest(".pane").querySelector(".screen.live"),
    values: JSON.parse(cell.dataset.values),
  }));
  const strips = [...film.querySelectorAll(".strip")];

  const show = () => {
    const at = sliders.map((slider) => Number(slider.input.value));
    for (const screen of screens) {
      let row = Number(screen.dataset.row), column = Number(screen.dataset.column);
      sliders.forEach((slider, i) => { row += at[i] * slider.rows; column += at[i] * slider.columns; });
      screen.dataset.at = row;
      screen.style.setProperty("--r", row);
      screen.style.setProperty("--c", column);
    }
    sliders.forEach((slider, i) => {
      slider.output.textContent = slider.labels[at[i]];
      slider.input.setAttribute("aria-valuetext", slider.labels[at[i]]);
    });
    for (const readout of readouts) readout.cell.textContent = readout.values[readout.axis ? at[readout.axis] : readout.screen.dataset.at];
    for (const strip of strips) {
      [...strip.children].forEach((bar, i) => bar.classList.toggle("now", i === at[0]));
    }
  };
  const move = (slider, to) => { slider.input.value = to; show(); };
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
    slider.input.addEventListener("input", show);
    slider.input.addEventListener("pointerdown", () => stop(slider));
    slider.button.addEventListener("click", () => play(slider));
  }
  for (const strip of strips) {
    strip.addEventListener("click", (event) => {
      const at = [...strip.children].indexOf(event.target);
      if (at >= 0) move(sliders[0], at);
    });
  }
  film.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, -1], ArrowUp: [1, 1] };
    const key = keys[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (key && sliders[key[0]]) {
      stop(sliders[key[0]]);
      by(sliders[key[0]], key[1]);
    } else if (event.key === " " && event.target.tagName !== "BUTTON") {
      play(sliders[sliders.length - 1]);
    } else {
      return;
    }
    event.preventDefault();
  });
  film.addEventListener("click", (event) => {
    if (event.target.closest(".pane")) film.focus({ preventScroll: true });
  });
  show();
}
