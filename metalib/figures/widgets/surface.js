// The meta-loss over two parameters, three arrows at one point, and a race downhill, computed in the page.
// The arithmetic (surfaceMath) is compared with metalib's in tests/test_widget_surface.py.

// MAML with the model f(x) = a sin(x + b): theta and phi are pairs [a, b], a task is { x, y } with the targets of its wave.
function surfaceMath({ alpha, waves, support, query }) {
  const task = (xs, t) => ({ x: xs, y: xs.map((x) => waves[t][0] * Math.sin(x + waves[t][1])) });
  const supports = support.map(task), queries = query.map(task), T = waves.length;
  const mean = (f) => supports.reduce((sum, _, t) => sum + f(t) / T, 0);

  function loss([a, b], { x, y }) { // (1/n) sum_i (f(x_i) - y_i)^2
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += (a * Math.sin(x[i] + b) - y[i]) ** 2;
    return sum / x.length;
  }
  function gradient([a, b], { x, y }) {
    let da = 0, db = 0;
    for (let i = 0; i < x.length; i++) {
      const s = Math.sin(x[i] + b), c = Math.cos(x[i] + b), r = a * s - y[i];
      da += r * s;
      db += r * a * c;
    }
    return [2 * da / x.length, 2 * db / x.length];
  }
  function hessianTimes([a, b], { x, y }, [va, vb]) { // H v, with the three second derivatives written out
    let aa = 0, ab = 0, bb = 0;
    for (let i = 0; i < x.length; i++) {
      const s = Math.sin(x[i] + b), c = Math.cos(x[i] + b), r = a * s - y[i];
      aa += s * s;
      ab += a * c * s + r * c;
      bb += a * a * c * c - r * a * s;
    }
    return [2 * (aa * va + ab * vb) / x.length, 2 * (ab * va + bb * vb) / x.length];
  }
  const minus = (p, rate, g) => [p[0] - rate * g[0], p[1] - rate * g[1]];

  function path(theta, t, J) { // phi_0, ..., phi_J of task t
    const phis = [theta];
    for (let j = 0; j < J; j++) phis.push(minus(phis[j], alpha, gradient(phis[j], supports[t])));
    return phis;
  }
  const metaLoss = (theta, J) => mean((t) => loss(path(theta, t, J)[J], queries[t]));
  function metaGradient(theta, J, order) { // v <- v - alpha H_j v over the inner steps, the last one first
    const each = supports.map((task, t) => {
      const phis = path(theta, t, J);
      let v = gradient(phis[J], queries[t]);
      if (order === 2) for (let j = J - 1; j >= 0; j--) v = minus(v, alpha, hessianTimes(phis[j], task, v));
      return v;
    });
    return [mean((t) => each[t][0]), mean((t) => each[t][1])];
  }
  function differences([a, b], J, h = 1e-5) {
    return [[h, 0], [0, h]].map(([da, db]) => (metaLoss([a + da, b + db], J) - metaLoss([a - da, b - db], J)) / (2 * h));
  }
  return { path, metaLoss, metaGradient, differences, minus };
}

function surface(root, data) {
  const math = surfaceMath(data), [[A0, A1], [B0, B1]] = data.side, N = 81; // N x N points carry the contours
  let steps = data.steps, start = data.start, race = null, timer = 0;

  const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  function fill(node, attributes, children) {
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    node.append(...children);
    return node;
  }
  const text = (x, digits = 2) => (Number.isFinite(x) ? x.toFixed(digits).replace("-", "−") : "∞");
  const clamp = (v, low, high) => Math.max(low, Math.min(high, v));
  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  const style = el("style");
  style.textContent = `
    .metalib-surface { --exact: #0063a6; --first: #b94700; --difference: #111; --page: #fff; max-width: 760px; line-height: 1.4; }
    html[data-theme="dark"] .metalib-surface, body[data-jp-theme-light="false"] .metalib-surface
      { --exact: #5cbcf5; --first: #ffa05a; --difference: #fff; --page: #121212; }
    .metalib-surface .both { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; align-items: flex-start; }
    .metalib-surface .plot { position: relative; cursor: crosshair; user-select: none; -webkit-user-select: none; }
    .metalib-surface .plot > svg { position: relative; display: block; }
    .metalib-surface .land { position: absolute; overflow: hidden; }
    .metalib-surface .land canvas { position: absolute; }
    .metalib-surface .handle { position: absolute; width: 44px; height: 44px; margin: -22px 0 0 -22px; border-radius: 50%; cursor: grab; touch-action: none; }
    .metalib-surface .handle::after { content: ""; position: absolute; inset: 13px; border-radius: 50%; background: currentColor;
      border: 2px solid var(--page); box-shadow: 0 0 0 2px currentColor; }
    .metalib-surface .handle:focus-visible { outline: 3px solid var(--exact); outline-offset: -6px; }
    .metalib-surface svg text { fill: currentColor; font-size: 12px; }
    .metalib-surface .halo { paint-order: stroke; stroke: var(--page); stroke-width: 3px; stroke-linejoin: round; }
    .metalib-surface ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1rem; margin: 0 0 .6rem; padding: 0; }
    .metalib-surface ul.legend li { margin: 0; padding: 0; }
    .metalib-surface .key { display: inline-block; width: 30px; height: 14px; vertical-align: -2px; margin-right: 5px; }
    .metalib-surface .run { flex: 0 1 412px; min-width: 0; max-width: 100%; font-size: .9em; }
    .metalib-surface .side { flex: 1 1 18rem; font-size: .9em; }
    .metalib-surface :is(.status, .loss) { min-height: 2.8em; }
    .metalib-surface label { display: grid; grid-template-columns: 9.4em 1fr 3em; gap: .4rem; align-items: center; margin: .25rem 0; }
    .metalib-surface input[type=range] { width: 100%; min-width: 4rem; min-height: 1.8rem; accent-color: var(--exact); }
    .metalib-surface .value { text-align: right; font-variant-numeric: tabular-nums; }
    .metalib-surface .buttons { display: flex; flex-wrap: wrap; gap: .4rem; margin: .4rem 0; }
    .metalib-surface button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor;
      border-radius: 4px; padding: .3rem .7rem; min-height: 2.2rem; cursor: pointer; }
    .metalib-surface button.main { border-width: 2px; font-weight: bold; }
    .metalib-surface button:focus-visible, .metalib-surface input:focus-visible { outline: 3px solid var(--exact); outline-offset: 2px; }
    .metalib-surface table { border-collapse: collapse; width: 100%; margin: .3rem 0; font-size: 1em; color: inherit; background: none; border: 0; }
    .metalib-surface th, .metalib-surface td { padding: .15rem .3rem .15rem 0; text-align: right; font-weight: normal; border: 0; color: inherit; background: none; }
    .metalib-surface th:first-child { text-align: left; white-space: nowrap; }
    .metalib-surface thead th { border-bottom: 1px solid currentColor; }
    .metalib-surface td { font-variant-numeric: tabular-nums; white-space: nowrap; }
    .metalib-surface p { margin: .3rem 0; }`;

  // What is drawn, in the plot, in the legend and in the tables: never told apart by colour alone.
  const ARROWS = [{ key: "exact", name: "exact", colour: "--exact", width: 6, dash: "" },
    { key: "first", name: "first-order", colour: "--first", width: 3, dash: "" },
    { key: "differences", name: "finite diff.", colour: "--difference", width: 1.6, dash: "5 4" }];
  const RACERS = [{ key: "exact", name: "exact", colour: "--exact", order: 2, dash: "none", round: true },
    { key: "first", name: "first-order", colour: "--first", order: 1, dash: "5 3", round: false }];
  const f = (v) => v.toFixed(1);

  function arrow(x, y, dx, dy, { colour, width, dash }) {
    const n = Math.hypot(dx, dy) || 1, h = Math.min(n, 5 + 2 * width), ux = dx / n, uy = dy / n, tx = x + dx, ty = y + dy;
    const bx = tx - h * ux, by = ty - h * uy, w = 2.5 + 1.1 * width;
    return svg("g", { stroke: `var(${colour})`, fill: dash ? "none" : `var(${colour})` },
      svg("path", { d: `M${f(x)} ${f(y)}L${f(bx)} ${f(by)}`, "stroke-width": width, "stroke-dasharray": dash || "none" }),
      svg("path", { d: `M${f(bx - w * uy)} ${f(by + w * ux)}L${f(tx)} ${f(ty)}L${f(bx + w * uy)} ${f(by - w * ux)}${dash ? "" : "Z"}`, "stroke-width": dash ? width : 1 }));
  }
  const mark = (x, y, { round, colour }, r = 3) => (round ? svg("circle", { cx: f(x), cy: f(y), r }) : svg("rect", { x: f(x - r), y: f(y - r), width: 2 * r, height: 2 * r }));
  function trail(points, racer) { // a line with a mark at every step
    return svg("g", { fill: `var(${racer.colour})`, stroke: `var(${racer.colour})` },
      svg("path", { d: "M" + points.map(([x, y]) => `${f(x)} ${f(y)}`).join("L"), fill: "none", "stroke-width": 2, "stroke-dasharray": racer.dash }),
      ...points.slice(1).map(([x, y]) => mark(x, y, racer, 2)));
  }
  const number = (x, y, t) => svg("g", { class: "number" }, svg("circle", { cx: f(x), cy: f(y), r: 8, fill: "var(--page)", stroke: "currentColor", "stroke-width": 1.2 }),
    svg("text", { x: f(x), y: f(y + 4), "text-anchor": "middle" }, String(t + 1)));
  const cross = (x, y) => svg("path", { d: `M${f(x - 5)} ${f(y - 5)}l10 10m0-10l-10 10`, stroke: "currentColor", "stroke-width": 2.2, fill: "none" });
  const key = (...drawn) => svg("svg", { class: "key", viewBox: "0 0 30 14", "aria-hidden": "true" }, ...drawn);
  const arrowKey = (a) => key(arrow(1, 7, 28, 0, { ...a, width: Math.min(a.width, 4), dash: a.dash && "4 3" }));
  const raceKey = (r) => key(trail([[1, 7], [9, 7], [19, 7], [28, 7]], r));

  // --- The controls --------------------------------------------------------------------------------------------------

  const range = (label, [min, max, step], change) => {
    const input = el("input", { type: "range", min, max, step, "aria-label": label }), shown = el("span", { class: "value", "aria-hidden": "true" });
    slide(input, () => { change(Number(input.value)); reset(); });
    return { input, shown, row: el("label", {}, label, input, shown) };
  };
  const J = range("inner steps J", [0, data.most, 1], (v) => { steps = v; });
  const a = range("start: amplitude a", [A0, A1, 0.05], (v) => { start = [v, start[1]]; });
  const b = range("start: phase b", [B0, B1, 0.05], (v) => { start = [start[0], v]; });

  const size = (g) => Math.hypot(...g);
  const angle = (g, h) => (Math.acos(clamp((g[0] * h[0] + g[1] * h[1]) / (size(g) * size(h)), -1, 1)) * 180) / Math.PI;
  const button = (label, act, kind = "") => {
    const node = el("button", { type: "button", class: kind }, label);
    node.addEventListener("click", act);
    return node;
  };
  const worst = button("go where they differ most", () => { // of a grid, where both arrows have a length worth the name
    let most = -1;
    for (let i = 2; i <= 38; i++) for (let k = 2; k <= 38; k++) {
      const theta = [A0 + (i * (A1 - A0)) / 40, B0 + (k * (B1 - B0)) / 40];
      const [g, h] = [2, 1].map((order) => math.metaGradient(theta, steps, order));
      const turn = size(g) > 0.3 && size(h) > 0.3 ? angle(g, h) : 0;
      if (turn > most) [most, start] = [turn, theta];
    }
    reset();
  });
  const descend = button("descend", () => (timer ? pause() : run()), "main");
  const once = button("one step", () => { pause(); if (!race || done()) begin(); advance(); tell(); });
  const back = button("back to the start", () => reset());

  const table = (heads, rows) => el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((t) => el("th", { scope: "col" }, t)))), el("tbody", {}, ...rows.map((r) => r.row)));
  const row = (attribute, item, drawn, n) => {
    const cells = Array.from({ length: n }, () => el("td"));
    return { ...item, cells, row: el("tr", { [attribute]: item.key }, el("th", { scope: "row" }, drawn, item.name), ...cells) };
  };
  const arrowRows = ARROWS.map((item) => row("data-arrow", item, arrowKey(item), 4));
  const raceRows = RACERS.map((item) => row("data-racer", item, raceKey(item), 3));
  const loss = el("p", { class: "loss" }), status = el("p", { class: "status", role: "status" });
  const plot = el("div", { class: "plot" }), chart = el("div", { class: "chart" });
  const legend = el("ul", { class: "legend" }, ...[
    [key(svg("circle", { cx: 15, cy: 7, r: 5, fill: "currentColor" })), "start θ: drag it"],
    [key(cross(15, 7)), "a task's true wave"],
    [key(svg("path", { d: "M1 7H16", stroke: "currentColor" }), number(21, 7, 0)), "inner steps of task 1, from θ to φ"],
    ...ARROWS.map((item) => [arrowKey(item), item.name + " arrow"]),
    ...RACERS.map((item) => [raceKey(item), item.name + " descent"]),
    [key(svg("rect", { x: 2, y: 1, width: 26, height: 12, fill: "rgb(128,128,128)", "fill-opacity": 0.55 })), "low meta-loss (numbers: its value)"],
  ].map(([drawn, name]) => el("li", {}, drawn, name)));
  const box = el("div", { class: "metalib-surface" }, style, el("div", { class: "both" },
    el("div", { class: "run" }, plot, el("div", { class: "buttons" }, descend, once, back),
      table(["race", "steps", "meta-loss", "lowest"], raceRows), chart, status), // on a phone all of it beside the picture
    el("div", { class: "side" }, legend, J.row, a.row, b.row, el("div", { class: "buttons" }, worst),
      table(["gradient", "∂a", "∂b", "length", "angle"], arrowRows), loss)));
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // or JupyterLab takes the handle's arrow keys
  root.replaceChildren(box);

  // --- The race: theta <- theta - rate * gradient, from the same start, one meta-iteration after the other ------------

  const done = () => race.exact.length > data.race;
  function begin() {
    race = Object.fromEntries(RACERS.map(({ key }) => [key, [{ theta: start, loss: math.metaLoss(start, steps) }]]));
  }
  function advance() {
    RACERS.forEach(({ key, order }) => {
      const { theta } = race[key].at(-1), next = math.minus(theta, data.rate, math.metaGradient(theta, steps, order));
      race[key].push({ theta: next, loss: math.metaLoss(next, steps) });
    });
    update();
  }
  function tell() {
    const n = race.exact.length - 1, [exact, first] = RACERS.map(({ key }) => text(race[key][n].loss));
    status.textContent = `After ${n} meta-${n === 1 ? "iteration" : "iterations"} from ${text(race.exact[0].loss)}: exact ${exact}, first-order ${first}.`;
  }
  function run() {
    if (!race || done()) begin();
    status.textContent = "";
    if (still()) { // no motion was asked for: show where it ends
      while (!done()) advance();
      tell();
      return;
    }
    timer = setInterval(() => {
      if (!root.isConnected) return pause();
      if (!done()) advance();
      if (done()) { pause(); tell(); }
    }, 100);
    update();
  }
  function pause() {
    clearInterval(timer);
    timer = 0;
    update();
  }
  function reset() {
    race = null;
    status.textContent = "";
    pause();
  }

  // --- The picture -----------------------------------------------------------------------------------------------------

  const lands = {};
  const land = (J) => lands[J] ??= Array.from({ length: N }, (_, i) => // row i from above: the largest amplitude first
    Array.from({ length: N }, (_, k) => math.metaLoss([A1 - (i * (A1 - A0)) / (N - 1), B0 + (k * (B1 - B0)) / (N - 1)], J)));

  // Marching squares: [[row, column], [row, column]] for every piece of the line on which the values are `level`.
  function contour(values, level) {
    const pieces = [], cut = (u, v) => (level - u) / (v - u);
    for (let i = 0; i + 1 < N; i++) for (let k = 0; k + 1 < N; k++) {
      const [p, q, r, s] = [values[i][k], values[i][k + 1], values[i + 1][k + 1], values[i + 1][k]], ends = [];
      if (p < level !== q < level) ends.push([i, k + cut(p, q)]);
      if (q < level !== r < level) ends.push([i + cut(q, r), k + 1]);
      if (s < level !== r < level) ends.push([i + 1, k + cut(s, r)]);
      if (p < level !== s < level) ends.push([i + cut(p, s), k]);
      for (let e = 0; e + 1 < ends.length; e += 2) pieces.push([ends[e], ends[e + 1]]);
    }
    return pieces;
  }

  let S, px, py, canvas, lines, numbers, tracks, arrows, trails, handle, painted;
  const L = 34, T = 8, B = 36, R = 8;
  const width = () => clamp((box.clientWidth || 400) - L - R, 250, 370);
  function layout() { // in real pixels, so that text keeps its size on a phone
    S = width();
    painted = null;
    px = (v) => ((v - B0) / (B1 - B0)) * S;
    py = (v) => ((A1 - v) / (A1 - A0)) * S;
    const cell = S / (N - 1); // the canvas has a pixel a point, and the browser draws what is between them
    canvas = el("canvas", { width: N, height: N, style: `left:${-cell / 2}px;top:${-cell / 2}px;width:${N * cell}px;height:${N * cell}px` });
    const picture = svg("svg", { width: S + L + R, height: S + T + B, role: "img",
      "aria-label": "contours of the meta-loss; the inner steps of three tasks, the three downhill arrows and the descents from the start" });
    const inner = svg("svg", { x: L, y: T, width: S, height: S, style: "overflow:hidden" });
    inner.append(lines = svg("g", { class: "contours", fill: "none", stroke: "currentColor", "stroke-width": 0.8, "stroke-opacity": 0.5 }), numbers = svg("g"));
    data.waves.forEach(([wa, wb], t) => inner.append(cross(px(wb), py(wa)), svg("text", { class: "halo", x: px(wb) + 9, y: py(wa) - 7 }, `task ${t + 1}`)));
    const front = svg("svg", { x: L, y: T, width: S, height: S, style: "overflow:hidden" });
    arrows = svg("g", { class: "arrows", transform: `translate(${L} ${T})` }); // not cut at the edge
    front.append(tracks = svg("g", { class: "tracks", stroke: "currentColor", "stroke-width": 1.1 }), trails = svg("g"));
    picture.append(inner, arrows, front, svg("rect", { x: L, y: T, width: S, height: S, fill: "none", stroke: "currentColor", opacity: 0.5 }));
    for (let i = 0; i <= 4; i++) {
      const va = A0 + (i * (A1 - A0)) / 4, vb = B0 + (i * (B1 - B0)) / 4;
      picture.append(svg("text", { x: L + px(vb), y: T + S + 15, "text-anchor": "middle" }, text(vb, 0)),
        svg("text", { x: L - 6, y: T + py(va) + 4, "text-anchor": "end" }, text(va, 0)));
    }
    picture.append(svg("text", { x: L + S / 2, y: T + S + 31, "text-anchor": "middle" }, "phase b (radians)"),
      svg("text", { x: 11, y: T + S / 2, "text-anchor": "middle", transform: `rotate(-90 11 ${T + S / 2})` }, "amplitude a"));
    handle ??= makeHandle();
    const focused = handle === document.activeElement;
    plot.replaceChildren(el("div", { class: "land", style: `left:${L}px;top:${T}px;width:${S}px;height:${S}px` }, canvas), picture, handle);
    if (focused) handle.focus({ preventScroll: true });
  }

  const moveTo = (va, vb) => { start = [clamp(va, A0, A1), clamp(vb, B0, B1)]; reset(); };
  function at(e) { // where a pointer is, as (a, b)
    const r = plot.getBoundingClientRect();
    return [A1 - ((e.clientY - r.top - T) / S) * (A1 - A0), B0 + ((e.clientX - r.left - L) / S) * (B1 - B0)];
  }
  // A tap or a click puts the start there, and a mouse draws it along. A finger that swipes over the square scrolls the page.
  plot.addEventListener("click", (e) => moveTo(...at(e)));
  plot.addEventListener("pointerdown", (e) => { if (e.pointerType === "mouse" && e.button === 0) plot.setPointerCapture(e.pointerId); });
  plot.addEventListener("pointermove", (e) => { if (plot.hasPointerCapture(e.pointerId)) moveTo(...at(e)); });

  function makeHandle() { // an HTML element: Chromium ignores touch-action on a part of an SVG
    const node = el("div", { class: "handle", role: "slider", tabindex: 0, "aria-orientation": "vertical", "aria-valuemin": A0, "aria-valuemax": A1,
      "aria-label": "start: up and down change the amplitude, left and right the phase" });
    let off = [0, 0];
    node.addEventListener("click", (e) => e.stopPropagation());
    node.addEventListener("pointerdown", (e) => {
      const [va, vb] = at(e);
      off = [start[0] - va, start[1] - vb]; // the handle does not jump under the finger
      node.setPointerCapture(e.pointerId);
      node.focus({ preventScroll: true });
      e.stopPropagation();
      e.preventDefault();
    });
    node.addEventListener("pointermove", (e) => {
      if (!node.hasPointerCapture(e.pointerId)) return;
      const [va, vb] = at(e);
      moveTo(va + off[0], vb + off[1]);
    });
    node.addEventListener("keydown", (e) => {
      const d = e.shiftKey ? 0.5 : 0.05;
      const by = { ArrowUp: [d, 0], ArrowDown: [-d, 0], ArrowLeft: [0, -d], ArrowRight: [0, d] }[e.key];
      if (!by) return;
      e.preventDefault();
      moveTo(start[0] + by[0], start[1] + by[1]);
    });
    return node;
  }

  function paint() { // what depends on J alone
    const values = land(steps), pixels = new ImageData(N, N), levels = data.levels;
    const low = Math.log(levels[0]), high = Math.log(levels.at(-1));
    values.flat().forEach((v, i) => pixels.data.set([128, 128, 128, 150 * (1 - clamp((Math.log(v) - low) / (high - low), 0, 1))], 4 * i));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const x = (p) => (p[1] * S) / (N - 1), y = (p) => (p[0] * S) / (N - 1);
    const taken = data.waves.map(([wa, wb]) => [px(wb) + 20, py(wa)]), labels = [];
    lines.replaceChildren(...levels.map((level) => {
      const pieces = contour(values, level);
      let best = null, room = 26; // its number stands where most room is left
      for (const [p] of pieces) {
        const here = [x(p), y(p)];
        if (Math.min(...here) < 14 || Math.max(...here) > S - 14) continue;
        const free = Math.min(...taken.map((q) => Math.hypot(here[0] - q[0], here[1] - q[1])));
        if (free > room) [best, room] = [here, free];
      }
      if (best) {
        taken.push(best);
        labels.push(svg("text", { class: "halo", x: f(best[0]), y: f(best[1] + 4), "text-anchor": "middle" }, String(level)));
      }
      return svg("path", { d: pieces.map(([p, q]) => `M${f(x(p))} ${f(y(p))}L${f(x(q))} ${f(y(q))}`).join("") });
    }));
    numbers.replaceChildren(...labels);
    painted = steps;
  }

  function drawChart() { // the meta-loss of both against the meta-iterations
    const ways = Object.fromEntries(RACERS.map(({ key }) => [key, race ? race[key] : [{ loss: math.metaLoss(start, steps) }]]));
    const W = S + L + R, H = 110, left = L, top = 8, w = W - left - 12, h = H - top - 34;
    const most = Math.max(1e-3, ...RACERS.flatMap(({ key }) => ways[key].map((p) => p.loss)).filter(Number.isFinite)) * 1.05;
    const x = (n) => left + (n / data.race) * w, y = (v) => top + h - (Math.min(v, most) / most) * h;
    chart.replaceChildren(svg("svg", { width: W, height: H, role: "img", "aria-label": "the meta-loss of both descents against the number of meta-iterations" },
      svg("path", { d: `M${left} ${top}V${top + h}H${left + w}`, fill: "none", stroke: "currentColor", opacity: 0.5 }),
      svg("text", { x: left - 4, y: top + 10, "text-anchor": "end" }, text(most, 1)), svg("text", { x: left - 4, y: top + h, "text-anchor": "end" }, "0"),
      ...[0, data.race / 2, data.race].map((n) => svg("text", { x: x(n), y: top + h + 15, "text-anchor": "middle" }, String(n))),
      svg("text", { x: left + w / 2, y: H - 3, "text-anchor": "middle" }, "meta-iterations (up: meta-loss)"),
      ...RACERS.map((r, i) => { // a mark at every fifth step, not the same ones
        const points = ways[r.key].map((p, n) => [x(n), y(p.loss)]), lone = points.length === 1;
        return svg("g", { fill: `var(${r.colour})`, stroke: `var(${r.colour})` },
          svg("path", { d: "M" + points.map(([u, v]) => `${f(u)} ${f(v)}`).join("L"), fill: "none", "stroke-width": 2, "stroke-dasharray": r.dash }),
          ...points.filter((_, n) => lone || n % 5 === 2 * i).map(([u, v]) => mark(u, v, r, 3)));
      })));
  }

  function update() {
    if (painted !== steps) paint();
    const [sa, sb] = start, x = px(sb), y = py(sa), there = math.metaLoss(start, steps);
    const g = { exact: math.metaGradient(start, steps, 2), first: math.metaGradient(start, steps, 1), differences: math.differences(start, steps) };
    const inside = ([va, vb]) => [px(vb), py(va)];
    tracks.replaceChildren(...data.waves.flatMap((_, t) => {
      const points = math.path(start, t, steps).map(inside), end = points.at(-1);
      return steps ? [svg("path", { d: "M" + points.map((p) => p.map(f).join(" ")).join("L"), fill: "none" }),
        ...points.slice(1).map(([cx, cy]) => svg("circle", { cx: f(cx), cy: f(cy), r: 2.6, fill: "currentColor" })), number(...end, t)] : [];
    }));
    tracks.setAttribute("opacity", race ? 0.3 : 0.85);
    const longest = Math.max(...ARROWS.map(({ key }) => size(g[key])), 1e-9), usual = (0.26 * S) / longest;
    const room = (at, d) => (d ? Math.max(0, d > 0 ? S - 3 - at : at - 3) / Math.abs(d) : 1); // how often d fits beside the edge
    const fits = Math.min(1, ...ARROWS.map(({ key }) => Math.min(room(x, -g[key][1] * usual), room(y, g[key][0] * usual))));
    const fit = Math.max(fits, 24 / (0.26 * S)), scale = fit * usual; // shorter than that, and it were no arrow
    arrows.replaceChildren(...(race ? [] : ARROWS.map((item) => arrow(x, y, g[item.key][1] * -scale, g[item.key][0] * scale, item))));
    trails.replaceChildren(...(race ? RACERS.flatMap((racer, i) => {
      const points = race[racer.key].map((p) => inside(p.theta)), [ex, ey] = points.at(-1);
      const [hx, hy] = [clamp(ex, 6, S - 6), clamp(ey, 6, S - 6)], right = hx < S / 2 + 60, out = Math.hypot(hx - ex, hy - ey) > 6;
      return [fill(trail(points, racer), { class: "trail", "data-racer": racer.key }, []), fill(mark(hx, hy, racer, 6), { fill: `var(${racer.colour})`, stroke: "var(--page)", "stroke-width": 1.5 }, []),
        svg("text", { class: "halo", x: f(hx + (right ? 10 : -10)), y: f(clamp(hy + (i ? 16 : -6), 14, S - 6)), "text-anchor": right ? "start" : "end" }, racer.name + (out ? " (outside)" : ""))];
    }) : []));
    handle.style.left = `${L + x}px`;
    handle.style.top = `${T + y}px`;
    handle.setAttribute("aria-valuenow", sa.toFixed(2));
    handle.setAttribute("aria-valuetext", `amplitude ${text(sa)}, phase ${text(sb)}`);
    arrowRows.forEach(({ key, cells }) => {
      const v = g[key], turn = size(v) > 1e-3 && size(g.exact) > 1e-3 ? `${Math.round(angle(v, g.exact))}°` : "–";
      [text(v[0]), text(v[1]), text(size(v)), turn].forEach((t, i) => { cells[i].textContent = t; });
    });
    raceRows.forEach(({ key, cells }) => {
      const way = race ? race[key] : [{ loss: there }];
      [String(way.length - 1), text(way.at(-1).loss), text(Math.min(...way.map((p) => p.loss)))].forEach((t, i) => { cells[i].textContent = t; });
    });
    J.shown.textContent = J.input.value = String(steps);
    [[a, sa], [b, sb]].forEach(([r, v]) => {
      r.input.value = v;
      r.shown.textContent = text(v);
      r.input.setAttribute("aria-valuetext", text(v));
    });
    loss.textContent = `meta-loss here after ${steps} inner ${steps === 1 ? "step" : "steps"}: ${text(there)}` +
      (fit < 1 && !race ? `. So near the edge all three arrows are drawn at ${Math.round(100 * fit)} % of their usual length.` : "");
    descend.textContent = timer ? "pause" : "descend";
    drawChart();
  }

  layout();
  update();
  new ResizeObserver(() => { if (width() !== S) { layout(); update(); } }).observe(box);
}
