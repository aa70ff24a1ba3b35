// What may be done with the chosen call or cell: fork, retry. These controls are of who looks, so they stand outside what is
// streamed and are put below the line of the node that is chosen. On the page of a fork: Ctrl+Enter, and what is typed chooses.
{
const bar = document.querySelector("#node-actions"), tree = document.querySelector("#tree");
const OPEN = ["queued", "running", "waiting", "paused"], FAILED = ["failed", "limit", "stopped"];

if (bar && tree) {
  const link = name => bar.querySelector(`[data-does="${name}"]`);
  const show = (name, address, words) => {
    const at = link(name);
    at.hidden = !address;
    if (address) at.href = address;
    if (words) at.querySelector("span").textContent = words;
  };
  const choose = node => {
    const [, kind, call, cell] = /^(call|cell)-(\d+)(?:-(\d+))?$/.exec(node?.id ?? "") ?? [];
    if (!kind) return;
    const head = node.querySelector(`:scope > .${kind}-head`);
    const status = head.querySelector(".status")?.dataset.status ?? "";
    const asker = kind === "call" && /^cell-(\d+)-(\d+)$/.exec(node.parentElement.closest(".cell")?.id ?? "");
    const failed = Number(head.querySelector("[data-failed]")?.dataset.failed ?? 0);
    show("fork", kind === "cell" && !OPEN.includes(status) && `c/${call}/${cell}/fork`, `Fork from cell ${call}.${cell}`);
    show("instruct", kind === "call" && !OPEN.includes(status) && `c/${call}/1/fork?way=instruction`, call === "1" ? "Fork with another question" : "Fork with another instruction");
    show("retry", asker && FAILED.includes(status) && `c/${asker[1]}/${asker[2]}/retry?child=${call}`);
    show("retry-all", kind === "cell" && failed && `c/${call}/${cell}/retry`, failed === 1 ? "Retry the failed child" : `Retry ${failed} failed children`);
    bar.hidden = ![...bar.children].some(each => !each.hidden);
    if (head.nextElementSibling !== bar) head.after(bar);
  };
  new MutationObserver(changes => {
    const chosen = changes.map(each => each.target).filter(node => node.ariaSelected === "true").at(-1);
    if (chosen) choose(chosen);
  }).observe(tree, { subtree: true, attributes: true, attributeFilter: ["aria-selected"] });
  // A cell that was running when it was chosen may have ended.
  document.body.addEventListener("htmx:wsAfterMessage", () => choose(tree.querySelector("[aria-selected=true]")));
  addEventListener("keydown", event => {
    if (event.key !== "F" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
    const first = ["fork", "instruct"].map(link).find(each => !each.hidden && !bar.hidden);
    if (first) { event.preventDefault(); first.click(); }
  });
}

const form = document.querySelector("#fork");
if (form) {
  form.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
  });
  form.addEventListener("input", event => {
    const way = event.target.closest(".fork-way")?.querySelector("[name=way]");
    if (way && event.target !== way) way.checked = true;
  });
  const button = form.querySelector("[type=submit]");
  form.addEventListener("submit", event => {
    if (button.disabled) return event.preventDefault(); // sent already: one press, one run
    button.disabled = true;
  });
  addEventListener("pageshow", () => { button.disabled = false; });
  // In the form, so that its keys work: where there is nothing to write, at what is chosen.
  (form.querySelector(".fork-way:has([name=way]:checked) textarea") ?? form.querySelector("[name=way]:checked"))?.focus();
}
}
