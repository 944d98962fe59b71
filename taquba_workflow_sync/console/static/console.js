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
  const signOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? `${node.nodeName} ${node.id || node.dataset.key || ""}` : node.nodeName);

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

  // No node is moved, which would take its focus: others come before it, and go.
  function likenChildren(old, fresh) {
    const olds = [...old.childNodes], freshes = [...fresh.childNodes];
    const stays = pairs(olds.map(signOf), freshes.map(signOf));
    const staying = new Set(stays.values());
    olds.forEach((node, place) => staying.has(place) || node.remove());
    let at = old.firstChild;
    freshes.forEach((node, place) => {
      if (!stays.has(place)) {
        old.insertBefore(node, at);
        return;
      }
      at = olds[stays.get(place)].nextSibling;
      liken(olds[stays.get(place)], node);
    });
  }

  // Which of the new ones are which of the old ones, by their places: the longest common part of both lists.
  function pairs(olds, freshes) {
    const found = new Map();
    let begin = 0, oldEnd = olds.length, freshEnd = freshes.length;
    while (begin < oldEnd && begin < freshEnd && olds[begin] === freshes[begin]) found.set(begin, begin), begin++;
    while (oldEnd > begin && freshEnd > begin && olds[oldEnd - 1] === freshes[freshEnd - 1]) found.set(--freshEnd, --oldEnd);
    const length = Array.from({ length: oldEnd - begin + 1 }, () => new Uint32Array(freshEnd - begin + 1));
    for (let one = oldEnd - 1; one >= begin; one--) {
      for (let other = freshEnd - 1; other >= begin; other--) {
        const [here, below] = [length[one - begin], length[one - begin + 1]];
        // Elements before the spaces between them.
        const is = olds[one] === freshes[other] && below[other - begin + 1] + (olds[one][0] === "#" ? 1 : 3);
        here[other - begin] = Math.max(is, below[other - begin], here[other - begin + 1]);
      }
    }
    for (let one = begin, other = begin; one < oldEnd && other < freshEnd; ) {
      const best = length[one - begin][other - begin];
      if (best === length[one - begin + 1][other - begin]) one++;
      else if (best === length[one - begin][other - begin + 1]) other++;
      else found.set(other++, one++);
    }
    return found;
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
