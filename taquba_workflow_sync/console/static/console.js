// What is nicer with a script: times in the reader's own zone, ticking all at once, and pages that follow the store.
// Everything works without it.
"use strict";

(() => {
  const main = document.getElementById("main");
  const sign = document.getElementById("live");
  const inWords = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  function ago(moment) {
    const seconds = (moment - Date.now()) / 1000;
    const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) || ["second", 1];
    return inWords.format(Math.trunc(seconds / size), unit);
  }

  function dress(root) {
    for (const time of root.querySelectorAll("time")) {
      const moment = new Date(time.dateTime);
      time.textContent = moment.toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
      time.title = ago(moment);
    }
    for (const all of root.querySelectorAll("input[data-all]")) all.hidden = false;
  }

  main.addEventListener("change", ({ target }) => {
    if (!target.dataset.all) return;
    for (const box of main.querySelectorAll(`input[name="${target.dataset.all}"]`)) box.checked = target.checked;
  });

  // What the reader has touched stays, because what is there stays: of two trees only the differences are applied, so
  // focus, ticks, what is typed, opened, selected and scrolled need no care of their own.
  const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE && (node.id || node.dataset.key)) || null;
  const isAlike = (one, other) => one.nodeName === other.nodeName && keyOf(one) === keyOf(other);

  function liken(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if ("keep" in old.dataset) return;
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    likenChildren(old, fresh);
  }

  function likenChildren(old, fresh) {
    const coming = new Set([...fresh.childNodes].map(keyOf));
    const there = new Map([...old.childNodes].map((node) => [keyOf(node), node]));
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      // Those that are gone: nothing behind them has to be moved, which would take its focus.
      while (at && keyOf(at) && !coming.has(keyOf(at))) {
        const gone = at;
        at = at.nextSibling;
        gone.remove();
      }
      const known = keyOf(next) && there.get(keyOf(next));
      if (known && known !== at && isAlike(known, next)) old.insertBefore(known, at);
      if (known && isAlike(known, next)) {
        liken(known, next);
        at = known.nextSibling;
      } else if (at && isAlike(at, next)) {
        liken(at, next);
        at = at.nextSibling;
      } else {
        old.insertBefore(next, at);
      }
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  let waiting = null;

  function show(html) {
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    dress(fresh.content);
    const focused = document.activeElement;
    likenChildren(main, fresh.content);
    if (focused !== document.activeElement && main.contains(focused)) focused.focus({ preventScroll: true });
    waiting = null;
  }

  function isSelecting() {
    const chosen = document.getSelection();
    return chosen && !chosen.isCollapsed && main.contains(chosen.anchorNode);
  }

  document.addEventListener("selectionchange", () => {
    if (waiting !== null && !isSelecting()) show(waiting);
  });

  let source = null;

  function follow() {
    if (source || document.hidden) return;
    source = new EventSource(document.body.dataset.events);
    source.onmessage = (event) => {
      sign.textContent = "live";
      sign.classList.add("on");
      if (isSelecting()) waiting = event.data;
      else show(event.data);
    };
    source.onerror = () => {
      if (source && source.readyState === EventSource.CLOSED) {
        sign.textContent = "not live: reload the page";
        sign.classList.remove("on");
        source = null;
      }
    };
  }

  function rest() {
    if (source) source.close();
    source = null;
  }

  dress(document);
  if (document.body.dataset.events) {
    follow();
    document.addEventListener("visibilitychange", () => (document.hidden ? rest() : follow()));
    window.addEventListener("pagehide", rest);
  }
})();
