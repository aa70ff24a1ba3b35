// The comparison of two runs: from difference to difference, and what is the same folded or not.
{
const differences = [...document.querySelectorAll("[data-difference]")], at = document.querySelector("#compare-at");
let here = -1;

function step(by) {
  if (!differences.length) { at.textContent = "Nothing differs here"; return; }
  const bar = 80;
  if (here < 0) { // from where the page stands
    const after = differences.findIndex(each => each.getBoundingClientRect().top > bar + 4);
    here = by > 0 ? (after < 0 ? differences.length : after) - 1 : after < 0 ? differences.length : after;
  }
  here = Math.min(differences.length - 1, Math.max(0, here + by));
  const target = differences[here];
  for (const each of differences) each.classList.toggle("is-here", each === target);
  target.focus({ preventScroll: true });
  scrollTo({ top: scrollY + target.getBoundingClientRect().top - bar });
  at.textContent = `${here + 1} of ${differences.length}`;
}
addEventListener("keydown", event => {
  if (event.target.closest("input, textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  const by = { n: 1, p: -1 }[event.key];
  if (by) { event.preventDefault(); step(by); }
});
document.addEventListener("click", event => {
  const button = event.target.closest("[data-step]");
  if (button) step(Number(button.dataset.step));
});
document.querySelector("[data-fold-same]")?.addEventListener("change", event => {
  for (const each of document.querySelectorAll("[data-same]")) each.open = !event.target.checked;
});
}
