// A form with files that may be large: how much has left, and a way to stop it. Without this script it is sent as forms are.
const form = document.querySelector("form[data-sends]"), place = form.querySelector("[data-sending]");
const bar = place.querySelector("progress"), said = place.querySelector("[role=status]");

form.addEventListener("submit", event => {
  event.preventDefault();
  const request = new XMLHttpRequest(); // fetch does not tell how much has left
  const over = words => {
    place.hidden = false;
    form.querySelector("[type=submit]").disabled = false;
    bar.hidden = stop.hidden = true;
    said.textContent = words;
  };
  const stop = place.querySelector("button");
  stop.onclick = () => request.abort();
  request.open("POST", form.action);
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    bar.max = total || 1;
    bar.value = loaded;
    said.textContent = loaded < total ? `${units(loaded)} of ${units(total)} sent` : "Sent. The server puts the files away.";
  });
  request.addEventListener("load", () => {
    if (request.status < 300) return location.assign(request.responseURL);
    const page = new DOMParser().parseFromString(request.responseText, "text/html");
    const why = page.querySelector("main [role=alert], main p")?.textContent.trim();
    over(why || `The server refused the files (${request.status}). Nothing was imported.`);
  });
  request.addEventListener("error", () => over("The connection broke before all files were there. Nothing was imported; try again."));
  request.addEventListener("abort", () => over("Stopped. Nothing was imported."));
  request.send(new FormData(form));
  form.querySelector("[type=submit]").disabled = true;
  place.hidden = bar.hidden = stop.hidden = false;
  bar.removeAttribute("value");
  said.textContent = "Sending";
});
addEventListener("pageshow", () => { form.querySelector("[type=submit]").disabled = false; place.hidden = true; }); // come back to by history
