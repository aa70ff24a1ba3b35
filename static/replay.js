// Replay: the finished run as it stood at a moment, from the times of its calls and cells. Nothing of the page is changed:
// marks (data-then) say how far a node was, CSS hides what was not there yet, and figures of that moment stand in nodes of
// their own (.then). Taking both away gives the page back.
"use strict";
{
const $ = (query, within = document) => within?.querySelector(query);
const $$ = (query, within = document) => [...(within?.querySelectorAll(query) ?? [])];
const bar = $("#replay"), tree = $("#tree"), run = $("#run");
if (bar && tree) {

const slider = $("input", bar), speed = $("select", bar), play = $("[data-replay-play]", bar), clockAt = $(".replay-time", bar);
const now = $(".replay-now", bar), calm = matchMedia("(prefers-reduced-motion: reduce)");
const WORDS = { queued: "queued", running: "running", writing: "writing", waiting: "waiting for children" };
const ICONS = { queued: "queued", running: "running", writing: "running", waiting: "waiting" };
const sprite = $("use", bar).getAttribute("href").split("#")[0];
let data = null, at = 0, on = false, playing = false, nodes = null, before = null; // at: the moment shown, in milliseconds
let ahead = 0, last = 0, drawn = 0; // of playing: the moment it has come to, and when it last moved and drew

// ————— what is known of the run, by moment —————

const sorted = column => Float64Array.from(column.filter(time => time >= 0)).sort();
// How many of these sorted times are not after t.
function upto(times, t) {
  let low = 0, high = times.length;
  while (low < high) { const middle = (low + high) >> 1; if (times[middle] <= t) low = middle + 1; else high = middle; }
  return low;
}

class Moments {
  constructor({ span, calls, cells, further }) {
    Object.assign(this, { span, calls, cells, further });
    this.callAt = new Map(calls.number.map((number, n) => [number, n]));
    this.cellAt = new Map(cells.number.map((number, n) => [`${cells.call[n]}-${number}`, n]));
    this.asked = new Map(); // cell → places of the calls it asked for
    calls.parent.forEach((parent, n) => { if (parent) this.put(this.asked, `${parent}-${calls.parent_cell[n]}`, n); });
    this.turns = new Map(); // call → places of its cells
    cells.call.forEach((call, n) => this.put(this.turns, call, n));
    this.below = new Map();
    this.began = sorted(calls.queued); this.started = sorted(calls.started); this.finished = sorted(calls.finished);
    const events = [];
    for (const [what, part] of [["call", calls], ["cell", cells]]) {
      for (const name of what === "call" ? ["queued", "started", "finished"] : ["started", "replied", "ended"]) {
        part[name].forEach((time, n) => { if (time >= 0) events.push([time, what, name, n]); });
      }
    }
    this.events = events.sort((a, b) => a[0] - b[0]);
    this.times = Float64Array.from(this.events, event => event[0]);
  }
  put(map, key, value) { const list = map.get(key); if (list) list.push(value); else map.set(key, [value]); }
  // Sums over a call and all below it, up to each reply. Kept: a call is drawn at many moments.
  sums(number, alone) {
    const key = (alone ? "-" : "+") + number;
    if (this.below.has(key)) return this.below.get(key);
    const found = [...(this.turns.get(number) ?? [])], queue = alone ? [] : [number];
    while (queue.length) {
      const call = queue.pop();
      for (const cell of this.turns.get(call) ?? []) {
        for (const child of this.asked.get(`${call}-${this.cells.number[cell]}`) ?? []) {
          queue.push(this.calls.number[child]);
          found.push(...(this.turns.get(this.calls.number[child]) ?? []));
        }
      }
    }
    const { replied, tokens, cost } = this.cells;
    const rows = found.filter(n => replied[n] >= 0).sort((a, b) => replied[a] - replied[b]);
    const sums = { times: Float64Array.from(rows, n => replied[n]), tokens: [0], cost: [0] };
    for (const n of rows) {
      sums.tokens.push(sums.tokens.at(-1) + tokens[n]);
      sums.cost.push(cost[n] < 0 ? NaN : sums.cost.at(-1) + cost[n]);
    }
    this.below.set(key, sums);
    return sums;
  }
  used(number, t, alone = false) {
    const sums = this.sums(number, alone), n = upto(sums.times, t);
    return { turns: n, tokens: sums.tokens[n], cost: sums.cost[n] };
  }
  callThen(number, t) {
    const n = this.callAt.get(number), { queued, started, finished } = this.calls;
    if (n === undefined || t < queued[n]) return "future";
    if (finished[n] >= 0 && t >= finished[n]) return "past";
    if (started[n] < 0 || t < started[n]) return "queued";
    const current = (this.turns.get(number) ?? []).findLast(cell => this.cells.started[cell] <= t);
    return current !== undefined && this.cellThen(current, t) === "waiting" ? "waiting" : "running";
  }
  cellThen(n, t) {
    const { started, replied, ended, call, number } = this.cells;
    if (t < started[n]) return "future";
    if (ended[n] >= 0 ? t >= ended[n] : t >= this.span) return "past";
    if (replied[n] < 0 || t < replied[n]) return "writing";
    const open = (this.asked.get(`${call[n]}-${number[n]}`) ?? []).some(child => this.calls.queued[child] <= t && !(this.calls.finished[child] >= 0 && this.calls.finished[child] <= t));
    return open ? "waiting" : "running";
  }
  crowd(key, t) {
    const { queued, started, finished, status } = this.calls, count = { total: 0, done: 0, failed: 0, stopped: 0, running: 0, queued: 0 }, states = [];
    for (const n of this.asked.get(key) ?? []) {
      if (queued[n] > t) continue;
      const state = finished[n] >= 0 && finished[n] <= t ? (["done", "stopped"].includes(status[n]) ? status[n] : "failed") : started[n] >= 0 && started[n] <= t ? "running" : "queued";
      count.total++; count[state]++;
      states.push(state);
    }
    return { count, states };
  }
  said(n) {
    const [, what, name, place] = this.events[n];
    if (what === "call") return `call ${this.calls.number[place]} ${{ queued: "is asked for", started: "starts", finished: this.calls.status[place] === "done" ? "is done" : this.calls.status[place] === "failed" ? "fails" : "ends" }[name]}`;
    const where = `cell ${this.cells.call[place]}.${this.cells.number[place]}`;
    return `${where}: ${{ started: "the model writes", replied: "the reply is there", ended: this.cells.status[place] === "error" ? "it raised an error" : "it is over" }[name]}`;
  }
}

// ————— words and figures —————

const clock = ms => { const s = Math.floor(ms / 1000), pad = n => String(n).padStart(2, "0"); return s >= 3600 ? `${Math.floor(s / 3600)}:${pad(Math.floor(s / 60) % 60)}:${pad(s % 60)}` : `${Math.floor(s / 60)}:${pad(s % 60)}`; };
const fine = ms => (data.span < 60_000 ? `${(ms / 1000).toFixed(1)} s` : clock(ms));
const amount = n => (n < 1000 ? String(n) : n < 999_500 ? `${(n / 1000).toFixed(n < 99_950 ? 1 : 0)} k` : `${(n / 1e6).toFixed(2)} M`);
const money = micros => { const n = micros / 1e6; return Number.isNaN(n) ? "–" : n === 0 ? "$0" : `$${n.toFixed(n < 0.01 ? 4 : n < 10 ? 3 : 2)}`; };
const make = (name, css, text = "") => { const node = document.createElement(name); node.className = css ? `${css} then` : "then"; node.textContent = text; return node; };
function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "i"); svg.setAttribute("aria-hidden", "true"); use.setAttribute("href", `${sprite}#i-${name}`); svg.append(use);
  return svg;
}
function rect(css, x, width, y, height) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ class: css, x: `${x}%`, width: `${width}%`, y, height })) node.setAttribute(name, value);
  return node;
}

// ————— the page at a moment —————

function draw(t) {
  at = Math.max(0, Math.min(data.span, t));
  drawn = performance.now();
  nodes ??= $$(".call, .cell", tree);
  const sticky = playing && !calm.matches && newest(), wasSeen = sticky && sticky.getBoundingClientRect().top < innerHeight;
  for (const node of nodes) {
    const [, , call, cell] = /^(call|cell)-(\d+)(?:-(\d+))?$/.exec(node.id) ?? [];
    if (!call) continue;
    const place = cell && data.cellAt.get(`${call}-${cell}`);
    const state = cell ? (place === undefined ? "past" : data.cellThen(place, at)) : data.callThen(Number(call), at);
    const open = state !== "past" && state !== "future";
    if (node.dataset.then !== state) {
      node.dataset.then = state;
      for (const old of $$(":scope > :is(.call-head, .cell-head) > .then, :scope > .fan > .then", node)) old.remove();
      if (open) status(node, state);
      if (cell) lines(node, Infinity);
    }
    if (!open) continue;
    figures(node, Number(call), cell, place);
    if (cell && state === "writing") writes(node, place);
    if (cell && state !== "writing") crowd(node, `${call}-${cell}`);
  }
  further();
  reachable();
  totals();
  cursor();
  const n = upto(data.times, at) - 1, said = n >= 0 ? data.said(n) : "nothing has begun";
  slider.value = at;
  slider.setAttribute("aria-valuetext", `${fine(at)} of ${fine(data.span)}: ${said}`);
  clockAt.textContent = `${fine(at)} of ${fine(data.span)}`;
  now.textContent = `At ${fine(at)}: ${said}`;
  if (wasSeen) { const node = newest(), past = node.getBoundingClientRect().bottom - innerHeight + 24; if (past > 0) scrollBy({ top: past, behavior: "instant" }); }
}
const newest = () => $$("#call-1-cells > .cell:not([data-then=future])").at(-1);

function status(node, state) {
  const mark = make("span", "status");
  mark.dataset.status = state === "writing" ? "running" : state;
  mark.append(icon(ICONS[state]), make("span", "sr", WORDS[state]));
  $(":scope > :is(.call-head, .cell-head) > .status", node).after(mark);
}
function figures(node, call, cell, place) {
  const head = node.firstElementChild;
  let shown = $(":scope > .metrics.then", head);
  if (!shown) {
    shown = make("span", "metrics");
    for (const css of ["m-model", "", "", "", "", ""]) { const part = document.createElement("span"); part.className = css; shown.append(part); }
    shown.firstChild.textContent = $(":scope > .metrics:not(.then) > .m-model", head)?.textContent ?? "";
    $(":scope > .metrics", head).after(shown);
  }
  const [, turns, tokens, cost, time] = shown.children;
  if (cell) { time.textContent = fineSeconds(at - data.cells.started[place]); return; }
  const all = data.used(call, at), own = data.used(call, at, true), n = data.callAt.get(call);
  turns.replaceChildren(String(own.turns), unit(` turn${own.turns === 1 ? "" : "s"}`));
  tokens.replaceChildren(...both(amount(all.tokens), amount(own.tokens)), unit(" tokens"));
  cost.replaceChildren(...both(money(all.cost), money(own.cost)));
  time.textContent = data.calls.started[n] < 0 || at < data.calls.started[n] ? "" : fineSeconds(at - data.calls.started[n]);
}
function both(all, own) {
  if (all === own) return [all];
  return [["sum", all], ["own", own]].map(([css, text]) => { const node = document.createElement("span"); node.className = css; node.textContent = text; return node; });
}
const fineSeconds = ms => (ms < 100_000 ? `${(ms / 1000).toFixed(1)} s` : clock(ms));
function unit(text) { const node = document.createElement("span"); node.className = "unit"; node.textContent = text; return node; }

// The code of a cell that is being written: as many lines as there is time gone by, unless motion is not wanted.
function writes(node, place) {
  const { started, first_token, replied } = data.cells, from = first_token[place] >= 0 ? first_token[place] : started[place];
  const share = calm.matches || replied[place] <= from ? 0 : Math.max(0, (at - from) / (replied[place] - from));
  lines(node, share);
}
function lines(node, share) {
  const all = $$(":scope > .cell-body > .code .line", node), shown = share === Infinity ? all.length : Math.floor(share * all.length);
  all.forEach((line, n) => { if (line.hidden !== n >= shown) line.hidden = n >= shown; });
  node.toggleAttribute("data-lines", share !== Infinity && shown > 0);
}
function crowd(node, key) {
  const fan = $(":scope > .fan", node), original = $(":scope > .fanout:not(.then)", fan);
  const { count, states } = data.crowd(key, at);
  if (!original || !count.total) return;
  let shown = $(":scope > .fanout.then", fan);
  if (!shown) {
    shown = make("div", "fanout");
    shown.append(make("p", "fanout-sum"), original.querySelector(".strip").cloneNode(false));
    original.after(shown);
  }
  const [words, strip] = shown.children;
  words.textContent = `${count.done} of ${count.total} done${count.failed ? `, ${count.failed} failed` : ""}${count.stopped ? `, ${count.stopped} stopped` : ""}; ${count.running} running, ${count.queued} queued`;
  const group = Math.ceil(states.length / 200), marks = [];
  for (let n = 0; n < states.length; n += group) { const some = states.slice(n, n + group); marks.push(["failed", "stopped", "running", "queued", "done"].find(state => some.includes(state))); }
  const shapes = { failed: ["v-fail", 0, 14], stopped: ["v-stop", 2, 10], running: ["v-model", 2, 10], queued: ["v-queued", 4.5, 5], done: ["v-done", 4, 6] }, rects = [];
  for (let start = 0, n = 1; n <= marks.length; n++) if (n === marks.length || marks[n] !== marks[start]) { const [css, y, height] = shapes[marks[start]]; rects.push(rect(css, 100 * start / marks.length, 100 * (n - start) / marks.length - 0.12, y, height)); start = n; }
  strip.replaceChildren(...rects);
}
// Of a run with follow-ups: which question was under way, and what had been asked and answered before.
function further() {
  if (!data.further.length) return;
  const question = 1 + upto(data.further, at), is = (node, there) => { node.dataset.then = there ? "past" : "future"; };
  for (const node of $$(".follow-up", tree)) is(node, Number(node.id.split("-").at(-1)) <= question);
  for (const node of $$("#earlier-answers > li")) is(node, Number(node.id.split("-").at(-1)) < question);
  const head = $("#answer > .panel-head");
  if (!$(".then", head)) head.prepend(make("h2", ""));
  $(".then", head).textContent = `Answer v${question}`;
}
// The tree keeps a place for Tab, though the selected node may not be there yet.
function reachable() {
  const stop = $$(`[role=treeitem][tabindex="0"]`, tree);
  if (!stop.some(node => node.offsetParent)) $("#call-1").tabIndex = 0;
}
function totals() {
  const { calls } = data, root = calls.number.find((_, n) => !calls.parent[n]), all = data.used(root, at), over = at >= data.span;
  run.toggleAttribute("data-then-over", over);
  const parts = { Time: clock(at), Cost: money(all.cost), Tokens: amount(all.tokens), Calls: upto(data.began, at).toLocaleString("en"), "In flight": String(Math.max(0, upto(data.started, at) - upto(data.finished, at))) };
  let meters = $("#run-status > .limits.then");
  if (!meters) {
    const pill = make("span", "status is-pill");
    pill.dataset.status = "running";
    pill.append(icon("replayed"), "Replay");
    $("#run-state").after(pill);
    meters = make("dl", "limits");
    meters.setAttribute("aria-label", "Used up to this moment");
    for (const name of Object.keys(parts)) { const part = document.createElement("div"); part.append(document.createElement("dt"), document.createElement("dd")); part.firstChild.textContent = name; part.lastChild.append(document.createElement("b")); meters.append(part); }
    $("#run-meters").after(meters);
    $("#run-now").after(make("p", "run-now"));
    $("#answer").append(make("div", "panel-body small second", "At this moment there was no answer yet."));
  }
  Object.values(parts).forEach((text, n) => { $("b", meters.children[n]).textContent = text; });
  const current = (data.turns.get(root) ?? []).findLast(cell => data.cells.started[cell] <= at), line = $("#run-status > .run-now.then");
  if (current === undefined) { line.textContent = "Its sandbox starts."; return; }
  const number = data.cells.number[current], state = data.cellThen(current, at), { count } = data.crowd(`${root}-${number}`, at);
  line.textContent = over ? "The end" : state === "waiting" ? `Cell ${number} waits for its children: ${count.done} of ${count.total} done${count.failed ? `, ${count.failed} failed` : ""}` : { writing: `Turn ${number}: the model writes its reply`, running: `Cell ${number} runs`, past: `Cell ${number} is done` }[state];
}
function cursor() {
  const plot = $("#timeline-plot .plot");
  if (!plot) return;
  let cover = $("rect.then", plot), line = $("line.then", plot);
  if (!line) {
    const height = plot.getAttribute("height");
    cover = rect("v-later then", 0, 0, 0, height);
    line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [name, value] of Object.entries({ class: "v-now then", y1: 0, y2: height })) line.setAttribute(name, value);
    plot.append(cover, line);
  }
  const x = 100 * at / data.span;
  cover.setAttribute("x", `${x}%`); cover.setAttribute("width", `${100 - x}%`);
  line.setAttribute("x1", `${x}%`); line.setAttribute("x2", `${x}%`);
}
// How much happened when, behind the slider.
function histogram() {
  const bins = new Array(100).fill(0);
  for (const time of data.times) bins[Math.min(99, Math.floor(100 * time / data.span))]++;
  const most = Math.log1p(Math.max(...bins));
  $("svg", $(".replay-track", bar)).replaceChildren(...bins.flatMap((count, n) => { const height = 24 * Math.log1p(count) / most; return count ? [rect("", n, 0.8, 14 - height / 2, height)] : []; }));
}

// ————— playing, seeking, leaving —————

let loading = null;
function load() {
  return loading ??= (async () => {
    const answer = await fetch(bar.dataset.src).catch(() => null);
    if (!answer?.ok) { loading = null; now.textContent = "The moments of this run could not be fetched. Try again."; return null; }
    const found = await answer.json();
    if (!(found.span > 0)) { now.textContent = "This run has no times to play it by."; bar.dataset.state = "without"; return null; }
    data = new Moments(found);
    slider.max = data.span; slider.step = Math.max(1, Math.round(data.span / 2000));
    histogram();
    return data;
  })();
}
async function enter(t) {
  if (!data && !await load()) return false;
  if (!on) {
    on = true;
    before = { y: scrollY, focus: document.activeElement, stops: $$(`[role=treeitem][tabindex="0"]`, tree), hash: location.hash };
    run.dataset.replay = "on";
    bar.dataset.state = "on";
  }
  draw(t ?? at);
  return true;
}
function leave() {
  if (!on) return;
  stop();
  on = false;
  for (const node of $$(".then")) node.remove();
  for (const node of $$("[data-then]", run)) { delete node.dataset.then; node.removeAttribute("data-lines"); }
  for (const line of $$(".code .line[hidden]", tree)) line.hidden = false;
  for (const node of $$(`[role=treeitem][tabindex="0"]`, tree)) if (!before.stops.includes(node) && node.ariaSelected !== "true") node.tabIndex = -1;
  delete run.dataset.replay;
  run.removeAttribute("data-then-over");
  bar.dataset.state = "off";
  at = 0;
  slider.value = slider.max;
  slider.setAttribute("aria-valuetext", "its end");
  clockAt.textContent = now.textContent = "";
  if (location.hash.startsWith("#t=")) history.replaceState(null, "", before.hash.startsWith("#t=") ? location.pathname + location.search : before.hash || location.pathname + location.search);
  scrollTo({ top: before.y, behavior: "instant" });
  if (bar.contains(document.activeElement)) play.focus({ preventScroll: true });
  else if (document.activeElement === document.body) before.focus.focus({ preventScroll: true });
  run.dispatchEvent(new Event("replay-left"));
}
function named() {
  const hash = `#t=${(at / 1000).toFixed(2).replace(/\.?0+$/, "")}`;
  history.replaceState(null, "", hash);
  $("[data-copy-value]", bar).dataset.copyValue = location.href;
  $("#run-said").textContent = now.textContent;
}
function label() {
  play.setAttribute("aria-label", playing ? "Replay: pause" : "Replay: play");
  $("use", play).setAttribute("href", `${sprite}#i-${playing ? "pause" : "play"}`);
  $("span", play).textContent = playing ? "Pause" : on ? "Play" : "Replay";
}
function stop() { playing = false; label(); }
async function start() {
  if (!await enter(on && at < data.span ? at : 0)) return;
  playing = true;
  last = performance.now();
  ahead = at;
  label();
  requestAnimationFrame(step);
}
function step(time) {
  if (!playing) return;
  ahead = Math.min(data.span, ahead + Math.max(0, time - last) * Number(speed.value));
  last = Math.max(last, time);
  // Fifteen pictures a second; where motion is not wanted, two.
  if (time - drawn >= (calm.matches ? 500 : 66) || ahead >= data.span) draw(ahead);
  if (at >= data.span) { stop(); named(); return; }
  requestAnimationFrame(step);
}
async function seek(t) { if (await enter(t)) named(); label(); }
async function move(by) {
  if (!data && !await load()) return;
  stop();
  const n = upto(data.times, at);
  let to;
  if (by > 0) to = data.times[n] ?? data.span;
  else { let m = n - 1; while (m >= 0 && data.times[m] >= at) m--; to = m >= 0 ? data.times[m] : 0; }
  seek(to);
}
function toggle() { if (playing) { stop(); named(); } else start(); }
function faster(by) { const n = Math.max(0, Math.min(speed.options.length - 1, speed.selectedIndex + by)); speed.selectedIndex = n; }

play.addEventListener("click", toggle);
slider.addEventListener("input", async () => {
  const share = slider.value / slider.max;
  if (!data && !await load()) return;
  stop();
  await enter(share * data.span);
});
slider.addEventListener("change", () => { if (on) named(); });
bar.addEventListener("click", event => {
  const by = event.target.closest("[data-replay-step]");
  if (by) move(Number(by.dataset.replayStep));
  if (event.target.closest("[data-replay-leave]")) { leave(); label(); }
});
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !("ended" in $("#run-state").dataset)) return;
  if (event.target.closest("input:not([type=range]), textarea, select, dialog, [contenteditable]")) return;
  const press = { p: toggle, ",": () => move(-1), ".": () => move(1) }[event.key] ?? (on && {
    "[": () => faster(-1), "]": () => faster(1),
    " ": event.target.closest("button, a, summary, pre") ? null : toggle,
    Escape: event.target.closest("#replay") ? () => { leave(); label(); } : null,
  }[event.key]);
  if (press) { event.preventDefault(); press(); }
});
// The run went on: its moments are others.
run.addEventListener("run-moved", () => { data = loading = null; });
// A part of the tree that is fetched meanwhile stands at the same moment.
document.body.addEventListener("htmx:afterSwap", event => { if (on && tree.contains(event.detail.target)) { nodes = null; draw(at); } else nodes = null; });
const linked = () => { const found = /^#t=(\d+(?:\.\d+)?)$/.exec(location.hash); if (found && "ended" in $("#run-state").dataset) { stop(); enter(1000 * Number(found[1])).then(there => { if (there) { named(); label(); } }); } };
addEventListener("hashchange", linked);
document.addEventListener("DOMContentLoaded", linked);
if (document.readyState === "complete") linked();
}
}
