// Five support points of a sine wave, and three networks that adapt to them by gradient descent, in the page; a fourth
// can be meta-trained here. The arithmetic is in sine_network.js, the training in sine_training.js.

function sine(root, data) {
  const network = sineNetwork(data.hidden), X = 5, Y = 6, MOST = 10; // J goes from 0 to MOST
  const GRID = Array.from({ length: 121 }, (_, i) => -X + (2 * X * i) / 120), COARSE = GRID.filter((_, i) => i % 3 === 0);
  const nets = data.nets.map((n) => ({ ...n, theta: network.decode(n.weights), on: true }));
  const training = sineTraining(network, nets[0].theta, data.training); // begins at the random start
  const trained = { name: "trained", label: "trained in this page", dash: "12 4 3 4", theta: training.theta, on: true };
  nets.push(trained);
  const present = (net) => net.on && (net !== trained || training.iteration > 0);
  const random = sineRandom(1), still = matchMedia("(prefers-reduced-motion: reduce)");
  let points = data.points.map(([x, y]) => ({ x, y })), steps = data.steps, alpha = data.alpha, told = false;

  const clamp = (v, limit) => Math.max(-limit, Math.min(limit, v));
  const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  function fill(node, attributes, children) {
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    node.append(...children);
    return node;
  }

  // The sine nearest to the points, p sin x + q cos x by least squares: what a learner would say that knows the family.
  function nearestSine() {
    let ss = 0, sc = 0, cc = 0, sy = 0, cy = 0;
    for (const { x, y } of points) {
      const s = Math.sin(x), c = Math.cos(x);
      ss += s * s; sc += s * c; cc += c * c; sy += s * y; cy += c * y;
    }
    const det = ss * cc - sc * sc;
    if (det < 1e-6) return null;
    const p = (sy * cc - cy * sc) / det, q = (cy * ss - sy * sc) / det;
    return { f: (x) => p * Math.sin(x) + q * Math.cos(x), A: Math.hypot(p, q), b: (Math.atan2(q, p) + 2 * Math.PI) % (2 * Math.PI) };
  }

  const style = el("style");
  style.textContent = `
    .metalib-sine { --c0: #5f5f5f; --c1: #b35c00; --c2: #0072b2; --c3: #a02c78; --page: #fff; position: relative; max-width: 720px; line-height: 1.4; }
    html[data-theme="dark"] .metalib-sine, body[data-jp-theme-light="false"] .metalib-sine
      { --c0: #b8b8b8; --c1: #f0a83c; --c2: #62bdf2; --c3: #f09ad0; --page: #121212; }
    .metalib-sine svg { display: block; width: 100%; }
    .metalib-sine svg text { fill: currentColor; font-size: 12px; }
    .metalib-sine .handle { cursor: grab; touch-action: none; display: block; } /* Chromium ignores touch-action on an inline <g> */
    .metalib-sine .handle:focus { outline: none; }
    .metalib-sine .handle:focus .ring { stroke: var(--c2); }
    .metalib-sine .sine-controls { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; margin: .4rem 0; }
    .metalib-sine button, .metalib-sine select { font: inherit; font-size: .9em; color: inherit; background: transparent;
      border: 1px solid currentColor; border-radius: 4px; padding: .3rem .7rem; min-height: 2.2rem; cursor: pointer; }
    .metalib-sine [hidden] { display: none; }
    .metalib-sine .sample { display: inline-block; width: 34px; height: 10px; margin: 0 6px; }
    .metalib-sine .status { font-size: .9em; font-variant-numeric: tabular-nums; }
    .metalib-sine .heard { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
    .metalib-sine button:focus-visible, .metalib-sine input:focus-visible, .metalib-sine select:focus-visible { outline: 3px solid var(--c2); outline-offset: 2px; }
    .metalib-sine input[type=range] { width: 12rem; max-width: 36vw; accent-color: var(--c2); vertical-align: middle; }
    .metalib-sine table { border-collapse: collapse; width: 100%; margin: .2rem 0; font-size: .9em; color: inherit; background: none; }
    .metalib-sine th, .metalib-sine td { padding: .15rem .6rem .15rem 0; text-align: left; font-weight: normal; border: 0; color: inherit; background: none; }
    .metalib-sine thead th { border-bottom: 1px solid currentColor; }
    .metalib-sine td { font-variant-numeric: tabular-nums; }
    .metalib-sine option { color: #111; background: #fff; }
    .metalib-sine label { cursor: pointer; }`;
  const box = el("div", { class: "metalib-sine" }, style), plot = el("div"), where = el("div", { class: "where", style: "font-size:.9em", "aria-live": "polite" });

  const slider = el("input", { type: "range", min: 0, max: MOST, step: 1, value: steps, "aria-label": "number of inner steps J" });
  const shown = el("output", {}, String(steps));
  const setting = (J, size) => { [steps, alpha, slider.value, rate.value] = [J, size, J, size]; update(); };
  let borrowed = false; // the training's own alpha, which is given back as soon as J leaves the training's
  const giveBack = () => { if (borrowed) { borrowed = false; alpha = rate.value = data.alpha; } };
  const walk = (J) => { if (J !== data.training.steps) giveBack(); setting(J, alpha); };
  slide(slider, () => walk(Number(slider.value)));
  const rate = el("select", { "aria-label": "step size alpha" }, ...data.rates.map((r) => el("option", r === alpha ? { value: r, selected: "" } : { value: r }, String(r))));
  rate.addEventListener("change", () => { alpha = Number(rate.value); borrowed = false; update(); });
  const button = (label, act) => {
    const b = el("button", { type: "button" }, label);
    b.addEventListener("click", () => { act(); update(); });
    return b;
  };
  const newTask = () => {
    const wave = sineWave(random);
    points = points.map((_, i) => { // one x in each fifth of the range, so that no two points coincide
      const x = -X + 2 * (i + 0.1 + 0.8 * random());
      return { x, y: wave(x) };
    });
  };
  const turn = () => { points = points.map(({ x, y }) => ({ x, y: -y })); };
  const tell = button("show the errors", () => { // a prediction comes first
    told = !told;
    tell.textContent = told ? "hide the errors" : "show the errors";
  });
  const again = () => { points = data.points.map(([x, y]) => ({ x, y })); };


  // Play: one inner step after the other. Whoever asks for reduced motion takes each step by a press of the button.
  let playing = 0;
  const play = button("", () => {
    if (still.matches) walk((steps + 1) % (MOST + 1));
    else if (playing) stop();
    else { playing = setInterval(advance, 600); if (steps === MOST) walk(0); else advance(); }
    label();
  });
  const label = () => { play.textContent = still.matches ? "next step" : playing ? "stop" : "play"; };
  function advance() {
    walk(steps + 1);
    if (steps === MOST) stop();
  }
  function stop() { clearInterval(playing); playing = 0; label(); }
  const touched = (e) => { if (playing && !play.contains(e.target) && e.key !== "Tab") stop(); };
  for (const kind of ["pointerdown", "keydown", "input"]) box.addEventListener(kind, touched, true);
  still.addEventListener("change", stop);
  label();

  // Train: as many meta-iterations in each frame as fit, so that the page stays responsive.
  let running = false, drawn = 0, next = 0;
  const trace = sineTrace(svg, data.floor), heard = el("div", { class: "heard", role: "status" }), status = el("div", { class: "status" });
  const train = button("", () => {
    running = !running;
    if (running && training.iteration >= data.training.iterations) restart();
    if (running && training.iteration === 0) { // what it is trained for
      borrowed ||= alpha !== data.training.alpha;
      setting(data.training.steps, data.training.alpha);
    }
    cancelAnimationFrame(next);
    if (running) next = requestAnimationFrame(frame);
    report();
  });
  const reset = button("reset the training", () => { running = false; restart(); giveBack(); report(); });
  function restart() { training.reset(); trained.theta = training.theta; }
  function frame(now) {
    if (!running || !root.isConnected) return;
    const end = performance.now() + 12;
    do training.step(); while (performance.now() < end && training.iteration < data.training.iterations);
    running = training.iteration < data.training.iterations;
    if (!running) report();
    else next = requestAnimationFrame(frame);
    if (!running || now - drawn > (still.matches ? 2000 : 0)) { drawn = now; drawNet(trained); drawTraining(); }
  }
  function drawTraining() {
    const { iteration, before, after } = training, begun = iteration > 0;
    for (const node of [chart, reset, rows[nets.indexOf(trained)].row]) node.hidden = !begun;
    status.textContent = !begun ? `the random start, for one step of α = ${data.training.alpha}` : `Meta-iteration ${iteration} of ${data.training.iterations}. Error on new waves: ` +
      `${before.toFixed(2)} before the step, ${after.toFixed(2)} after it.`;
    if (begun) trace.draw(training.trace, W);
  }
  function report() { // in words that a screen reader speaks, at the turns only
    train.textContent = running ? "pause" : training.iteration === 0 ? "train" : training.iteration < data.training.iterations ? "go on" : "train again";
    drawTraining();
    heard.textContent = running ? "Training." : training.iteration ? status.textContent : "";
  }
  const key = (kind, words) => el("span", {}, trace.sample(kind), words);
  const chart = el("div", {}, trace.node, el("div", { class: "sine-controls status" },
    key("before", "before the step"), key("after", "after one step"), key("floor", "the average of all waves")));

  const rows = nets.map((net, i) => {
    const check = el("input", { type: "checkbox", checked: "" }), error = el("td", { class: "error" });
    check.addEventListener("change", () => { net.on = check.checked; update(); });
    const line = svg("svg", { viewBox: "0 0 34 10", class: "sample", "aria-hidden": "true" },
      svg("path", { d: "M1 5H33", stroke: `var(--c${i})`, "stroke-width": 3, "stroke-dasharray": net.dash }));
    return { error, row: el("tr", {}, el("th", { scope: "row" }, el("label", {}, check, line, net.label)), error) };
  });
  box.append(plot,
    el("div", { class: "sine-controls" }, play, el("label", {}, "inner steps J ", slider, " ", shown), el("label", {}, "step size α ", rate)),
    el("div", { class: "sine-controls" }, train, reset, status), heard, chart,
    el("div", { class: "sine-controls" }, button("new task", newTask), button("upside down", turn), button("first task", again), tell),
    where,
    el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "network"), el("th", { scope: "col" }, "error after J steps"))), el("tbody", {}, ...rows.map((r) => r.row))));
  root.replaceChildren(box);

  let W, H, px, py, curves, ghosts, truth, handles;
  const L = 34, R = 8, T = 8, B = 34;
  function layout() { // in real pixels, so that text keeps its size on a phone
    W = Math.max(280, Math.min(720, box.clientWidth || 640));
    H = Math.round(Math.max(230, Math.min(360, 0.58 * W)));
    px = (x) => ((x + X) / (2 * X)) * (W - L - R);
    py = (y) => ((Y - y) / (2 * Y)) * (H - T - B);
    const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": "the five support points and the three adapted networks" });
    const inner = svg("svg", { x: L, y: T, width: W - L - R, height: H - T - B, style: "overflow:hidden" });
    for (const v of [-4, -2, 0, 2, 4]) {
      const strength = v ? 0.15 : 0.4;
      inner.append(svg("path", { d: `M${px(v)} 0V${H - T - B}`, stroke: "currentColor", opacity: strength }),
        svg("path", { d: `M0 ${py(v)}H${W - L - R}`, stroke: "currentColor", opacity: strength }));
      picture.append(svg("text", { x: L + px(v), y: H - B + 16, "text-anchor": "middle" }, String(v).replace("-", "−")),
        svg("text", { x: L - 6, y: T + py(v) + 4, "text-anchor": "end" }, String(v).replace("-", "−")));
    }
    picture.append(svg("text", { x: L + (W - L - R) / 2, y: H - 3, "text-anchor": "middle" }, "input x (radians)"),
      svg("text", { x: 2, y: T + 12 }, "y"));
    truth = svg("path", { fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-dasharray": "2 4" });
    ghosts = nets.map(() => svg("g", { class: "ghosts" }));
    curves = nets.map((net, i) => svg("path", { class: "curve", fill: "none", stroke: `var(--c${i})`, "stroke-width": 2.6, "stroke-dasharray": net.dash }));
    inner.append(...ghosts, truth, ...curves);
    picture.append(inner);
    handles = points.map((_, i) => handle(i, picture));
    picture.append(...handles);
    plot.replaceChildren(picture);
  }

  function handle(i, picture) {
    const node = svg("g", { class: "handle", role: "slider", tabindex: 0, "aria-orientation": "vertical", "aria-valuemin": -Y, "aria-valuemax": Y,
      "aria-label": `support point ${i + 1} of ${points.length}` },
    svg("circle", { r: 20, fill: "transparent" }), svg("circle", { class: "ring", r: 11, fill: "none", stroke: "transparent", "stroke-width": 3 }),
    svg("circle", { r: 6.5, fill: "currentColor", stroke: "var(--page)", "stroke-width": 1.5 }));
    node.addEventListener("touchstart", (e) => e.preventDefault(), { passive: false }); // where touch-action is not obeyed
    const move = (x, y) => { points[i] = { x: clamp(x, X), y: clamp(y, Y) }; update(); };
    node.addEventListener("pointerdown", (e) => { node.setPointerCapture(e.pointerId); node.focus(); e.preventDefault(); });
    node.addEventListener("pointermove", (e) => {
      if (!node.hasPointerCapture(e.pointerId)) return;
      const r = picture.getBoundingClientRect(), scale = W / r.width;
      move((((e.clientX - r.left) * scale - L) / (W - L - R)) * 2 * X - X, Y - (((e.clientY - r.top) * scale - T) / (H - T - B)) * 2 * Y);
    });
    node.addEventListener("keydown", (e) => {
      const d = e.shiftKey ? 1 : 0.1;
      const by = { ArrowUp: [0, d], ArrowDown: [0, -d], ArrowLeft: [-d, 0], ArrowRight: [d, 0], PageUp: [0, 1], PageDown: [0, -1] }[e.key];
      if (!by) return;
      e.preventDefault();
      move(points[i].x + by[0], points[i].y + by[1]);
    });
    return node;
  }

  const path = (ys, grid) => "M" + ys.map((y, k) => `${px(grid[k]).toFixed(1)} ${py(clamp(y, 4 * Y)).toFixed(1)}`).join("L");

  function drawNet(net) { // its curve after J steps, and fainter those of every step before
    const i = nets.indexOf(net), nearest = nearestSine(), xs = points.map((p) => p.x), ys = points.map((p) => p.y);
    const phis = present(net) ? network.path(net.theta, xs, ys, steps, alpha) : [];
    const draw = (phi, grid) => { // null: diverged
      const curve = grid.map((x) => network.predict(phi, x));
      return curve.every(Number.isFinite) ? curve : null;
    };
    const out = phis.length ? draw(phis[steps], GRID) : null;
    const before = phis.slice(0, steps).map((phi) => draw(phi, COARSE)).filter(Boolean);
    curves[i].setAttribute("d", out ? path(out, GRID) : "");
    ghosts[i].replaceChildren(...before.map((curve, j) => svg("path", { d: path(curve, COARSE), fill: "none", stroke: `var(--c${i})`,
      "stroke-width": 1.2, "stroke-dasharray": net.dash, opacity: j === 0 ? 0.5 : (0.15 + 0.25 * j / steps).toFixed(2) })));
    const error = out && nearest ? GRID.reduce((sum, x, k) => sum + (out[k] - nearest.f(x)) ** 2, 0) / GRID.length : NaN;
    rows[i].error.textContent = !told ? "?" : !present(net) ? "–" : !out ? "diverged" : !nearest ? "–" :
      error < 1000 ? error.toFixed(2) : error.toExponential(1);
  }

  function update() {
    const nearest = nearestSine();
    handles.forEach((node, i) => {
      const { x, y } = points[i];
      node.setAttribute("transform", `translate(${L + px(x)} ${T + py(y)})`);
      node.setAttribute("aria-valuenow", y.toFixed(1));
      node.setAttribute("aria-valuetext", `x ${x.toFixed(1)}, y ${y.toFixed(1)}`);
    });
    truth.setAttribute("d", nearest ? path(GRID.map(nearest.f), GRID) : "");
    nets.forEach(drawNet);
    shown.textContent = String(steps);
    const here = place(nearest);
    if (where.textContent !== here) where.textContent = here; // a change is read aloud
  }

  function place(nearest) { // where the points are in the family
    if (!nearest) return "Spread the points out: no single sine is nearest to them.";
    const inside = nearest.A >= 0.1 && nearest.A <= 5 && nearest.b <= Math.PI + 1e-9;
    return `Dotted: the sine nearest to the points, A = ${nearest.A.toFixed(1)}, b = ${nearest.b.toFixed(1)}, ` +
      (inside ? "one of the training tasks." : "outside the training tasks (A from 0.1 to 5, b from 0 to π).");
  }

  layout();
  update();
  report();
  new ResizeObserver(() => {
    const width = Math.max(280, Math.min(720, box.clientWidth || 640));
    if (width !== W && !handles.includes(document.activeElement)) { layout(); update(); drawTraining(); }
  }).observe(box);
  root.sine = { // for the tests that compare this page with PyTorch
    adapt: (name, xs, ys, J) => Array.from(network.path(nets.find((n) => n.name === name).theta, xs, ys, J, alpha)[J]),
    predict: (phi, xs) => xs.map((x) => network.predict(phi, x)),
    metaGradient: (name, tasks, J, rate) => {
      const { gradient, after } = sineMetaGradient(network, nets.find((n) => n.name === name).theta, tasks, J, rate);
      return { gradient: Array.from(gradient), loss: after };
    },
    training,
  };
}
