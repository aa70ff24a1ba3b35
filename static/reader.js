// The reader: #c=1200-1420 shows, highlights and announces a range of characters, wherever in the text it is. The server
// counts the characters, so a range means the same for every Unicode text.
const bar = document.querySelector("#find"), status = () => document.querySelector("#text-said");

async function show() {
  const range = /^#c=(\d+)-(\d+)$/.exec(location.hash);
  if (range) {
    const asked = new URLSearchParams(location.search);
    asked.delete("at");
    asked.set("c", `${range[1]}-${range[2]}`);
    const answer = await fetch(`?${asked}`, { headers: { "HX-Request": "true" } }).catch(() => null);
    if (!answer?.ok) return;
    const text = document.querySelector("#text");
    text.outerHTML = await answer.text();
    htmx.process(document.querySelector("#text"));
  }
  overview();
  const cited = document.querySelector("#cited");
  if (!range && location.hash !== "#cited") return;
  if (!cited) return;
  cited.scrollIntoView({ block: "center" });
  cited.focus({ preventScroll: true });
  if (range) {
    const words = status().textContent;
    status().textContent = "";
    requestAnimationFrame(() => { status().textContent = words; }); // announced, although it came with the swap
    const link = document.querySelector("#range-link");
    link.href = location.hash;
    link.textContent = `characters ${Number(range[1]).toLocaleString("en")} to ${Number(range[2]).toLocaleString("en")}`;
    document.querySelector("#range").hidden = false;
  }
}

// The bar of the whole document follows the part that is shown, and a click on it goes there.
const all = document.querySelector("#overview");
function overview() {
  const text = document.querySelector("#text"), part = all?.querySelector(".window");
  if (!part) return;
  const percent = value => `${(100 * value / Math.max(1, Number(all.dataset.all))).toFixed(2)}%`;
  part.setAttribute("x", percent(text.dataset.start));
  part.setAttribute("width", percent(text.dataset.end - text.dataset.start));
}
all?.addEventListener("click", event => {
  const { left, width } = all.getBoundingClientRect(), asked = new URLSearchParams(location.search);
  asked.delete("c");
  asked.set("at", Math.max(0, Math.floor(Number(all.dataset.all) * (event.clientX - left) / width)));
  location.assign(`?${asked}`);
});
document.addEventListener("htmx:afterSwap", overview);
addEventListener("hashchange", show);
if (bar) show();

document.addEventListener("keydown", event => {
  const hit = { n: "#hit-next", p: "#hit-previous" }[event.key];
  if (hit && !event.target.matches("input, textarea, select") && !event.ctrlKey && !event.metaKey && !event.altKey) document.querySelector(hit)?.click();
  if (event.key !== "/" || event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  bar?.querySelector("input[type=search]").select();
});
// Enter in the field, where it stands as it was searched for, goes to the next hit.
bar?.querySelector("form").addEventListener("submit", event => {
  const field = event.target.elements.q, next = document.querySelector("#hit-next");
  if (!next || field.value.trim() !== field.defaultValue.trim()) return;
  event.preventDefault();
  next.click();
});
document.querySelector("#range-copy")?.addEventListener("click", async event => {
  const address = new URL(document.querySelector("#range-link").getAttribute("href"), location.href);
  address.search = new URLSearchParams([...new URLSearchParams(location.search)].filter(([name]) => name === "version")).toString();
  try { await navigator.clipboard.writeText(address.href); status().textContent = "The link was copied."; } catch { status().textContent = "The browser did not allow copying."; }
  event.target.blur?.();
});
