"use strict";
const form = document.getElementById("form");
const bar = document.getElementById("bar");
const says = document.getElementById("says");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  bar.hidden = false;
  says.textContent = "uploading";
  const answer = await fetch(form.action, { method: "POST", body: new FormData(form) });
  if (answer.status !== 202) {
    says.textContent = `refused (${answer.status})`;
    return;
  }
  watch(await answer.json());
});

function watch(run) {
  const source = new EventSource(run.events);
  source.onmessage = (message) => {
    if (show(JSON.parse(message.data))) source.close();
  };
  source.onerror = () => {
    // It asks again by itself, unless the answer was no stream, as where too many watch: then ask for the status.
    if (source.readyState === EventSource.CLOSED) poll(run.status);
  };
}

async function poll(url) {
  const answer = await fetch(url);
  if (answer.ok && show(await answer.json())) return;
  setTimeout(poll, 1000, url);
}

/** Show a status; whether it is the last one. */
function show(run) {
  const progress = run.progress;
  if (progress && progress.total) bar.value = progress.done / progress.total;
  says.textContent = run.label === null ? run.state : `${run.state}: ${run.label}`;
  if (run.state === "succeeded") {
    bar.value = 1;
    const { rows, refused, customers } = run.result;
    says.textContent = `${rows} rows, ${refused} refused, ${customers} customers: `;
    const link = document.createElement("a");
    link.href = form.dataset.result;
    link.textContent = "download";
    says.append(link);
  }
  return ["succeeded", "failed", "cancelled"].includes(run.state);
}
