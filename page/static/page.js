// What every page does if there is JavaScript: times in the reader's own zone.

const format = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "numeric", minute: "2-digit", timeZoneName: "short",
});

/** Show the times within `root` in the reader's zone; the zone that the server named stays as a tooltip. */
export function localize(root) {
  for (const time of root.querySelectorAll("time.instant:not([title])")) {
    const at = new Date(time.dateTime);
    if (!Number.isNaN(at.getTime())) {
      time.title = time.textContent;
      time.textContent = format.format(at);
    }
  }
}

localize(document);
