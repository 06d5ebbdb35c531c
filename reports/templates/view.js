"use strict";
// What the reader looks at (step, frame, layer, …): one choice for the whole page, kept in the URL, so that a view is a link.
document.documentElement.classList.add("js");
const view = (() => {
  const chosen = new Map();
  const followers = [];
  let timer = 0;
  const link = () => "#" + new URLSearchParams([...chosen]);
  // The address is written once the reader rests: browsers refuse hundreds of changes a minute, as a playing film makes.
  const remember = () => {
    clearTimeout(timer);
    timer = setTimeout(() => history.replaceState(null, "", link()), 200);
  };
  const set = (changes, from) => {
    for (const [name, value] of Object.entries(changes)) value === "" ? chosen.delete(name) : chosen.set(name, String(value));
    for (const follower of followers) if (follower !== from) follower(changes);
    remember();
  };
  // An address without "=" is that of a section: the browser goes there, and nothing is chosen.
  const read = () => {
    if (!location.hash.includes("=")) return;
    const before = [...chosen.keys()].map((name) => [name, ""]);
    chosen.clear();
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) chosen.set(name, value);
    for (const follower of followers) follower(Object.fromEntries([...before, ...chosen]));
    const at = chosen.has("at") && document.getElementById(chosen.get("at"));
    if (at) at.scrollIntoView();
  };
  window.addEventListener("hashchange", read);
  document.addEventListener("DOMContentLoaded", read);
  return { set, link, get: (name) => chosen.get(name), follow: (follower) => followers.push(follower) };
})();
// Position of the number nearest to a text from the address, which may be anything; -1 if it is no number.
const nearest = (values, wanted) => {
  const value = wanted === "" || wanted === undefined ? NaN : Number(wanted);
  if (!Number.isFinite(value)) return -1;
  return values.reduce((best, one, i) => (Math.abs(one - value) < Math.abs(values[best] - value) ? i : best), 0);
};
