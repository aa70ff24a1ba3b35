// The page's small script: theme, dialogs, copying; the tree's keys and folds; the live run. Everything else is HTML,
// CSS and htmx. No library but htmx.
"use strict";
{ // a scope of its own: pages have scripts of theirs
const $ = (query, within = document) => within.querySelector(query);
const $$ = (query, within = document) => [...within.querySelectorAll(query)];

// ————— theme, dialogs, copying —————

const remembered = (store, key) => { try { return store.getItem(key); } catch { return null; } };
const remember = (store, key, value) => { try { store.setItem(key, value); } catch { /* private mode */ } };

const theme = remembered(localStorage, "theme");
if (theme) document.documentElement.dataset.theme = theme;

document.addEventListener("click", event => {
  const at = query => event.target.closest(query);
  if (at("[data-theme-toggle]")) {
    const set = document.documentElement.dataset.theme;
    const dark = set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    remember(localStorage, "theme", document.documentElement.dataset.theme);
  }
  const opener = at("[data-open-dialog]");
  if (opener) document.getElementById(opener.dataset.openDialog)?.showModal();
  const copier = at("[data-copy], [data-copy-value]");
  if (copier) copy(copier.dataset.copyValue ?? $(copier.dataset.copy)?.innerText ?? "", copier);
});

async function copy(text, button) {
  try { await navigator.clipboard.writeText(text); say("Copied"); } catch { say("The browser did not allow copying"); }
  if (button) { button.dataset.copied = ""; setTimeout(() => delete button.dataset.copied, 1200); }
}

function say(words) {
  const place = $("#run-said");
  if (place) place.textContent = words;
}

// ————— the tree: walking and folding —————

const tree = $("#tree"), ITEM = "[role=treeitem]";
const folds = JSON.parse(remembered(sessionStorage, "folds:" + location.pathname) || "{}");

const shown = () => $$(ITEM, tree).filter(node => node.offsetParent);
const above = node => node.parentElement?.closest(ITEM);
const own = (node, query) => $$(query, node).find(found => found.closest(ITEM) === node && found.offsetParent);

function select(node) {
  for (const other of $$(`${ITEM}[tabindex="0"], ${ITEM}[aria-selected]`, tree)) {
    other.tabIndex = -1;
    other.removeAttribute("aria-selected");
  }
  node.tabIndex = 0;
  node.ariaSelected = "true";
  inspect(node);
}
function go(node) {
  if (!node) return;
  select(node);
  node.focus({ preventScroll: true });
  const head = node.firstElementChild;
  const top = head.getBoundingClientRect().top, bar = $("#run-status")?.getBoundingClientRect().bottom ?? 0;
  if (top < bar + 4) scrollBy({ top: top - bar - 12 });
  else if (head.getBoundingClientRect().bottom > innerHeight - 12) head.scrollIntoView({ block: "center" });
}
function fold(node, open, keep = true) {
  if (!node.hasAttribute("aria-expanded") || node.ariaExpanded === String(open)) return;
  node.ariaExpanded = String(open);
  const body = open && $(":scope > .call-body[hx-get]", node);
  if (body) { htmx.process(body); htmx.trigger(body, "unfold"); } // it may have come so lately that htmx has not seen it
  if (keep && node.id) {
    folds[node.id] = open;
    remember(sessionStorage, "folds:" + location.pathname, JSON.stringify(folds));
  }
}
// What was folded and unfolded before a reload, or before this part of the tree was fetched.
function refold(within) {
  for (const node of $$(`${ITEM}[aria-expanded]`, within)) if (node.id in folds) fold(node, folds[node.id], false);
  for (const link of $$("li.more:not([data-live]) > a", within)) {
    if (folds[link.closest("li").id] && link.dataset.asked === undefined) { link.dataset.asked = ""; htmx.trigger(link, "click"); }
  }
}

const keys = {
  j: node => go(shown()[shown().indexOf(node) + 1]),
  k: node => go(shown()[shown().indexOf(node) - 1]),
  l: node => (node.ariaExpanded === "false" ? fold(node, true) : go($$(ITEM, node).find(child => child.offsetParent))),
  h: node => (node.ariaExpanded === "true" ? fold(node, false) : go(above(node))),
  r: node => { const found = own(node, "details.reasoning"); if (found) found.open = !found.open; },
  o: node => (run.dataset.outputs === "seen" ? say("This link shows outputs as the model saw them, not whole") : (own(node, "[data-close-whole]") ?? own(node, "[data-whole]"))?.click()),
  v: () => tab("variables"),
  m: () => tab("messages"),
  d: () => tab("details"),
  y: node => copy(location.href.split("#")[0] + "#" + node.id),
  Home: () => go(shown()[0]),
  End: () => go(shown().at(-1)),
  Enter: node => (node.matches(".more") ? $("a", node)?.click() : own(node, ":is(.cell-body, .call-about, .call-end, .fanout, .call-head, .cell-head) :is(a:not(.ln), button, summary, pre)")?.focus()),
};
Object.assign(keys, { ArrowDown: keys.j, ArrowUp: keys.k, ArrowRight: keys.l, ArrowLeft: keys.h });

tree?.addEventListener("keydown", event => {
  const item = event.target.closest(ITEM);
  if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return go(item);
  if (event.target !== item) return;
  if (event.key === "Tab") { // siblings; at the last one Tab leaves the tree as anywhere else
    let next = item;
    do next = event.shiftKey ? next.previousElementSibling : next.nextElementSibling; while (next && !next.matches(ITEM));
    if (next) { event.preventDefault(); go(next); }
  } else if (keys[event.key]) {
    event.preventDefault();
    keys[event.key](item);
  }
});
tree?.addEventListener("click", event => {
  const head = event.target.closest(".call-head, .cell-head");
  if (!head || event.target.closest("a") || String(getSelection())) return;
  const node = head.parentElement;
  if (event.target.closest(".twist") || node.matches(".call")) fold(node, node.ariaExpanded === "false");
  go(node);
});
document.addEventListener("click", event => {
  const at = query => event.target.closest(query);
  const totals = at("[data-totals]:not(.tree)");
  if (totals && tree) {
    tree.dataset.totals = totals.dataset.totals;
    for (const other of $$("button[data-totals]")) other.ariaPressed = String(other === totals);
  }
  if (at("[data-fold-all]")) {
    const nodes = $$(`.call:not([aria-level="1"]), .cell`, tree).filter(node => node.matches(".cell") || node.ariaExpanded === "true");
    const open = nodes.every(node => node.ariaExpanded === "false");
    for (const node of nodes) fold(node, open && node.matches(".cell"));
  }
  const whole = at("[data-close-whole]");
  if (whole) { const node = whole.closest(ITEM); whole.closest(".whole").replaceChildren(); go(node); }
  const more = at("li.more > a");
  if (more) { folds[more.closest("li").id] = true; remember(sessionStorage, "folds:" + location.pathname, JSON.stringify(folds)); }
  const chip = at("[data-shows]");
  if (chip) {
    document.querySelector(chip.getAttribute("hx-target")).dataset.shows = chip.dataset.shows;
    for (const other of $$("[data-shows]", chip.parentElement)) other.ariaPressed = String(other === chip);
  }
  const sorter = at("[data-sortable] .sort");
  if (sorter) sort(sorter.closest("th"));
});
addEventListener("keydown", event => {
  if (event.target.closest("input, textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey || !tree) return;
  const press = {
    "?": () => $("#keys-dialog")?.showModal(),
    "/": () => $(".tree-tools input[type=search]")?.focus(),
    f: () => $("[data-follow]")?.click(),
    a: () => $("#follow-up-question")?.focus(),
    n: nextFailed,
  }[event.key];
  if (press) { event.preventDefault(); press(); }
  else if (["j", "k"].includes(event.key) && !event.target.closest(ITEM)) go($(`${ITEM}[tabindex="0"]`, tree));
});
addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.id === "follow-up-question") event.target.form.requestSubmit();
});
// ————— the inspector: what the selected node held, was told and used —————

let chosen = "variables", inspecting = null, inspectSoon = 0;
const inspectorSeen = () => $("#inspector")?.offsetParent && (innerWidth >= 1024 || $(".is-sheet").dataset.open === "true");
function inspect(node, again = false) {
  const found = /^(call|cell)-(\d+)(?:-(\d+))?$/.exec(node.id);
  if (!found || (inspecting === node.id && !again)) return;
  inspecting = node.id;
  clearTimeout(inspectSoon);
  inspectSoon = setTimeout(() => {
    if (inspectorSeen()) htmx.ajax("GET", `c/${found[2]}/${found[3] ? `${found[3]}/` : ""}inspect`, { target: "#inspector", swap: "innerHTML" });
  }, again ? 1000 : 120);
}
function tab(name, focus = false) {
  chosen = name;
  sheet(true);
  for (const button of $$("#inspector [role=tab]")) {
    const on = button.getAttribute("aria-controls") === name;
    button.ariaSelected = String(on);
    button.tabIndex = on ? 0 : -1;
    document.getElementById(button.getAttribute("aria-controls")).hidden = !on;
    if (on && focus) button.focus();
  }
}
function sheet(open) {
  const place = $(".is-sheet");
  if (!place || place.dataset.open === String(open)) return;
  place.dataset.open = String(open);
  $(".sheet-toggle", place).ariaExpanded = String(open);
  const node = $(`${ITEM}[aria-selected="true"]`, tree) ?? $(`${ITEM}[tabindex="0"]`, tree);
  if (open && node) { inspecting = null; inspect(node); }
}
document.addEventListener("click", event => {
  const button = event.target.closest("#inspector [role=tab]");
  if (button) tab(button.getAttribute("aria-controls"), true);
  if (event.target.closest(".sheet-toggle")) sheet($(".is-sheet").dataset.open !== "true");
});
document.addEventListener("keydown", event => {
  const at = event.target.closest("#inspector [role=tab]"), step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!at || !step) return;
  const all = $$("#inspector [role=tab]");
  tab(all.at((all.indexOf(at) + step) % all.length).getAttribute("aria-controls"), true);
});
document.body.addEventListener("htmx:afterSwap", event => { if (event.detail.target?.id === "inspector") tab(chosen); });

function nextFailed() {
  const here = document.activeElement?.closest(ITEM);
  const failed = $$(".status[data-status=failed], .status[data-status=limit]", tree).map(mark => mark.closest(ITEM));
  const after = here ? failed.find(node => here.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING) : null;
  const node = after ?? failed[0];
  if (!node) return say("No call or cell has failed");
  for (let up = above(node); up; up = above(up)) fold(up, true);
  go(node);
}

function sort(column) {
  const table = column.closest("table"), at = [...column.parentElement.children].indexOf(column), body = table.tBodies[0];
  const down = column.getAttribute("aria-sort") === "ascending";
  for (const other of $$("th[aria-sort]", table)) other.removeAttribute("aria-sort");
  column.setAttribute("aria-sort", down ? "descending" : "ascending");
  const order = new Intl.Collator(undefined, { numeric: true }).compare;
  const rows = [...body.rows].sort((a, b) => order(a.cells[at].textContent, b.cells[at].textContent));
  body.replaceChildren(...(down ? rows.reverse() : rows));
}

// ————— links into the tree: unfold what is in between, fetch it where need be —————

async function until(there) {
  for (let tries = 0; tries < 80; tries++) {
    const found = there();
    if (found) return found;
    await new Promise(done => setTimeout(done, 50));
  }
  return null;
}

// A cell of a long call that the page left out: the block around it is fetched into the gap.
async function fill(call, cell) {
  const there = () => document.getElementById(`cell-${call}-${cell}`);
  const gap = $$(`#call-${call}-cells > [data-first]`).find(({ dataset }) => Number(dataset.first) <= cell && cell <= Number(dataset.last));
  if (there() || !gap) return;
  htmx.ajax("GET", `c/${call}/cells?first=${gap.dataset.first}&last=${gap.dataset.last}&at=${cell}`, { target: gap, swap: "outerHTML" });
  await until(there);
}

async function reveal() {
  const earlier = /^#answer-\d+$/.test(location.hash) && $(`${location.hash} > details`);
  if (earlier) { earlier.open = true; earlier.scrollIntoView({ block: "center" }); }
  const id = location.hash.slice(1), found = /^(?:call|cell)-(\d+)(?:-(\d+))?/.exec(id);
  if (!tree || !found) return;
  const there = () => document.getElementById(id) ?? document.getElementById(id.replace(/-L\d+$/, "")); // a line may be past what is shown
  if (!there()) {
    const answer = await fetch(`c/${found[1]}/path`).catch(() => null);
    if (!answer?.ok) return;
    for (const step of await answer.json()) {
      if (step.cell) await fill(step.from, step.cell);
      let node = document.getElementById(`call-${step.call}`);
      if (!node && step.crowd) {
        const cell = `${step.from}-${step.cell}`;
        htmx.ajax("GET", `c/${step.from}/${step.cell}/children?after=${step.after}`, { target: `#cell-${cell}-more`, swap: "beforebegin" });
        node = await until(() => document.getElementById(`call-${step.call}`));
      }
      if (!node) return;
      if (id === `call-${step.call}`) break;
      fold(node, true);
      await until(() => $(":scope > .call-body > .cells", node));
    }
    if (found[2]) await fill(found[1], Number(found[2]));
  }
  const target = there(), node = target?.closest(ITEM);
  if (!node) return;
  for (let up = node.id === id ? above(node) : node; up; up = above(up)) fold(up, true);
  go(node);
  if (target !== node) target.scrollIntoView({ block: "center" });
}
addEventListener("hashchange", reveal);
// What is left out of a long call is fetched in place; without a script, with the whole page.
addEventListener("click", event => {
  const link = event.target.closest?.("a[data-in-place]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  location.hash = link.hash;
});

// ————— the live run —————

const run = $("#run");
const seqNow = () => Number($("#run-seq").dataset.seq);
const opened = new Map(); // what this page fetched of the tree: its name, to the seq at which it stood
const ENDED = () => "ended" in $("#run-state").dataset;
const MARK = /<span id="run-seq" hidden data-seq="(\d+)" data-from="(\d+)"><\/span>\s*$/;
let socket = null, line = null, healed = 0, following = run && !ENDED();

if (run) {
  // On every (re)connect: what came after where the page stands.
  htmx.createWebSocket = url => (line = new WebSocket(`${url}?seq=${seqNow()}${run.dataset.form ? `&form=${run.dataset.form}` : ""}`));
  document.body.addEventListener("htmx:wsOpen", event => {
    socket = event.detail.socketWrapper;
    run.dataset.live = "on";
    if (opened.size) socket.send(JSON.stringify({ open: Object.fromEntries([...opened].map(([name, seq]) => [name, Math.max(seq, seqNow())])) }));
  });
  document.body.addEventListener("htmx:wsClose", event => {
    const { event: { code, target }, socketWrapper: { reconnect } } = event.detail;
    if (target && target !== line) return; // given up for another one
    socket = null;
    run.dataset.live = "off";
    // The session is another, or none: ask as who this is now, once the browser has been told its new key.
    if (code === 4401) setTimeout(reconnect, 1500);
    if (code === 4404) news("This run was deleted, or you may not watch it any more.");
    if (code === 4408) rested(reconnect);
    if (code === 4410) {
      if ($("#archived")) location.reload();
      else news("The calls and cells of this run were archived, or brought back from the archive.", "Load the page anew", () => location.reload());
    }
  });
  // A frame covers (from, seq]; a page that does not stand at its beginning lets it pass and asks anew.
  document.body.addEventListener("htmx:wsBeforeMessage", event => {
    const [, seq, from] = MARK.exec(event.detail.message.slice(-120)) ?? [], { reconnect } = event.detail.socketWrapper;
    // Whoever replays is left where they are; what came meanwhile is asked for when they leave.
    if (run.dataset.replay) {
      event.preventDefault();
      if (Number(seq) > seqNow() && !missed) news("This run goes on.", "Leave the replay and watch", () => $("[data-replay-leave]").click());
      missed = reconnect;
      return;
    }
    if (Number(from) === seqNow()) { reading = ENDED() ? answerSeen() : null; return; }
    event.preventDefault();
    if (Date.now() - healed > 2000) { healed = Date.now(); reconnect(); }
  });
  // Whoever asks further sees it in place, as all who have the run open; where nothing would come, the page is loaded anew.
  document.body.addEventListener("asked-further", () => {
    if (run.dataset.live !== "on") { location.reload(); return; }
    if (run.dataset.replay) $("[data-replay-leave]").click();
    asked = true;
    $("#run-status").tabIndex = -1;
    $("#run-status").focus({ preventScroll: true });
    say("Your question is asked");
  });
  run.addEventListener("replay-left", () => { if (missed) { news(""); missed(); missed = null; } });
  document.body.addEventListener("htmx:wsAfterMessage", () => { noteOpened(); settled(); tick(); told(); follow(); });
  noteOpened();
  // A part of the tree that was fetched: name it, so that its news come too.
  document.body.addEventListener("htmx:afterSwap", event => {
    const list = event.detail.target?.closest?.(".children") ?? $(".children", event.detail.target ?? document.createElement("p"));
    if (list && !list.dataset.shows) inOrder(list);
    noteOpened();
    letGo([...opened.keys()].filter(name => !(name[0] === "l" ? $(`#cell-${name.slice(1)}-more[data-live]`) : document.getElementById(`call-${name.slice(1)}`))));
    tick();
    if (tree?.contains(event.detail.target)) refold(event.detail.target);
  });
}

let asked = false; // further, from this page, and the run has not gone on yet
let missed = null, reading = null; // how to ask for what a replay held back; the answer that was on the screen before a frame

// One quiet line below the run's state, with a button.
function news(words, press = "", does = null) {
  const place = $("#run-news"), button = document.createElement("button");
  place.replaceChildren(...(words ? [words] : []));
  if (!press) return;
  Object.assign(button, { type: "button", className: "btn btn-sm", textContent: press, onclick: does });
  place.append(" ", button);
}

// An ended run's page that was let go asks again when somebody looks at it, and now and then.
const AGAIN = 300_000;
let askAgain = null, askedAt = 0;
function rested(reconnect) {
  if (!askAgain) {
    const ask = () => {
      if (socket || document.hidden || Date.now() - askedAt < 5000) return;
      askedAt = Date.now();
      askAgain();
    };
    document.addEventListener("visibilitychange", ask);
    setInterval(ask, AGAIN * (0.8 + 0.4 * Math.random()));
  }
  askAgain = reconnect;
}

// A run that has ended goes on: whoever reads its answer keeps it where it is on the screen, now among the earlier ones.
const VALUE = ":is(.panel-body, .table-wrap)";
function answerSeen() {
  const box = $(`#answer > ${VALUE}`)?.getBoundingClientRect();
  if (!box || box.bottom <= $("#run-status").getBoundingClientRect().bottom || box.top >= innerHeight) return null;
  return { top: box.top, number: $("#earlier-answers").childElementCount + 1 };
}
function keepReading() {
  const fold = reading && $(`#answer-${reading.number} > details`), { top } = reading ?? {};
  if (!fold) return;
  const body = $(".fold-body", fold), stay = () => scrollBy({ top: ($(VALUE, body)?.getBoundingClientRect().top ?? top) - top, behavior: "instant" });
  body.addEventListener("htmx:afterSettle", stay, { once: true });
  fold.open = true;
}

function noteOpened() {
  const fresh = {};
  for (const mark of $$("[data-opened]")) {
    for (const name of mark.dataset.opened.split(" ")) if (name) { fresh[name] = Number(mark.dataset.seq); opened.set(name, fresh[name]); }
    mark.remove();
  }
  if (Object.keys(fresh).length) socket?.send(JSON.stringify({ open: fresh }));
}
function letGo(names) {
  for (const name of names) opened.delete(name);
  if (names.length) socket?.send(JSON.stringify({ close: names }));
}
// New calls of a crowd whose list is here to its end stand before what ends the list; a long list is asked for again.
const LIVE_MOST = 300;
function arrive(more, nodes) {
  for (const node of nodes) {
    if (node.id && document.getElementById(node.id)) continue;
    more.before(node);
    node.firstElementChild?.classList.add("arrived");
    htmx.process(node);
  }
  noteOpened();
  const list = more.parentElement;
  if (list.childElementCount <= LIVE_MOST || !("live" in more.dataset)) return;
  const link = $("a", more), where = more.id.slice(5, -5), last = $$(":scope > .call", list).at(-1).id.slice(5);
  more.removeAttribute("data-live");
  $("span", more).textContent = "";
  link.setAttribute("hx-get", `c/${where.replace("-", "/")}/children?after=${last}`);
  link.replaceWith(link.cloneNode(true)); // htmx has read the address of the old one
  htmx.process(more);
  letGo(["l" + where]);
}
function settled() {
  for (const more of $$("li.more[data-live]", tree)) {
    if ($(".status:is([data-status=running], [data-status=waiting])", document.getElementById(more.id.replace(/more$/, "head")))) continue;
    more.remove();
    letGo(["l" + more.id.slice(5, -5)]);
  }
}

// Calls of a crowd may be fetched out of order, by a link; a page of them may hold some that are there.
function inOrder(list) {
  const number = node => Number(node.id.slice(5)) || Infinity;
  const seen = new Set();
  for (const node of [...list.children]) {
    if (node.id && seen.has(node.id)) node.remove();
    seen.add(node.id);
  }
  const nodes = [...list.children], sorted = nodes.toSorted((a, b) => number(a) - number(b));
  if (nodes.some((node, at) => node !== sorted[at])) list.append(...sorted);
}

// A leaf is patched in place, so that selection, scroll, focus and folds in it outlive the swap; what is appended is only marked.
document.body.addEventListener("htmx:oobBeforeSwap", event => {
  const { target, fragment } = event.detail, fresh = fragment.firstElementChild;
  if (fresh?.id && fresh.id === target.id) {
    event.detail.shouldSwap = false;
    patch(target, fresh);
    if (inspecting && target.id === `${inspecting}-head`) inspect(target.parentElement, true);
    if (target.matches("[hx-get], :has([hx-get])")) htmx.process(target);
    return;
  }
  const more = target.matches(".children") && $(":scope > .more", target);
  if (more) { event.detail.shouldSwap = false; return arrive(more, [...fragment.children]); }
  for (const node of [...fragment.children]) {
    if (node.id && document.getElementById(node.id)) node.remove();
    else node.firstElementChild?.classList.add("arrived");
  }
});
const KEPT = { DETAILS: ["open"] };
function patch(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !KEPT[old.tagName]?.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value && !KEPT[old.tagName]?.includes(name)) old.setAttribute(name, value);
  }
  if (fresh.dataset?.ticks) return;
  let at = old.firstChild, next = fresh.firstChild;
  while (next) {
    const following = next.nextSibling;
    if (!at) old.append(next);
    else {
      const after = at.nextSibling;
      if (at.nodeType === Node.TEXT_NODE && next.nodeType === Node.TEXT_NODE) {
        if (next.data.startsWith(at.data)) { if (next.length > at.length) at.appendData(next.data.slice(at.length)); }
        else at.data = next.data;
      } else if (at.nodeType === Node.ELEMENT_NODE && at.tagName === next.tagName && at.id === next.id) {
        if (!at.isEqualNode(next)) patch(at, next);
      } else at.replaceWith(next);
      at = after;
    }
    next = following;
  }
  while (at) { const after = at.nextSibling; at.remove(); at = after; }
}

// Clocks of what is under way, by the server's time.
const ahead = run ? Date.now() / 1000 - Number(run.dataset.now) : 0;
function tick() {
  const now = Date.now() / 1000 - ahead;
  for (const clock of $$("[data-ticks]")) {
    const seconds = Math.max(0, now - Number(clock.dataset.ticks)), whole = Math.floor(seconds);
    const minutes = `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
    clock.textContent = "clock" in clock.dataset || seconds >= 100 ? minutes : `${seconds.toFixed(1)} s`;
  }
}

// When it ends: the title, and a word from the browser to who asked for one.
let lastWord = $("#run-state")?.dataset.word, lastSeq = run && seqNow(), wasOver = run && ENDED();
function told() {
  const state = $("#run-state"), word = state.dataset.word, over = ENDED(), moved = seqNow() !== lastSeq;
  if (moved) run.dispatchEvent(new Event("run-moved"));
  // What is asked further is there anew, unless somebody writes in it.
  const further = $("#follow-up");
  if (further && over && (moved || word !== lastWord) && !$("textarea", further)?.value) htmx.trigger(further, "ended");
  if (wasOver && moved && !asked) keepReading();
  if (wasOver && !over) { setFollow(asked); asked = false; }
  lastSeq = seqNow();
  wasOver = over;
  if (word === lastWord) return;
  lastWord = word;
  document.title = `${word}: ${run.dataset.title} · rlmweb`;
  if (over && window.Notification?.permission === "granted" && remembered(localStorage, "notify") === "yes" && document.hidden) {
    new Notification(`Run ${word.toLowerCase()}`, { body: run.dataset.title, tag: location.pathname });
  }
}
const asker = $("[data-notify]");
if (asker && window.Notification && Notification.permission !== "denied" && remembered(localStorage, "notify") !== "yes") {
  asker.hidden = false;
  asker.addEventListener("click", async () => {
    if (await Notification.requestPermission() === "granted") { remember(localStorage, "notify", "yes"); say("The browser will tell you when it ends"); }
    asker.hidden = true;
  });
}

// Keep the newest cell of the root in view, until somebody scrolls up.
const follower = $("[data-follow]");
let lastY = scrollY, ours = false;
function setFollow(on) { following = on; if (follower) follower.ariaPressed = String(on); if (on) follow(); }
function follow() {
  const newest = following && $("#call-1-cells")?.lastElementChild;
  if (!newest || document.hidden) return;
  const past = newest.getBoundingClientRect().bottom - innerHeight + 24;
  if (past > 0) { ours = true; scrollBy({ top: past, behavior: "instant" }); }
}
follower?.addEventListener("click", () => setFollow(!following));
addEventListener("scroll", () => {
  if (!ours && following && scrollY < lastY - 2) setFollow(false);
  ours = false;
  lastY = scrollY;
}, { passive: true });

if (run) { setInterval(() => { if (!document.hidden) tick(); }, 200); tick(); }
document.addEventListener("DOMContentLoaded", () => { if (tree) { refold(tree); reveal(); } });
}
