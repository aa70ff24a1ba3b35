// Small things of several pages: sizes, copy buttons, and the ask page's draft, which is over once its run is there.
const units = bytes => { // as the server writes sizes
  if (bytes < 1000) return `${Math.round(bytes)} bytes`;
  for (const unit of ["kB", "MB", "GB"]) {
    bytes /= 1000;
    if (bytes < 1000 || unit === "GB") return `${bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${unit}`;
  }
};

document.addEventListener("click", async event => {
  const button = event.target.closest("[data-copy-from]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copyFrom), label = button.querySelector("[data-label]") ?? button;
  const before = label.textContent;
  source.select?.();
  try {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    label.textContent = "Copied";
  } catch {
    label.textContent = "Press Ctrl C"; // no permission, or no HTTPS: what to copy is selected
  }
  setTimeout(() => { label.textContent = before; }, 2000);
});

const [, workspace] = location.pathname.match(/^\/w\/([^/]+)\/r\//) ?? [];
if (workspace) {
  const draft = `draft:${workspace}`;
  if (JSON.parse(sessionStorage.getItem(draft) ?? "null")?.sent) sessionStorage.removeItem(draft);
}
