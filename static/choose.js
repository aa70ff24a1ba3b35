// Choosing documents: the total follows each tick. Without it, it does so at the next page or button.
const total = document.querySelector("#total"), ticks = [...document.querySelectorAll("#choose .tick")];
const amount = value => value < 1000 ? `${value}` : value < 999500 ? `${(value / 1000).toFixed(value < 99950 ? 1 : 0)} k` : `${(value / 1e6).toFixed(value < 99.5e6 ? 2 : 0)} M`;

function add() {
  const sum = { count: 0, chars: 0, decoded: 0 }, room = Number(total.dataset.room);
  for (const name of Object.keys(sum)) sum[name] = Number(total.dataset[name]);
  for (const tick of ticks) {
    if (!tick.checked) continue;
    sum.count++;
    sum.chars += Number(tick.dataset.chars);
    sum.decoded += Number(tick.dataset.decoded);
  }
  total.dataset.over = String(sum.decoded > room);
  total.querySelector("[data-said]").textContent = `${sum.count.toLocaleString("en")} document${sum.count === 1 ? "" : "s"}, ${amount(sum.chars)} characters`;
  total.querySelector("[data-memory]").textContent = `${units(sum.decoded)} of the ${units(room)} that a call’s memory has for texts`;
  total.querySelector("progress").value = sum.decoded;
}

let last = null; // with Shift, all from the one ticked before
document.querySelector("#choose").addEventListener("click", event => {
  const tick = event.target.closest(".tick");
  if (!tick) return;
  if (event.shiftKey && last) {
    const [from, to] = [ticks.indexOf(last), ticks.indexOf(tick)].sort((a, b) => a - b);
    for (const each of ticks.slice(from, to + 1)) each.checked = tick.checked;
  }
  last = tick;
  add();
});
addEventListener("pageshow", add); // browsers keep ticks over Back
