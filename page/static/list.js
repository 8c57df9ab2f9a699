// The list while it is looked at: says how many students have changed, and shows them when asked. Rows never move on
// their own; a row is brought up to date in its place only if it keeps its height.

import { listen } from "./live.js";
import { localize } from "./page.js";

const REFRESH_MS = 250;
const ANNOUNCE_MS = 20000;
const MOST_ROWS = 50;

let changed = new Set();
let isMany = false;
let outdated = new Set();
let announcedAt = 0;
let announcement = 0;

const list = () => document.getElementById("list");
const row = (token) => document.getElementById(`s-${token}`);

if (window.matchMedia("(max-width: 48rem)").matches) document.querySelector(".filters")?.removeAttribute("open");
if (list()?.dataset.changes) listen(list().dataset.changes, Number(list().dataset.revision), take);
// addresses name only what was chosen
document.addEventListener("formdata", (event) => {
  if (!event.target.closest(".filters")) return;
  const empty = [...event.formData].filter(([name, value]) => value === "" || (name === "sort" && value === "rank"));
  for (const [name] of empty) event.formData.delete(name);
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("#show");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  show(link);
});

function take(event) {
  if (event.many) isMany = true;
  for (const [token, revision] of Object.entries(event.entries)) note(token, revision, true);
  for (const [token, revision] of Object.entries(event.left)) note(token, revision, false);
  tell();
}

function note(token, revision, isListed) {
  const shown = row(token);
  if (shown ? Number(shown.dataset.revision) >= revision : !isListed) return;
  changed.add(token);
  if (shown) {
    if (outdated.size === 0) setTimeout(refresh, REFRESH_MS);
    outdated.add(token);
  }
}

function words() {
  if (isMany) return "many changes";
  return changed.size === 1 ? "1 change" : `${changed.size.toLocaleString()} changes`;
}

function tell() {
  const link = document.getElementById("show");
  if (changed.size === 0 && !isMany) return;
  link.hidden = false;
  link.textContent = `${words()}: show`;
  if (!announcement) {
    const wait = Math.max(0, announcedAt + ANNOUNCE_MS - Date.now());
    announcement = setTimeout(announce, wait);
  }
}

function announce() {
  announcement = 0;
  announcedAt = Date.now();
  if (changed.size || isMany) document.getElementById("live-status").textContent = `${words()} in this list`;
}

/** Bring the rows that are seen up to date, in their places. */
async function refresh() {
  const tokens = [...outdated].slice(0, MOST_ROWS);
  outdated = new Set();
  let text;
  try {
    const answer = await fetch(`/rows?${new URLSearchParams(tokens.map((token) => ["s", token]))}`);
    if (!answer.ok || answer.redirected) return;
    text = await answer.text();
  } catch {
    return; // offline: the link that shows the changes remains
  }
  const fresh = new DOMParser().parseFromString(`<table><tbody>${text}</tbody></table>`, "text/html");
  for (const next of fresh.querySelectorAll("tr")) {
    const old = row(next.dataset.token);
    if (old && Number(old.dataset.revision) < Number(next.dataset.revision)) replace(old, next);
  }
}

function replace(old, next) {
  const height = old.offsetHeight;
  const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  localize(next);
  old.replaceWith(next);
  let now = next;
  if (Math.abs(next.offsetHeight - height) > 0.5) {
    next.replaceWith(old);
    now = old;
  }
  mark(now, now === next ? "brought up to date just now" : "has changed");
  if (focused !== null) [...now.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus();
}

/** Mark a row, in words for those who do not see it. */
function mark(changedRow, text) {
  if (!changedRow.classList.contains("changed")) {
    const words = document.createElement("span");
    words.className = "sr";
    words.textContent = ` (${text})`;
    changedRow.querySelector("th a").after(words);
  }
  changedRow.classList.add("changed");
}

/** Replace the list by what the server has now. */
async function show(link) {
  link.setAttribute("aria-busy", "true");
  let text;
  try {
    const answer = await fetch(link.href);
    if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
    text = await answer.text();
  } catch {
    location.assign(link.href);
    return;
  }
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const next = fresh.getElementById("list");
  if (!next) {
    location.assign(link.href);
    return;
  }
  changed = new Set();
  isMany = false;
  outdated = new Set();
  localize(next);
  list().replaceWith(next);
  const quick = fresh.querySelector(".quick");
  if (quick) document.querySelector(".quick")?.replaceWith(quick);
  document.getElementById("live-status").textContent = "The list is up to date.";
  document.getElementById("list-title").focus({ preventScroll: true });
}
