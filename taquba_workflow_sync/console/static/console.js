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
    for (const all of root.querySelectorAll("input[data-all]")) {
      all.hidden = false;
      all.addEventListener("change", () => {
        for (const box of all.form.elements[all.dataset.all] instanceof RadioNodeList ? all.form.elements[all.dataset.all] : [all.form.elements[all.dataset.all]]) {
          box.checked = all.checked;
        }
      });
    }
  }

  // What the reader has touched stays: fields and their focus, what is ticked, what is opened, how far it is scrolled.
  function show(html) {
    const focused = document.activeElement && document.activeElement.id;
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    for (const old of main.querySelectorAll("[data-keep][id]")) {
      const place = fresh.content.getElementById(old.id);
      if (place) place.replaceWith(old);
    }
    for (const old of main.querySelectorAll("details[open][id]")) {
      const place = fresh.content.getElementById(old.id);
      if (place) place.open = true;
    }
    const scrolled = [...main.querySelectorAll(".scroll, pre")].map((each) => [each.scrollLeft, each.scrollTop]);
    dress(fresh.content);
    main.replaceChildren(fresh.content);
    [...main.querySelectorAll(".scroll, pre")].forEach((each, place) => {
      if (scrolled[place]) [each.scrollLeft, each.scrollTop] = scrolled[place];
    });
    const again = focused && document.getElementById(focused);
    if (again && again !== document.activeElement) again.focus({ preventScroll: true });
  }

  function isSelecting() {
    const chosen = document.getSelection();
    return chosen && !chosen.isCollapsed && main.contains(chosen.anchorNode);
  }

  let source = null;

  function follow() {
    if (source || document.hidden) return;
    source = new EventSource(document.body.dataset.events);
    source.onmessage = (event) => {
      sign.textContent = "live";
      sign.classList.add("on");
      if (!isSelecting()) show(event.data);
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
