"use strict";

// The server sends each section as HTML in which everything from the machine is text already; nothing is put together here.
const link = document.getElementById("link");
const news = document.getElementById("news");
const events = new EventSource("events");

function say(text, state) {
  link.textContent = text;
  link.dataset.state = state;
}

function latest() {
  const table = document.querySelector("#denied table");
  return table ? Number(table.dataset.latest) : 0;
}

events.addEventListener("open", () => say("live", "live"));

events.addEventListener("section", (event) => {
  const { name, html } = JSON.parse(event.data);
  const before = latest();
  document.getElementById(name).innerHTML = html;
  if (name === "denied" && latest() > before) {
    const row = document.querySelector("#denied tbody tr");
    row.classList.add("new");
    news.textContent = `Denied: ${row.children[1].textContent}, ${row.children[3].textContent}`;
  }
});

events.addEventListener("end", (event) => {
  events.close();
  say(`instance ${JSON.parse(event.data).name} has ended, and this page with it`, "ended");
});

events.addEventListener("error", () => {
  if (events.readyState === EventSource.CONNECTING) say("connection lost, trying again", "lost");
  else say("this page has ended; run inv page again", "ended");
});
