// The page of a student while it is looked at: says when there is something new, and leaves it to the reader to load
// it, so that a note that is being written is never lost.

import { listen } from "./live.js";

const news = document.getElementById("news");
const { token, changes, revision } = news.dataset;

listen(changes, Number(revision), (event) => {
  const of = event.entries[token] ?? event.left[token];
  if (!event.many && !(of > Number(revision))) return;
  news.querySelector("[role=status]").textContent = event.many
    ? "The data have changed."
    : "There is something new about this student.";
  news.querySelector("a").hidden = false;
  news.classList.add("shown");
});
