// Rows that are moved by pointer or keyboard; the form sends the order in which they stand.
const form = document.querySelector("#order"), rows = document.querySelector("#order-rows"), said = document.querySelector("#order-said");

if (rows) {
  const save = form.querySelector(".btn-primary"), start = [...rows.children];
  let taken = null, before = null, changed = false, dragged = false;
  const title = row => row.querySelector("bdi").textContent, place = row => [...rows.children].indexOf(row) + 1;

  function number() {
    [...rows.children].forEach((row, at) => { row.querySelector("[data-number]").textContent = at + 1; });
    changed = start.some((row, at) => rows.children[at] !== row);
    save.disabled = !changed;
  }
  function take(row) {
    taken = row;
    before = row.nextElementSibling;
    row.dataset.taken = "true";
    row.querySelector("button").setAttribute("aria-pressed", "true");
  }
  function put(words) {
    delete taken.dataset.taken;
    taken.querySelector("button").setAttribute("aria-pressed", "false");
    said.textContent = words;
    taken = null;
    number();
  }
  rows.addEventListener("keydown", event => {
    const row = event.target.closest("li");
    if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      if (taken) put(`${title(row)} put down at place ${place(row)}.`);
      else { take(row); said.textContent = `${title(row)} taken, place ${place(row)} of ${rows.children.length}.`; }
      return;
    }
    if (!taken) return;
    const to = { ArrowUp: row.previousElementSibling, ArrowDown: row.nextElementSibling, Home: rows.firstElementChild, End: rows.lastElementChild }[event.key];
    if (event.key === "Escape") {
      rows.insertBefore(taken, before);
      put(`${title(row)} put back at place ${place(row)}.`);
    } else if (event.key in { ArrowUp: 1, ArrowDown: 1, Home: 1, End: 1 }) {
      event.preventDefault();
      if (to && to !== row) (["ArrowUp", "Home"].includes(event.key) ? to.before(row) : to.after(row));
      said.textContent = `Place ${place(row)}.`;
      row.scrollIntoView({ block: "nearest" });
    } else return;
    row.querySelector("button").focus(); // a moved row loses it
    number();
  });
  rows.addEventListener("focusout", () => { // left while taken: it stays where it is
    setTimeout(() => { if (taken && !dragged && !taken.contains(document.activeElement)) put(""); });
  });

  rows.addEventListener("pointerdown", event => {
    const handle = event.target.closest("button");
    if (!handle || event.button) return;
    const row = handle.closest("li");
    event.preventDefault();
    handle.focus();
    take(row);
    dragged = true; // heard on the document: a row that is moved would lose the pointer
    const move = ({ clientY }) => {
      const over = [...rows.children].find(each => { const { top, bottom } = each.getBoundingClientRect(); return clientY >= top && clientY <= bottom; });
      if (over && over !== row) {
        const { top, height } = over.getBoundingClientRect(), down = place(over) > place(row);
        if (down ? clientY > top + height / 2 : clientY < top + height / 2) down ? over.after(row) : over.before(row);
      }
      if (clientY < 80) scrollBy(0, -12); else if (clientY > innerHeight - 120) scrollBy(0, 12);
    };
    const end = () => {
      for (const [name, what] of [["pointermove", move], ["pointerup", end], ["pointercancel", end]]) document.removeEventListener(name, what);
      handle.focus();
      dragged = false;
      if (taken) put(`${title(row)} put down at place ${place(row)}.`);
    };
    for (const [name, what] of [["pointermove", move], ["pointerup", end], ["pointercancel", end]]) document.addEventListener(name, what);
  });
  form.addEventListener("submit", event => {
    changed = false;
    form.elements.order.value = event.submitter?.name === "sort" ? "" : [...rows.children].map(row => row.dataset.position).join(",");
  });
  addEventListener("beforeunload", event => { if (changed) event.preventDefault(); });
}
