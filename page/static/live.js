// Server-sent events, only while the page is seen: a browser has few connections for all tabs together.

/**
 * Listen to the changes of entries from `revision` on; `url` names the filters.
 * changed(event): {revision, entries: {token: revision}, left: {token: revision}, many}
 */
export function listen(url, revision, changed) {
  let source = null;
  let since = revision;

  function open() {
    if (source !== null || document.visibilityState === "hidden") return;
    source = new EventSource(`${url}${url.includes("?") ? "&" : "?"}since=${since}`);
    source.addEventListener("changes", (event) => {
      const data = JSON.parse(event.data);
      since = data.revision;
      changed(data);
    });
    source.addEventListener("banner", (event) => showBanner(JSON.parse(event.data).html));
    source.addEventListener("error", () => {
      // refused, for instance because the login has expired: what is shown stays, and the next click says why
      if (source !== null && source.readyState === EventSource.CLOSED) close();
    });
  }

  function close() {
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => (document.visibilityState === "hidden" ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
}

function showBanner(html) {
  const place = document.getElementById("banner");
  if (place.innerHTML.trim() !== html.trim()) place.innerHTML = html;
}
