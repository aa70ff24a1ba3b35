// Uploads: files leave as soon as they are dropped or picked, many small ones in one request, and the ledger (drawn by
// the server, asked every second) shows what became of each. Here are only the bytes on their way. Without this script
// the form works as a plain one.
const page = document.querySelector("#upload-page"), form = document.querySelector("#upload-form");

if (page && form) {
  const BATCH_BYTES = 4 << 20, BATCH_FILES = 50, PIECE = 8 << 20, AT_ONCE = 2, TELL = 2000;
  const WAITS = [1, 2, 4, 8, 15, 30, 30, 60, 60, 60]; // seconds between tries while the connection is gone
  const token = form.elements.csrfmiddlewaretoken.value;
  const place = document.querySelector("#upload-place"), said = document.querySelector("#upload-said"), drop = document.querySelector("#drop");

  let upload = form.dataset.upload; // the upload's address, "" until there is one
  let beginning = null, gone = false;
  const queue = [];                 // {id, file, path}
  const flying = new Map();         // row's id → {sent, size, taken: bytes of it that the server has counted}
  const tries = new Set();          // what is under way and can be held: tus uploads, requests
  let held = null;                  // while paused: {promise, go}
  let done = 0, working = 0, telling = 0, started = 0;
  const speed = [];                 // [time, bytes sent] of the last seconds

  // ————— what the page looks like with a script —————
  form.querySelectorAll("[data-live]").forEach(node => { node.hidden = false; });
  form.querySelectorAll("[data-plain]").forEach(node => { node.hidden = true; });
  form.addEventListener("click", event => {
    const pick = event.target.closest("[data-pick]"), paste = event.target.closest("[data-paste]");
    if (pick) document.getElementById(pick.dataset.pick).click();
    if (paste) {
      const box = document.querySelector("#paste");
      box.hidden = !box.hidden;
      paste.setAttribute("aria-expanded", String(!box.hidden));
      if (!box.hidden) box.querySelector("textarea").focus();
    }
  });
  if (form.elements.pasted?.value.trim()) document.querySelector("#paste").hidden = false;
  for (const input of form.querySelectorAll("input[type=file]")) {
    input.addEventListener("change", () => {
      add([...input.files].map(file => ({ file, path: file.webkitRelativePath || file.name })));
      input.value = "";
    });
  }

  // ————— drop anywhere —————
  let over = 0;
  const carries = event => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", event => { if (carries(event)) { over++; drop.dataset.over = "true"; } });
  addEventListener("dragleave", event => { if (carries(event) && --over <= 0) { over = 0; drop.dataset.over = "false"; } });
  addEventListener("dragover", event => { if (carries(event)) event.preventDefault(); });
  addEventListener("drop", async event => {
    if (!carries(event)) return;
    event.preventDefault();
    over = 0; drop.dataset.over = "false";
    // Entries must be taken before the first await: the list is emptied after the event.
    const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.() ?? item.getAsFile()).filter(Boolean);
    const found = [];
    for (const entry of entries) await walk(entry, found);
    add(found);
  });
  async function walk(entry, found) {
    if (entry instanceof File) found.push({ file: entry, path: entry.name });
    else if (entry.isFile) {
      try {
        const file = await new Promise((yes, no) => entry.file(yes, no));
        found.push({ file, path: entry.fullPath.replace(/^\//, "") });
      } catch { say(`${entry.name} could not be read.`, "failed"); }
    } else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (;;) { // a reader gives at most 100 entries at a time
        const some = await new Promise((yes, no) => reader.readEntries(yes, no)).catch(() => []);
        if (!some.length) break;
        for (const each of some) await walk(each, found);
      }
    }
  }

  // ————— talking to the server —————
  function say(words, tone = "info") {
    said.textContent = "";
    if (!words) return;
    const note = document.createElement("p");
    note.className = "note";
    note.dataset.tone = tone;
    note.textContent = words;
    said.append(note);
  }
  const pause = seconds => new Promise(yes => setTimeout(yes, seconds * 1000));
  class Refused extends Error {}
  class Gone extends Error {} // the connection did not come back: what is left waits for “Go on”

  // ————— pause and go on —————
  const hold = document.querySelector("#upload-hold");
  function halt(words) {
    if (held) return;
    held = {};
    held.promise = new Promise(go => { held.go = go; });
    for (const each of tries) each.abort();
    speed.length = 0;
    say(words ?? "Paused: nothing more is sent until you go on. What has arrived is kept.", words ? "failed" : "limit");
    draw();
  }
  function goOn() {
    const { go } = held ?? {};
    held = null;
    speed.length = 0;
    say("");
    draw();
    go?.();
  }
  function draw() { // the button, where there is something to hold
    if (!hold) return;
    const busy = working > 0 || queue.length > 0;
    hold.hidden = !busy;
    const button = hold.querySelector("button");
    button.setAttribute("aria-pressed", String(Boolean(held)));
    button.querySelector("[data-label]").textContent = held ? "Go on" : "Pause";
    button.querySelector("[data-go]").hidden = !held;
    button.querySelector("[data-stop]").hidden = Boolean(held);
  }
  hold?.querySelector("button").addEventListener("click", () => { if (held) goOn(); else halt(); });
  addEventListener("online", () => { if (held?.lost) goOn(); });

  async function post(url, body, headers = {}) {
    for (let turn = 0; ; turn++) {
      let response;
      try {
        response = await fetch(url, { method: "POST", body, headers: { "X-CSRFToken": token, ...headers }, redirect: "manual" });
      } catch (error) {
        await again(turn, error);
        continue;
      }
      if (response.ok || response.type === "opaqueredirect") { if (turn) say(""); return response; }
      if (response.status >= 500 || response.status === 429) { await again(turn, new Error(`the server said ${response.status}`)); continue; }
      throw new Refused(await reason(response.status, await response.text().catch(() => "")));
    }
  }
  function reason(status, text) {
    try { return JSON.parse(text).reason; } catch { /* a page, not JSON */ }
    if (status === 403) return "You are not allowed to, or your session is over. Load the page again.";
    if (status === 404) return "This upload is not there any more.";
    if (status === 413) return "The server does not take that much at once.";
    return `The server refused it (${status}).`;
  }
  async function again(turn, error) {
    if (held) return held.promise; // it was paused, and not broken
    if (turn >= WAITS.length) throw new Gone("The connection did not come back. What has arrived is kept: go on here once it is there, or drop the same files on this page later.");
    say(`The connection broke (${error.message}). Trying again in ${WAITS[turn]} s; what has arrived is kept.`, "limit");
    await pause(WAITS[turn]);
  }

  async function begin() {
    const body = new FormData();
    body.set("name", form.elements.name?.value ?? "");
    const response = await post(form.action, body, { "X-Upload": "begin" });
    upload = (await response.json()).url;
    if (!location.pathname.startsWith(upload) && !new URL(form.action).pathname.endsWith("/add")) history.replaceState(null, "", upload);
    await look();
  }
  async function look() { // the ledger as the server draws it; it asks again by itself
    const response = await fetch(`${upload}ledger`, { headers: { "HX-Request": "true" } }).catch(() => null);
    if (!response?.ok) return;
    if (response.headers.has("HX-Redirect")) { location.assign(response.headers.get("HX-Redirect")); return; }
    place.innerHTML = await response.text();
    htmx.process(place);
    paint();
  }

  // ————— the queue —————
  async function add(files) {
    if (!files.length || gone) return;
    const wanted = files.filter(({ path }) => !path.split("/").some(part => part.startsWith(".") || part === "__MACOSX"));
    const hidden = files.length - wanted.length;
    say(hidden ? `${hidden.toLocaleString("en")} hidden file${hidden === 1 ? " was" : "s were"} left out.` : "");
    if (!wanted.length) return;
    telling++;
    started ||= performance.now();
    try {
      if (!upload) await (beginning ??= begin());
      else await beginning;
      for (let at = 0; at < wanted.length; at += TELL) {
        const some = wanted.slice(at, at + TELL);
        const response = await post(`${upload}files`, JSON.stringify({ files: some.map(({ file, path }) => ({ name: path, size: file.size })) }), { "Content-Type": "application/json" });
        const { ids } = await response.json();
        some.forEach((each, n) => { if (ids[n]) queue.push({ id: ids[n], ...each }); });
        for (let free = AT_ONCE - working; free > 0; free--) work();
      }
      await look();
    } catch (error) { fail(error); }
    telling--;
    close();
  }
  function fail(error) {
    if (error instanceof Gone) { halt(error.message); held.lost = true; return; }
    if (!(error instanceof Refused)) throw error;
    say(error.message, "failed");
    if (!upload) beginning = null;
  }
  async function work() {
    working++;
    draw();
    for (;;) {
      await held?.promise;
      const batch = take();
      if (!batch.length || gone) break;
      try {
        await send(batch);
      } catch (error) {
        if (error instanceof Gone) queue.unshift(...batch);
        fail(error);
      }
    }
    working--;
    draw();
    close();
  }
  function take() {
    const batch = [];
    for (let size = 0; queue.length && batch.length < BATCH_FILES; ) {
      if (batch.length && size + queue[0].file.size > BATCH_BYTES) break;
      size += queue[0].file.size;
      batch.push(queue.shift());
    }
    return batch;
  }
  let closing = false;
  async function close() { // all sent: no more files will come, unless more are dropped
    if (working || telling || queue.length || !upload || closing || gone) return;
    closing = true;
    try { await post(`${upload}close`, new URLSearchParams()); await look(); } catch (error) { fail(error); }
    closing = false;
  }

  // A large file goes in pieces by the tus protocol: what has arrived stays, in this tab or the next.
  function pieces({ id, file }) {
    return new Promise((yes, no) => {
      const way = new tus.Upload(file, {
        uploadUrl: `${upload}tus/${id}`,
        chunkSize: PIECE,
        retryDelays: WAITS.map(seconds => seconds * 1000),
        headers: { "X-CSRFToken": token },
        onBeforeRequest: async request => { // what the server counts must be what was read here
          if (request.getMethod() !== "PATCH" || !crypto.subtle) return; // without HTTPS the browser has none
          const at = Number(request.getHeader("Upload-Offset"));
          const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.slice(at, at + PIECE).arrayBuffer()));
          request.setHeader("Upload-Checksum", `sha256 ${btoa(String.fromCharCode(...digest))}`);
        },
        storeFingerprintForResuming: false, // the row knows where it stands
        onProgress: sent => { flying.set(id, { sent, size: file.size, taken: flying.get(id)?.taken ?? sent }); paint(); },
        onChunkComplete: (_, taken) => { flying.set(id, { sent: taken, size: file.size, taken }); paint(); },
        onShouldRetry: (error, turn) => {
          const status = error.originalResponse?.getStatus() ?? 0;
          if (status && status < 500 && ![409, 423, 429, 460].includes(status)) return false;
          if (held) return false; // it was held, and goes on when it is let go
          if (status === 460) say("A piece did not arrive as it was sent: it is sent again.", "limit");
          else say(`The connection broke (${status ? `the server said ${status}` : "no answer"}). Trying again in ${WAITS[turn] ?? "some"} s; what has arrived is kept.`, "limit");
          return true;
        },
        onAfterResponse: (_, response) => { if (response.getStatus() < 400) say(""); },
        onSuccess: () => { tries.delete(handle); yes(); },
        onError: error => {
          tries.delete(handle);
          const response = error.originalResponse;
          no(response && response.getStatus() < 500 ? new Refused(reason(response.getStatus(), response.getBody())) : new Error("no answer"));
        },
      });
      const handle = {
        abort: () => {
          if (gone) return way.abort();
          way.abort().catch(() => {}).then(() => held?.promise).then(() => { if (!gone) way.start(); }); // from where the server stands
        },
      };
      tries.add(handle);
      way.start();
    });
  }

  async function send(batch) {
    const [{ file: first }] = batch, large = batch.length === 1 && first.size > BATCH_BYTES && window.tus;
    for (let turn = 0; ; turn++) {
      try {
        await (large ? pieces(batch[0]) : transfer(batch));
        batch.forEach(({ id, file }) => { flying.delete(id); done += file.size; });
        if (turn) say("");
        paint();
        return;
      } catch (error) {
        batch.forEach(({ id }) => flying.delete(id));
        if (error instanceof Refused || error instanceof Gone || gone) throw error;
        if (held) { turn = -1; await held.promise; continue; }
        const lost = await unreadable(batch);
        if (lost.length) { // vanished or changed since they were picked: the others go without them
          await post(`${upload}files`, JSON.stringify({ lost: lost.map(({ id }) => id) }), { "Content-Type": "application/json" });
          batch = batch.filter(each => !lost.includes(each));
          if (!batch.length) return;
          continue;
        }
        await again(turn, error);
      }
    }
  }
  async function unreadable(batch) {
    const lost = [];
    for (const each of batch) {
      try { await each.file.slice(0, 1).arrayBuffer(); if (each.file.size) await each.file.slice(-1).arrayBuffer(); } catch { lost.push(each); }
    }
    return lost;
  }
  function transfer(batch) { // XMLHttpRequest, for fetch does not tell how much has left
    return new Promise((yes, no) => {
      const body = new FormData(), request = new XMLHttpRequest();
      body.set("ids", batch.map(({ id }) => id).join(","));
      for (const { file } of batch) body.append("files", file, file.name);
      request.open("POST", `${upload}files`);
      request.setRequestHeader("X-CSRFToken", token);
      request.upload.addEventListener("progress", ({ loaded, total }) => {
        let left = loaded * (batch.reduce((sum, { file }) => sum + file.size, 0) / (total || 1));
        for (const { id, file } of batch) {
          const sent = Math.min(file.size, Math.max(0, left));
          left -= file.size;
          flying.set(id, { sent, size: file.size });
        }
        paint();
      });
      const handle = { abort: () => request.abort() };
      tries.add(handle);
      request.addEventListener("loadend", () => tries.delete(handle));
      request.addEventListener("abort", () => no(new Error("held")));
      request.addEventListener("load", () => {
        if (request.status < 300) yes();
        else if (request.status >= 500 || request.status === 429) no(new Error(`the server said ${request.status}`));
        else no(new Refused(reason(request.status, request.responseText)));
      });
      request.addEventListener("error", () => no(new Error("no answer")));
      request.addEventListener("timeout", () => no(new Error("no answer")));
      request.send(body);
    });
  }

  // ————— what is on its way, drawn over what the server has drawn —————
  function paint() {
    let sent = done;
    for (const [id, { sent: here, size }] of flying) {
      sent += here;
      const row = document.getElementById(`file-${id}`), state = row?.querySelector(".status");
      if (!state) continue;
      const part = size ? Math.floor(100 * here / size) : 100;
      state.dataset.status = "running";
      state.lastChild.textContent = part < 100 ? `uploading, ${part} %` : "uploaded";
    }
    const total = document.querySelector("#upload-total");
    if (!total) return;
    const here = Number(total.dataset.here), all = Number(total.dataset.all);
    const now = performance.now();
    speed.push([now, sent]);
    while (speed.length > 2 && now - speed[0][0] > 5000) speed.shift();
    // What the server has taken of a file it counts itself.
    const onWay = [...flying.values()].reduce((sum, { sent: here, taken = 0 }) => sum + Math.max(0, here - taken), 0);
    const shown = Math.min(all, here + onWay);
    total.querySelector("progress").value = shown;
    total.querySelector("[data-bytes]").textContent = `${units(shown)} of ${units(all)}`;
    told(all ? Math.floor(4 * shown / all) : 0);
    const [first, last] = [speed[0], speed.at(-1)], rate = (last[1] - first[1]) / Math.max(0.2, (last[0] - first[0]) / 1000);
    if (rate > 0 && (working || queue.length)) {
      total.querySelector("[data-speed]").textContent = `${units(rate)} a second`;
      const left = (all - shown) / rate;
      total.querySelector("[data-left]").textContent = left < 1 ? "" : left < 90 ? `about ${Math.ceil(left)} s left` : `about ${Math.ceil(left / 60)} min left`;
    }
  }
  let quarter = 0;
  function told(now) { // to those who do not see the bar
    if (now === quarter) return;
    quarter = now;
    document.querySelector("#upload-told").textContent = ["", "A quarter is uploaded.", "Half is uploaded.", "Three quarters are uploaded.", "All is uploaded."][now] ?? "";
  }
  document.addEventListener("htmx:afterSwap", paint);

  // ————— a pasted text is a file too —————
  form.addEventListener("submit", event => {
    const text = form.elements.pasted?.value ?? "";
    event.preventDefault();
    if (!text.trim()) return say("There is no text to add: paste one, or drop files.", "limit");
    const title = form.elements.pasted_title.value.trim() || text.trim().slice(0, 60).replace(/\s+/g, " ");
    const name = `${title.replace(/[\/\\:*?"<>|\u0000-\u001f]/g, " ").replace(/^[. ]+|[. ]+$/g, "") || "Pasted text"}.txt`;
    add([{ file: new File([text], name, { type: "text/plain" }), path: name }]);
    form.elements.pasted.value = form.elements.pasted_title.value = "";
    document.querySelector("#paste").hidden = true;
  });

  // Cancelled in the ledger: nothing more is sent, and leaving this page loses nothing.
  document.addEventListener("submit", event => {
    if (!event.target.matches("[data-cancel]")) return;
    gone = true;
    queue.length = 0;
    for (const each of tries) each.abort();
    held?.go();
  });
  addEventListener("pageshow", event => { if (event.persisted && gone) location.reload(); });
  addEventListener("beforeunload", event => { if (!gone && (working || queue.length)) event.preventDefault(); });
}
