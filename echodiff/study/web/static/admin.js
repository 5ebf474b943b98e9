"use strict";
// Fetch the table of readers every five seconds, unless the organiser is using it.

const rows = document.getElementById("rows");

setInterval(async () => {
  if (document.hidden || rows.contains(document.activeElement) || rows.querySelector("input:checked")) return;
  try {
    const answer = await fetch("/admin/rows");
    if (answer.ok) rows.innerHTML = await answer.text();
  } catch {
    // The next attempt comes by itself.
  }
}, 5000);
