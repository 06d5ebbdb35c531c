// The index: what is searched, how it is sorted and which run is chosen; all three are kept in the address.
const table = document.querySelector(".runs"), body = table.tBodies[0];
const rows = [...body.rows].map((row, at) => ({ row, at, words: row.textContent.toLowerCase() }));
const heads = [...table.tHead.rows[0].cells];
const search = document.getElementById("search"), sort = document.getElementById("sort"), shown = document.getElementById("shown");
const ask = document.getElementById("ask"), asked = ask.textContent;
const order = new Intl.Collator("en", { numeric: true });

const find = (text) => {
  // Every word, or "several words" as they stand.
  const wanted = [...text.toLowerCase().matchAll(/"([^"]+)"|[^\s"]+/g)].map(([word, phrase]) => phrase ?? word);
  let count = 0;
  for (const { row, words } of rows) {
    const fits = wanted.every((word) => words.includes(word));
    if (row.hidden === fits) row.hidden = !fits;
    count += fits;
  }
  shown.textContent = wanted.length ? `${count} of ${rows.length} runs` : `${rows.length} runs`;
};

const value = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.v === undefined ? cell.textContent : cell.dataset.v === "" ? null : Number(cell.dataset.v);
};
// Runs without a value stand last either way; equal ones stay as they were written.
const by = (text) => {
  const down = text.startsWith("-"), name = down ? text.slice(1) : text;
  const column = heads.findIndex((head) => head.dataset.name === name);
  const keyed = rows.map((one) => ({ one, key: column < 0 ? one.at : value(one.row, column) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.one.at - b.one.at;
    const less = typeof a.key === "number" ? a.key - b.key : order.compare(a.key, b.key);
    return (down ? -less : less) || a.one.at - b.one.at;
  });
  body.append(...keyed.map(({ one }) => one.row));
  heads.forEach((head, i) => (i === column ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort")));
  sort.value = column < 0 ? "" : text;
};

const choose = (id) => {
  for (const { row } of rows) row.classList.toggle("chosen-run", row.dataset.run === id);
  const chosen = rows.find(({ row }) => row.dataset.run === id);
  ask.textContent = chosen ? asked.replace("'ID'", () => `'${id}'`) : asked;
  return chosen;
};

for (const head of heads.filter((one) => one.dataset.name)) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = head.textContent;
  // Numbers first from above: the best, the longest.
  button.addEventListener("click", () => {
    const name = head.dataset.name, first = head.classList.contains("score") ? "descending" : "ascending";
    const now = head.getAttribute("aria-sort");
    const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
    view.set({ sort: next === "descending" ? `-${name}` : name });
  });
  head.replaceChildren(button);
}
const option = (text, named) => { const one = document.createElement("option"); one.value = named; one.textContent = text; return one; };
sort.append(option("newest", ""), ...heads.filter((one) => one.dataset.name).flatMap(({ dataset }) => [
  option(`${dataset.name} ↑`, dataset.name), option(`${dataset.name} ↓`, `-${dataset.name}`)]));

search.addEventListener("input", () => view.set({ q: search.value }));
sort.addEventListener("change", () => view.set({ sort: sort.value }));
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select")) return;
  search.focus();
  event.preventDefault();
});
// Arrows walk from run to run, as in a list.
body.addEventListener("keydown", (event) => {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  let row = step && event.target.closest("tr");
  if (!row) return;
  do row = row[step]; while (row && row.hidden);
  if (row) row.querySelector("a").focus();
  event.preventDefault();
});
body.addEventListener("click", (event) => {
  const row = event.target.closest("tr"), link = event.target.closest("a");
  if (link && !link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  view.set({ run: row.dataset.run });
});
view.follow((changes) => {
  if (changes.q !== undefined) { if (search.value !== changes.q) search.value = changes.q; find(changes.q); }
  if (changes.sort !== undefined) by(changes.sort);
  if (changes.run !== undefined) choose(changes.run);
});
// A link from elsewhere goes to its run.
document.addEventListener("DOMContentLoaded", () => {
  const row = table.querySelector(".chosen-run");
  if (row) row.scrollIntoView({ block: "center" });
});
