// Fifty tests at a press, their 95 % intervals against the true mean, and a count of those that miss it.
// The arithmetic (intervalsMath) is compared with metalib's in tests/test_widget_intervals.py.

function intervalsMath({ truth, queries, seed, t }) {
  let state = seed ?? Math.floor(Math.random() * 2 ** 32); // without a seed every visit has tests of its own
  function random() { // mulberry32: uniform in [0, 1), the same numbers for the same seed
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), 1 | state);
    z = (z + Math.imul(z ^ (z >>> 7), 61 | z)) ^ z;
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  }

  // A task's right answers k of `queries`: P(k + 1) / P(k) = (k + a) / (k + 1), see population() in intervals.py.
  const a = truth / (1 - truth), population = [1];
  for (let k = 0; k < queries; k++) population.push((population[k] * (k + a)) / (k + 1));
  const all = population.reduce((sum, p) => sum + p);
  population.forEach((p, k) => { population[k] = p / all; });
  function task() { // its accuracy
    let u = random(), k = queries; // the largest k are the likeliest
    while (k > 0 && u >= population[k]) u -= population[k--];
    return k / queries;
  }
  const test = (n) => summary(Array.from({ length: n }, task));

  function summary(values) { // what an interval needs: the number of tasks, their mean, their standard deviation
    const n = values.length, mean = values.reduce((sum, v) => sum + v, 0) / n;
    const squares = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
    return { n, mean, s: Math.sqrt(squares / (n - 1)) };
  }
  function half({ n, mean, s }, kind) { // half the width of the interval
    if (kind === "queries") return 1.96 * Math.sqrt((mean * (1 - mean)) / (queries * n));
    return ((kind === "student" && n < 30 ? t[n - 2] : 1.96) * s) / Math.sqrt(n);
  }
  const side = (test, kind) => { // -1: the interval lies below the truth, 1: above it, 0: it contains the truth
    const off = test.mean - truth;
    return Math.abs(off) > half(test, kind) ? Math.sign(off) : 0;
  };
  return { population, test, summary, half, side };
}

function intervals(root, data) {
  const math = intervalsMath(data), drawn = new Map(); // tasks a test -> all its tests so far
  const KINDS = [["normal", "mean ± 1.96 s / √n"], ["student", "as metalib: Student’s t below 30 tasks"],
    ["queries", "as if every query were a draw of its own"]];
  let tasks = data.tasks, kind = "normal", guess = "", fresh = false;

  const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  function fill(node, attributes, children) {
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    node.append(...children);
    return node;
  }
  const f = (v) => v.toFixed(1), percent = (v) => (100 * v).toFixed(1);

  const style = el("style");
  style.textContent = `
    .metalib-intervals { --hit: #0063a6; --miss: #b94700; max-width: 760px; line-height: 1.4; }
    html[data-theme="dark"] .metalib-intervals, body[data-jp-theme-light="false"] .metalib-intervals { --hit: #5cbcf5; --miss: #ffa05a; color-scheme: dark; }
    .metalib-intervals .both { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; }
    .metalib-intervals .run { flex: 0 1 370px; min-width: 0; }
    .metalib-intervals .side { flex: 1 1 17rem; font-size: .9em; }
    .metalib-intervals svg { display: block; }
    .metalib-intervals svg text { fill: currentColor; font-size: 12px; }
    .metalib-intervals p { margin: .3rem 0; }
    .metalib-intervals .guess { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: center; margin: .3rem 0; }
    .metalib-intervals .status { min-height: 4.2em; }
    .metalib-intervals .keys { display: flex; flex-wrap: wrap; gap: 0 1.2rem; font-size: .9em; }
    .metalib-intervals .keys svg { display: inline-block; vertical-align: -2px; margin-right: 5px; }
    .metalib-intervals fieldset { border: 0; margin: .6rem 0; padding: 0; min-width: 0; }
    .metalib-intervals legend { font-size: 1em; float: none; width: auto; margin: 0; padding: 0; }
    .metalib-intervals fieldset label { display: flex; gap: .5rem; align-items: center; min-height: 2rem; cursor: pointer; }
    .metalib-intervals .tasks { display: grid; grid-template-columns: auto 1fr 2.5em; gap: .5rem; align-items: center; }
    .metalib-intervals input { accent-color: var(--hit); margin: 0; }
    .metalib-intervals input[type=radio] { width: 1.5rem; height: 1.5rem; flex: none; }
    .metalib-intervals input[type=range] { width: 100%; min-width: 4rem; min-height: 2rem; }
    .metalib-intervals input[type=number] { width: 4rem; font: inherit; color: inherit; background: transparent; min-height: 2.2rem;
      box-sizing: border-box; border: 1px solid currentColor; border-radius: 4px; padding: .1rem .4rem; }
    .metalib-intervals button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor;
      border-radius: 4px; padding: .3rem .8rem; min-height: 2.2rem; cursor: pointer; }
    .metalib-intervals button.main { border-width: 2px; font-weight: bold; min-height: 2.75rem; }
    .metalib-intervals :is(button, input):focus-visible { outline: 3px solid var(--hit); outline-offset: 2px; }
    .metalib-intervals table { border-collapse: collapse; width: 100%; margin: .3rem 0; font-size: 1em; color: inherit; background: none; border: 0; }
    .metalib-intervals caption { caption-side: top; text-align: left; color: inherit; font-size: 1em; padding: 0; font-style: normal; }
    .metalib-intervals :is(th, td) { padding: .15rem .4rem .15rem 0; text-align: right; font-weight: normal; border: 0; color: inherit; background: none; }
    .metalib-intervals td { font-variant-numeric: tabular-nums; white-space: nowrap; }
    .metalib-intervals :is(th, td):first-child { text-align: left; }
    .metalib-intervals thead th { border-bottom: 1px solid currentColor; vertical-align: bottom; }
    @media (prefers-reduced-motion: no-preference) {
      .metalib-intervals .falling > g { animation: metalib-fall .2s backwards; }
      @keyframes metalib-fall { from { opacity: 0; transform: translateY(-12px); } }
    }`;

  // --- The controls --------------------------------------------------------------------------------------------------

  const question = el("p", {}), status = el("p", { class: "status", role: "status" }), plot = el("div"), count = el("div");
  const answer = el("input", { type: "number", min: 0, max: data.tests, inputmode: "numeric", "aria-label": `your guess, 0 to ${data.tests}` });
  answer.addEventListener("input", () => { guess = answer.value; });
  answer.addEventListener("keydown", (e) => { if (e.key === "Enter" && !e.isComposing) press(); });
  const button = (label, act, kind = "") => {
    const node = el("button", { type: "button", class: kind }, label);
    node.addEventListener("click", act);
    return node;
  };
  function press() {
    if (!answer.checkValidity()) return answer.reportValidity();
    const tests = Array.from({ length: data.tests }, () => math.test(tasks));
    drawn.set(tasks, [...(drawn.get(tasks) || []), ...tests]);
    fresh = true;
    update();
  }
  const NS = data.axes.map(([n]) => n);
  const slider = el("input", { type: "range", min: 0, max: NS.length - 1, step: 1, value: NS.indexOf(tasks), "aria-label": "tasks a test" });
  const shown = el("span", { "aria-hidden": "true" });
  const read = () => { // the number follows the finger; the picture waits for its end
    shown.textContent = NS[slider.value];
    slider.setAttribute("aria-valuetext", `${shown.textContent} tasks`);
  };
  slide(slider, read, () => { tasks = NS[slider.value]; change(); });
  const name = `kind-${Math.random().toString(36).slice(2)}`; // two figures on a page have radio buttons of their own
  const radios = KINDS.map(([key, label]) => {
    const input = el("input", key === kind ? { type: "radio", name, value: key, checked: "" } : { type: "radio", name, value: key });
    input.addEventListener("change", () => { kind = key; change(); });
    return el("label", {}, input, label);
  });
  function change() { // another setting is another question
    guess = answer.value = "";
    fresh = false;
    update();
  }
  const again = button("forget all tests", () => { drawn.clear(); change(); });

  const cross = (x, y, r) => svg("path", { d: `M${f(x - r)} ${f(y - r)}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`, "stroke-width": 2 });
  function interval(x0, x1, x, y, missed) { // never told apart by colour alone: a thin line and a dot, or a thick one and a cross
    const colour = `var(--${missed ? "miss" : "hit"})`;
    return svg("g", { stroke: colour, fill: colour, class: missed ? "missed" : "kept" },
      svg("path", { d: `M${f(x0)} ${f(y)}H${f(x1)}`, "stroke-width": missed ? 2.6 : 1.3 }), missed ? cross(x, y, 3.5) : svg("circle", { cx: f(x), cy: f(y), r: 1.7 }));
  }
  const key = (missed) => svg("svg", { width: 34, height: 12, "aria-hidden": "true" }, interval(1, 33, 17, 6, missed));
  const keys = el("div", { class: "keys" }, el("span", {}, key(false), "contains the truth"), el("span", {}, key(true), "misses it"));
  const box = el("div", { class: "metalib-intervals" }, style, question, el("div", { class: "both" },
    el("div", { class: "run" }, el("div", { class: "guess" }, el("label", {}, "your guess ", answer), button(`draw ${data.tests} tests`, press, "main")), plot, keys, status),
    el("div", { class: "side" }, el("label", { class: "tasks" }, "tasks a test", slider, shown),
      el("fieldset", {}, el("legend", {}, "the 95 % interval"), ...radios), count)));
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // or JupyterLab takes the keys
  root.replaceChildren(box);

  // --- The picture ---------------------------------------------------------------------------------------------------

  const PITCH = 5.6, T = 22, B = 36, width = () => Math.max(260, Math.min(370, box.clientWidth || 350));
  function draw(last) {
    const W = width(), rows = PITCH * data.tests, [, range, step] = data.axes[NS.indexOf(tasks)], truth = 100 * data.truth;
    const x = (v) => ((v - truth + range) / (2 * range)) * W, y = (i) => T + (i + 0.5) * PITCH;
    const ticks = [];
    for (let v = Math.ceil((truth - range) / step) * step; v <= truth + range; v += step) if (x(v) > 12 && x(v) < W - 12) ticks.push(v);
    const bars = last.map((test, i) => {
      const mean = 100 * test.mean, half = 100 * math.half(test, kind);
      const bar = interval(Math.max(-5, x(mean - half)), Math.min(W + 5, x(mean + half)), x(mean), y(i), math.side(test, kind) !== 0);
      bar.style.animationDelay = `${12 * i}ms`;
      return bar;
    });
    plot.replaceChildren(svg("svg", { width: W, height: T + rows + B, role: "img", "aria-label": last.length
      ? `${data.tests} intervals, one below the other, against a line at the true mean` : "an empty axis with a line at the true mean" },
    svg("path", { d: `M0 ${T + rows}H${W}`, stroke: "currentColor", opacity: 0.5 }),
    ...ticks.map((v) => svg("text", { x: f(x(v)), y: T + rows + 15, "text-anchor": "middle" }, String(v))),
    svg("text", { x: W / 2, y: T + rows + 31, "text-anchor": "middle" }, "accuracy (%)"),
    svg("text", { x: W / 2, y: 13, "text-anchor": "middle" }, `the truth: ${truth} %`),
    svg("path", { d: `M${W / 2} ${T - 4}V${T + rows}`, stroke: "currentColor", "stroke-width": 1.5 }),
    svg("g", { class: fresh ? "falling" : "" }, ...bars)));
  }

  function update() {
    const tests = drawn.get(tasks) || [], last = tests.slice(-data.tests), sides = last.map((t) => math.side(t, kind));
    const high = sides.filter((s) => s > 0).length, low = sides.filter((s) => s < 0).length, missed = high + low;
    const mean = last.reduce((sum, t) => sum + math.half(t, kind), 0) / (last.length || 1);
    question.textContent = `In this world the truth is known, ${percent(data.truth).replace(".0", "")} %. A test takes ${tasks} tasks from it, ${data.queries} queries each, and prints a 95 % interval. ` +
      `Of the next ${data.tests} intervals, how many will miss the truth?`;
    status.textContent = last.length ? `${missed} of these ${data.tests} miss it${missed ? ` (${high} too high, ${low} too low)` : ""}.` +
      `${guess === "" ? "" : ` You guessed ${guess}.`} On average an interval is ± ${percent(mean)} points.` : "Nothing drawn yet.";
    slider.value = NS.indexOf(tasks);
    read();
    const rows = NS.filter((n) => drawn.has(n)).map((n) => {
      const all = drawn.get(n), N = all.length, out = all.filter((t) => math.side(t, kind)).length;
      const cells = [`${out} of ${N}`, `${percent(out / N)} %`, `5 ± ${percent(1.96 * Math.sqrt((0.05 * 0.95) / N))} %`];
      return el("tr", { "data-tasks": n }, el("th", { scope: "row" }, String(n)), ...cells.map((c) => el("td", {}, c)));
    });
    const heads = ["tasks a test", "missed", "that is", "promised, ± luck"].map((h) => el("th", { scope: "col" }, h));
    count.replaceChildren(...(rows.length ? [el("table", {}, el("caption", {}, "All presses, with this interval:"),
      el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows)), again] : []));
    draw(last);
  }

  update();
  let before = width();
  new ResizeObserver(() => { if (width() !== before) { before = width(); fresh = false; update(); } }).observe(box);
}
