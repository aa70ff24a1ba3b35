// The ask page: Ctrl+Enter, what the chosen endpoint brings with it, and a draft that outlives a mistake.
// Without it the form works all the same.
const form = document.querySelector("#ask"), question = form?.elements.question;

if (form && !form.querySelector("fieldset").disabled) { // a viewer sees the form and cannot ask
  const draft = `draft:${form.dataset.draft}`, button = form.querySelector("[type=submit]");
  const text = id => document.getElementById(id);

  const saved = JSON.parse(sessionStorage.getItem(draft) ?? "null");
  if (saved && !question.value.trim() && !("kept" in form.dataset)) question.value = saved.question;
  const keep = sent => question.value.trim()
    ? sessionStorage.setItem(draft, JSON.stringify({ question: question.value, sent }))
    : sessionStorage.removeItem(draft);

  question.addEventListener("input", () => { keep(false); length(); });
  question.addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
  });
  form.addEventListener("submit", event => {
    if (button.disabled) return event.preventDefault(); // sent already: one question, one run
    keep(true);
    button.disabled = true;
  });
  addEventListener("pageshow", () => { button.disabled = false; });

  const most = Number(question.dataset.most);
  function length() {
    const count = question.value.trim().length, where = text("question-error");
    if (count < most * 0.9) { if (where.dataset.counted) where.textContent = ""; return; }
    where.dataset.counted = "true";
    where.textContent = count > most
      ? `${count.toLocaleString("en")} characters; at most ${most.toLocaleString("en")} are taken. Put long texts into a corpus and ask about them.`
      : `${count.toLocaleString("en")} of ${most.toLocaleString("en")} characters`;
  }

  const { endpoint, strategy, root_model: root, child_model: child } = form.elements;
  function models() {
    const { root: ownRoot = "", child: ownChild = "", offline } = endpoint.selectedOptions[0].dataset;
    root.placeholder = ownRoot;
    child.placeholder = ownChild;
    root.disabled = child.disabled = Boolean(offline);
    for (const option of strategy.options) option.disabled = Boolean(offline) && option.value !== "rlm";
    if (offline) strategy.value = "rlm";
    text("models-short").textContent = offline
      ? "none, this is a program"
      : `${root.value.trim() || ownRoot}, children ${child.value.trim() || ownChild}`;
  }
  for (const field of [endpoint, root, child]) field.addEventListener("input", models);
  models();

  // Documents are chosen of one corpus: another one is asked about as a whole.
  const { corpus } = form.elements, part = text("part"), choose = text("choose"), several = corpus.dataset.several?.split(" ") ?? [];
  corpus.addEventListener("input", () => {
    const chosen = part.querySelector("[data-part]");
    if (chosen) {
      chosen.hidden = chosen.dataset.part !== corpus.value;
      chosen.querySelector("input").disabled = chosen.hidden;
    }
    if (choose) {
      choose.hidden = !several.includes(corpus.value);
      choose.textContent = chosen && !chosen.hidden ? "Choose others" : "Ask about some of its documents only";
      choose.href = choose.dataset.pattern.replace("KEY", corpus.value);
    }
  });

  function limits() {
    const value = name => form.elements[`limit_${name}`].value.trim();
    const seconds = Number(value("run_seconds").replaceAll(",", ""));
    text("limits-short").textContent = [
      value("cost") ? `$${value("cost").replace("$", "")}` : "no limit of money",
      Number.isInteger(seconds) ? `${+(seconds / 60).toFixed(1)} minutes` : `${value("run_seconds")} seconds`,
      `depth ${value("depth")}`, `${value("calls")} calls`,
    ].join(", ");
  }
  text("ask-limits").addEventListener("input", limits);
  document.querySelectorAll(".samples form").forEach(each => each.addEventListener("submit", event => {
    const pressed = each.querySelector("button");
    if (pressed.disabled) event.preventDefault();
    pressed.disabled = true;
    addEventListener("pageshow", () => { pressed.disabled = false; });
  }));
}
