// Chapter 2's switches: a guess, then one leak at a time, or several, and the same learner's accuracy with and without.
function leaks(root, data) {
  "use strict";
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab: Enter and the space bar are ours
  const world = leaksWorld(data), { way: N, query: Q, size: S, exams: EXAMS } = data, NONE = new Set();
  const on = new Set(), measured = new Map(); // measured: "seed/keys" -> the values of each exam
  let guess = null, seed = 0, shown = 1, running = 0;

  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [k, v] of Object.entries(attributes)) if (k === "click") node.addEventListener(k, v); else node.setAttribute(k, v);
    node.append(...children);
    return node;
  }
  const percent = (s) => `${(100 * s.mean).toFixed(1)} ± ${(100 * s.ci95).toFixed(1)} %`;
  const points = (s) => `${s.mean < 0 ? "−" : "+"}${Math.abs(100 * s.mean).toFixed(1)} ± ${(100 * s.ci95).toFixed(1)}`;
  const keyOf = (set) => `${seed}/${data.leaks.map((l) => l.key).filter((k) => set.has(k))}`;
  const valuesOf = (set) => measured.get(keyOf(set));
  const gain = (values, base) => world.score(values.map((v, t) => v - base[t])); // exam by exam: the same random numbers
  const leak = (key) => data.leaks.find((l) => l.key === key), called = (l) => `leak ${l.n} (${l.name})`;
  const which = (list) => (list.length < 3 ? list.map(called).join(" and ") : `leaks ${list.map((r) => r.n).join(", ")}`);

  // --- what stands there
  const live = el("p", { class: "mk-live", role: "status", "aria-live": "polite" });
  const rows = data.leaks.map((l) => {
    const gained = el("span", { class: "mk-gain" }), mark = el("span", { class: "mk-mine" }), knob = el("span", { class: "mk-knob", "aria-hidden": "true" });
    const name = el("span", { class: "mk-name" }, el("strong", {}, `${l.n} ${l.name}`), mark);
    return { ...l, gained, mark, node: el("button", { type: "button", class: "mk-row", "data-leak": l.key, click: () => press(l.key) }, knob, name, gained, el("small", {}, l.what)) };
  });
  const recorded = el("span", { class: "mk-gain" });
  const split = el("div", { class: "mk-row mk-recorded" }, el("span", { class: "mk-none", "aria-hidden": "true" }, "–"), el("span", { class: "mk-name" }, el("strong", {}, "2 split by image")),
    recorded, el("small", {}, `needs training: recorded, of another learner (small ProtoNet, ${data.seeds} seeds)`));
  const list = el("div", { class: "mk-list", role: "group", "aria-label": "the leaks" }, rows[0].node, split, ...rows.slice(1).map((r) => r.node));
  const bars = ["without", "with"].map((kind) => {
    const fill = el("i", { class: `mk-fill mk-${kind}` }), whisker = el("i", { class: "mk-whisker" }), value = el("span", { class: "mk-value" }), name = el("span", {});
    return { fill, whisker, value, name, node: el("div", { class: "mk-bar", "data-bar": kind }, name, value,
      el("span", { class: "mk-track", "aria-hidden": "true" }, fill, el("i", { class: "mk-chance" }), whisker)) };
  });
  const axis = el("div", { class: "mk-axis", "aria-hidden": "true" }, ...[[0, "0 %"], [100 / N, "chance"], [50, "50 %"], [100, "100 %"]].map(([at, text]) => el("span", { style: `left: ${at}%` }, text)));
  const off = el("button", { type: "button", click: () => { on.clear(); examine(); } }, "All off");
  const again = el("button", { type: "button", click: () => { seed += 1; shown = 1; examine(); } }, `${EXAMS} other exams`);
  const another = el("button", { type: "button", click: () => { shown = shown % EXAMS + 1; paper(); } }, "Another exam");
  const tally = el("p", { class: "mk-tally" }), heading = el("p", { class: "mk-head" }), support = el("div", { class: "mk-cards", role: "img" }), queries = el("div", { class: "mk-cards", role: "img" }), told = el("p", { class: "mk-told" });
  root.replaceChildren(el("style", {}, STYLE), el("p", {}, el("strong", {}, "Seven leaks, six switches")), live, ...bars.map((b) => b.node), axis, tally, list,
    el("div", { class: "mk-tools" }, off, again, another), heading, told, el("p", { class: "mk-head" }, "Support, with its labels"), support,
    el("p", { class: "mk-head" }, "Queries in their order, with the label that the learner says"), queries,
    el("p", { class: "mk-note" }, `The learner is not trained. It compares a query's pixels with the support (a cosine), adds ${data.place} for the label ` +
      `of the query's place in the list (the first ${Q} places are label 0, ...), and up to ${data.recall} for the label that the most similar of ` +
      `the ${data.characters} characters, in whichever rotation, had in ${data.practiceExams} practice exams, which have other drawings of the same ` +
      `characters. These weights are our choice: other weights, other points.`));

  // --- measuring: 600 exams in the page, a few a frame
  function press(key) {
    if (guess === null) {
      guess = key;
      rows.forEach((r) => { r.mark.textContent = r.key === key ? " (your guess)" : ""; });
    } else if (!on.delete(key)) on.add(key);
    examine();
  }
  function examine() {
    const mine = running += 1, still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const jobs = (on.size ? [NONE, new Set(on)] : [NONE]).filter((set) => !valuesOf(set))
      .map((set) => ({ key: keyOf(set), next: world.exam(seed, set), values: [] }));
    const parts = new Map(jobs.map((job) => [job.key, job.values])), names = rows.filter((r) => on.has(r.key));
    live.textContent = `${names.length ? `${which(names).replace("l", "L")} ${names.length > 1 ? "are" : "is"} on` : "All leaks are off"}: counting…`;
    paper();
    function step() {
      if (mine !== running) return; // another switch was pressed
      const job = jobs.find((j) => j.values.length < EXAMS);
      if (!job) {
        update(new Map());
        return say();
      }
      for (let i = 0; i < (still ? EXAMS : 12); i++) job.values.push(job.next().accuracy);
      if (job.values.length >= EXAMS) measured.set(job.key, job.values);
      update(parts);
      if (still) step(); else requestAnimationFrame(step);
    }
    step();
  }
  function update(parts) { // the switches and the bars
    const honest = valuesOf(NONE) || parts.get(keyOf(NONE)), leaky = valuesOf(on) || parts.get(keyOf(on));
    rows.forEach((r) => {
      if (guess !== null) {
        r.node.setAttribute("role", "switch");
        r.node.setAttribute("aria-checked", String(on.has(r.key)));
      }
      const alone = valuesOf(new Set([r.key]));
      r.gained.textContent = guess !== null && alone && valuesOf(NONE) ? points(gain(alone, valuesOf(NONE))) : "";
    });
    list.classList.toggle("mk-guessing", guess === null);
    recorded.textContent = guess === null ? "" : data.split;
    const named = rows.filter((r) => on.has(r.key)).map((r) => r.n);
    [["no leak", honest], [named.length ? `leak${named.length > 1 ? "s" : ""} ${named.join(", ")}` : "no switch is on", named.length ? leaky : null]].forEach(([name, values], i) => {
      const bar = bars[i], s = values && values.length > 1 ? world.score(values) : null;
      bar.name.textContent = name;
      bar.value.textContent = s ? percent(s) + (values.length < EXAMS ? ` (${values.length} exams)` : "") : "";
      bar.fill.style.width = s ? `${100 * s.mean}%` : "0";
      bar.whisker.style.left = s ? `${100 * Math.max(0, s.mean - s.ci95)}%` : "0";
      bar.whisker.style.width = s ? `${100 * (Math.min(1, s.mean + s.ci95) - Math.max(0, s.mean - s.ci95))}%` : "0";
      bar.whisker.hidden = bar.fill.hidden = !s;
    });
  }

  function say() {
    const honest = valuesOf(NONE), base = percent(world.score(honest));
    if (guess === null) {
      live.replaceChildren(`All leaks are off: the learner names ${base} of the queries, in ${EXAMS} exams. `, el("strong", {}, "Guess first: press the leak that adds most."));
      return;
    }
    const names = rows.filter((r) => on.has(r.key)), single = rows.map((r) => valuesOf(new Set([r.key])));
    let text = names.length ? `With ${which(names)}: ${percent(world.score(valuesOf(on)))}, ${points(gain(valuesOf(on), honest))} points against the same learner without.`
      : `All leaks are off: ${base}. Switch one on; you guessed ${called(leak(guess))}.`;
    if (single.every(Boolean)) {
      const gains = single.map((v) => gain(v, honest).mean), best = rows[gains.indexOf(Math.max(...gains))];
      text += ` Of the six alone, leak ${best.n} adds most${best.key === guess ? ", as you guessed." : `; you guessed ${leak(guess).n}.`}`;
    }
    live.textContent = text;
  }

  // --- one exam on paper, and what leaked in it
  function card(row, label, outline) {
    const canvas = el("canvas", { width: S, height: S, "aria-hidden": "true" }), context = canvas.getContext("2d"), pixels = context.createImageData(S, S);
    world.images[row].forEach((v, i) => pixels.data.set([255 - 238 * v, 255 - 238 * v, 255 - 238 * v, 255], 4 * i));
    context.putImageData(pixels, 0, 0);
    return el("span", { class: `mk-card ${outline}` }, canvas, el("span", {}, label));
  }
  function paper() {
    const next = world.exam(seed, on);
    let e;
    for (let t = 0; t < shown; t++) e = next();
    const asked = e.query.filter((row) => e.support.includes(row)).length, outlined = (yes) => (yes ? "mk-leaked" : "");
    const notes = {
      shared: asked ? `Outlined: ${asked} ${asked === 1 ? "query is" : "queries are"} the support's own drawing.` : "By chance no query of this exam is a copy: look at another.",
      labels: "Outlined support: each of these always has the label under it; the learner remembers.",
      order: `Each row of queries (underlined) is one label, 0 to ${N - 1}: the place says it.`,
      rotations: "Outlined support, 0 to 3: one character in its four rotations.",
      batch: `No drawing shows it: the learner reads all ${N * Q} queries before it answers one.`,
      balance: `No drawing shows it: the learner hands out each label about ${Q} times.` };
    const right = `${e.said.filter((n, j) => n === e.y[j]).length} of ${N * Q} right`;
    heading.textContent = `Exam ${shown} of ${EXAMS}: ${right}`;
    tally.textContent = `Exam ${shown}: ${right}`;
    told.textContent = on.size ? rows.filter((r) => on.has(r.key)).map((r) => notes[r.key]).join(" ") : "No query is in the support, labels are new, queries are shuffled.";
    support.replaceChildren(...e.support.map((row, n) => card(row, `${n}`, outlined(on.has("labels") || (on.has("rotations") && n < 4)
      || (on.has("shared") && e.query.includes(row))))));
    queries.replaceChildren(...e.query.map((row, j) => card(row, `${e.said[j]} ${e.said[j] === e.y[j] ? "✓" : "✗"}`,
      outlined(on.has("shared") && e.support.includes(row)))));
    queries.classList.toggle("mk-ordered", on.has("order"));
    support.setAttribute("aria-label", `the support: labels 0 to ${N - 1}`);
    queries.setAttribute("aria-label", `the queries: ${e.said.map((n, j) => `${n} ${n === e.y[j] ? "right" : "wrong"}`).join(", ")}`);
  }

  root.leaks = { world };
  update(new Map());
  examine();
}

const STYLE = `
.metalib-widget[data-widget=leaks] { --leak: #b94700; --page: #fff; max-width: 36rem; margin: 1rem 0; padding: 0.75rem; box-sizing: border-box;
  border: 1px solid rgba(128, 128, 128, 0.6); border-radius: 0.5rem; color: inherit; line-height: 1.4; }
html[data-theme=dark] .metalib-widget[data-widget=leaks], body[data-jp-theme-light=false] .metalib-widget[data-widget=leaks] { --leak: #ffa05a; --page: #121212; }
.metalib-widget[data-widget=leaks] p { margin: 0 0 0.5rem; }
.metalib-widget[data-widget=leaks] .mk-live { min-height: 4.2em; }
@media (max-width: 36rem) {
  .metalib-widget[data-widget=leaks] .mk-live { min-height: 7em; }
  @media (max-width: 23rem) { .metalib-widget[data-widget=leaks] .mk-live { min-height: 8.4em; } }
  .metalib-widget[data-widget=leaks] .mk-name { min-height: 2.5em; align-content: center; }
  .metalib-widget[data-widget=leaks] [data-leak=batch] .mk-name { min-height: 3.75em; } /* the longest, and a guess beside it */
}
.metalib-widget[data-widget=leaks] .mk-list { display: grid; gap: 0.3rem; margin-bottom: 0.8rem; }
.metalib-widget[data-widget=leaks] button { font: inherit; color: inherit; background: transparent; cursor: pointer; min-height: 2.75rem; padding: 0.25rem 0.7rem;
  border: 1px solid rgba(128, 128, 128, 0.9); border-radius: 0.4rem; }
.metalib-widget[data-widget=leaks] button:focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.metalib-widget[data-widget=leaks] .mk-row { display: grid; grid-template-columns: auto 1fr auto; align-items: center; gap: 0 0.6rem; text-align: left; padding: 0.25rem 0.5rem; box-sizing: border-box; width: 100%; }
.metalib-widget[data-widget=leaks] .mk-recorded { border: 1px dashed rgba(128, 128, 128, 0.9); border-radius: 0.4rem; }
.metalib-widget[data-widget=leaks] .mk-name { min-width: 0; overflow-wrap: anywhere; line-height: 1.25; }
.metalib-widget[data-widget=leaks] small { grid-column: 2 / -1; font-size: 0.8em; line-height: 1.3; }
.metalib-widget[data-widget=leaks] .mk-gain { text-align: right; white-space: nowrap; line-height: 1.25; font-variant-numeric: tabular-nums; }
.metalib-widget[data-widget=leaks] .mk-knob { grid-row: 1 / 3; width: 2.4rem; height: 1.35rem; border: 2px solid currentColor; border-radius: 1rem; box-sizing: border-box; position: relative; }
.metalib-widget[data-widget=leaks] .mk-knob::after { content: ""; position: absolute; inset: 0.15rem auto 0.15rem 0.18rem; width: 0.78rem; border-radius: 50%; border: 2px solid currentColor; box-sizing: border-box; }
.metalib-widget[data-widget=leaks] [aria-checked=true] .mk-knob { background: var(--leak); border-color: var(--leak); }
.metalib-widget[data-widget=leaks] [aria-checked=true] .mk-knob::after { left: auto; right: 0.18rem; background: var(--page); border-color: var(--page); }
.metalib-widget[data-widget=leaks] [aria-checked=true] { border: 2px solid var(--leak); padding: calc(0.25rem - 1px) calc(0.5rem - 1px); }
.metalib-widget[data-widget=leaks] .mk-guessing .mk-knob { visibility: hidden; }
.metalib-widget[data-widget=leaks] .mk-none { grid-row: 1 / 3; width: 2.4rem; text-align: center; }
.metalib-widget[data-widget=leaks] .mk-bar { display: grid; grid-template-columns: 1fr auto; column-gap: 0.6rem; margin-bottom: 0.3rem; }
.metalib-widget[data-widget=leaks] .mk-value { font-variant-numeric: tabular-nums; font-weight: 600; min-height: 1.4em; }
.metalib-widget[data-widget=leaks] .mk-track { grid-column: 1 / -1; position: relative; height: 1.2rem; border-bottom: 1px solid rgba(128, 128, 128, 0.9); }
.metalib-widget[data-widget=leaks] .mk-fill { position: absolute; inset: 0 auto 0 0; border: 2px solid currentColor; box-sizing: border-box; }
.metalib-widget[data-widget=leaks] .mk-with { background: var(--leak); border-color: var(--leak); }
.metalib-widget[data-widget=leaks] .mk-chance { position: absolute; inset: 0 auto 0 20%; border-left: 2px dotted currentColor; }
.metalib-widget[data-widget=leaks] .mk-whisker { position: absolute; top: 0.2rem; height: 0.7rem; border: solid currentColor; border-width: 0 2px; box-sizing: border-box;
  background: linear-gradient(currentColor, currentColor) center / 100% 2px no-repeat; }
.metalib-widget[data-widget=leaks] [hidden] { display: none; }
.metalib-widget[data-widget=leaks] .mk-axis { position: relative; height: 1.4em; font-size: 0.8em; margin-bottom: 0.6rem; }
.metalib-widget[data-widget=leaks] .mk-axis span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.metalib-widget[data-widget=leaks] .mk-axis span:first-child { transform: none; }
.metalib-widget[data-widget=leaks] .mk-axis span:last-child { transform: translateX(-100%); }
.metalib-widget[data-widget=leaks] .mk-tools { display: flex; flex-wrap: wrap; gap: 0.4rem; margin-bottom: 0.8rem; font-size: 0.9em; }
.metalib-widget[data-widget=leaks] .mk-head { font-weight: 600; margin: 0.3rem 0 0.2rem; }
.metalib-widget[data-widget=leaks] .mk-told { min-height: 2.8em; }
.metalib-widget[data-widget=leaks] .mk-note { font-size: 0.85em; margin: 0.6rem 0 0; }
.metalib-widget[data-widget=leaks] .mk-cards { display: grid; grid-template-columns: repeat(5, minmax(0, 4rem)); gap: 0.35rem; margin-bottom: 0.5rem; }
.metalib-widget[data-widget=leaks] .mk-card { display: block; text-align: center; border: 2px solid transparent; border-radius: 0.3rem; min-width: 0; }
.metalib-widget[data-widget=leaks] .mk-card span { display: block; font-size: 0.8em; line-height: 1.5; white-space: nowrap; }
.metalib-widget[data-widget=leaks] canvas { display: block; width: 100%; height: auto; background: #fff; border-radius: 0.2rem; image-rendering: pixelated; }
.metalib-widget[data-widget=leaks] .mk-leaked { border: 2px dashed var(--leak); outline: 2px solid var(--leak); outline-offset: 0; }
.metalib-widget[data-widget=leaks] .mk-ordered .mk-card { border-bottom-color: var(--leak); }
`;
