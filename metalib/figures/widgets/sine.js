// Five support points of a sine wave, and three networks that adapt to them by gradient descent, in the page.
// The arithmetic (sineMath) is compared with PyTorch's in tests/test_widget_sine.py.

// A network 1 -> H -> H -> 1 with tanh, its parameters in one Float64Array in the order of the PyTorch module:
// W1 (H), b1 (H), W2 (H, H) row by row, b2 (H), W3 (H), b3 (1).
function sineMath(H) {
  const B1 = H, W2 = 2 * H, B2 = W2 + H * H, W3 = B2 + H, B3 = W3 + H;

  function decode(base64) { // little-endian float32
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }

  function forward(w, x) {
    const h1 = new Float64Array(H), h2 = new Float64Array(H);
    for (let i = 0; i < H; i++) h1[i] = Math.tanh(w[i] * x + w[B1 + i]);
    let y = w[B3];
    for (let i = 0; i < H; i++) {
      let z = w[B2 + i];
      for (let j = 0; j < H; j++) z += w[W2 + i * H + j] * h1[j];
      h2[i] = Math.tanh(z);
      y += w[W3 + i] * h2[i];
    }
    return { h1, h2, y };
  }

  function gradient(w, xs, ys) { // of L_S = (1/K) sum_i (f(x_i) - y_i)^2, by backpropagation
    const g = new Float64Array(w.length);
    xs.forEach((x, k) => {
      const { h1, h2, y } = forward(w, x);
      const d = 2 * (y - ys[k]) / xs.length; // dL / df(x_k)
      const d1 = new Float64Array(H);
      g[B3] += d;
      for (let i = 0; i < H; i++) {
        g[W3 + i] += d * h2[i];
        const d2 = d * w[W3 + i] * (1 - h2[i] * h2[i]); // tanh' = 1 - tanh^2
        g[B2 + i] += d2;
        for (let j = 0; j < H; j++) {
          g[W2 + i * H + j] += d2 * h1[j];
          d1[j] += d2 * w[W2 + i * H + j];
        }
      }
      for (let j = 0; j < H; j++) {
        const dz = d1[j] * (1 - h1[j] * h1[j]);
        g[j] += dz * x;
        g[B1 + j] += dz;
      }
    });
    return g;
  }

  function adapt(theta, xs, ys, steps, lr) { // phi_J: J steps of phi <- phi - lr * gradient
    const phi = Float64Array.from(theta);
    for (let j = 0; j < steps; j++) gradient(phi, xs, ys).forEach((g, i) => { phi[i] -= lr * g; });
    return phi;
  }

  return { decode, adapt, predict: (w, x) => forward(w, x).y };
}

function sine(root, data) {
  const math = sineMath(data.hidden), nets = data.nets.map((n) => ({ ...n, theta: math.decode(n.weights), on: true }));
  const X = 5, Y = 6, GRID = Array.from({ length: 121 }, (_, i) => -X + (2 * X * i) / 120);
  let points = data.points.map(([x, y]) => ({ x, y })), steps = data.steps, alpha = data.alpha, seed = 1, told = false;

  const random = () => { // mulberry32: the same tasks on every visit
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
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
    .metalib-sine { --c0: #5f5f5f; --c1: #b35c00; --c2: #0072b2; --page: #fff; max-width: 720px; line-height: 1.4; }
    html[data-theme="dark"] .metalib-sine, body[data-jp-theme-light="false"] .metalib-sine
      { --c0: #b8b8b8; --c1: #f0a83c; --c2: #62bdf2; --page: #121212; }
    .metalib-sine svg { display: block; width: 100%; }
    .metalib-sine svg text { fill: currentColor; font-size: 12px; }
    .metalib-sine .handle { cursor: grab; touch-action: none; }
    .metalib-sine .handle:focus { outline: none; }
    .metalib-sine .handle:focus .ring { stroke: var(--c2); }
    .metalib-sine .sine-controls { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; margin: .4rem 0; }
    .metalib-sine button, .metalib-sine select { font: inherit; font-size: .9em; color: inherit; background: transparent;
      border: 1px solid currentColor; border-radius: 4px; padding: .3rem .7rem; min-height: 2.2rem; cursor: pointer; }
    .metalib-sine button:focus-visible, .metalib-sine input:focus-visible, .metalib-sine select:focus-visible { outline: 3px solid var(--c2); outline-offset: 2px; }
    .metalib-sine input[type=range] { width: 12rem; max-width: 60vw; accent-color: var(--c2); vertical-align: middle; }
    .metalib-sine table { border-collapse: collapse; width: 100%; margin: .2rem 0; font-size: .9em; color: inherit; background: none; }
    .metalib-sine th, .metalib-sine td { padding: .15rem .6rem .15rem 0; text-align: left; font-weight: normal; border: 0; color: inherit; background: none; }
    .metalib-sine thead th { border-bottom: 1px solid currentColor; }
    .metalib-sine td { font-variant-numeric: tabular-nums; }
    .metalib-sine option { color: #111; background: #fff; }
    .metalib-sine label { cursor: pointer; }`;
  const box = el("div", { class: "metalib-sine" }, style), plot = el("div"), where = el("div", { class: "where", style: "font-size:.9em", "aria-live": "polite" });

  const slider = el("input", { type: "range", min: 0, max: 10, step: 1, value: steps, "aria-label": "number of inner steps J" });
  const shown = el("output", {}, String(steps));
  slider.addEventListener("input", () => { steps = Number(slider.value); update(); });
  const rate = el("select", { "aria-label": "step size alpha" }, ...data.rates.map((r) => el("option", r === alpha ? { value: r, selected: "" } : { value: r }, String(r))));
  rate.addEventListener("change", () => { alpha = Number(rate.value); update(); });
  const button = (label, act) => {
    const b = el("button", { type: "button" }, label);
    b.addEventListener("click", () => { act(); update(); });
    return b;
  };
  const newTask = () => {
    const A = 0.1 + 4.9 * random(), b = Math.PI * random();
    points = points.map((_, i) => { // one x in each fifth of the range, so that no two points coincide
      const x = -X + 2 * (i + 0.1 + 0.8 * random());
      return { x, y: A * Math.sin(x + b) };
    });
  };
  const turn = () => { points = points.map(({ x, y }) => ({ x, y: -y })); };
  const tell = button("show the errors", () => { // a prediction comes first
    told = !told;
    tell.textContent = told ? "hide the errors" : "show the errors";
  });
  const again = () => { points = data.points.map(([x, y]) => ({ x, y })); };

  const rows = nets.map((net, i) => {
    const check = el("input", { type: "checkbox", checked: "" }), error = el("td", { class: "error" });
    check.addEventListener("change", () => { net.on = check.checked; update(); });
    const line = svg("svg", { viewBox: "0 0 34 10", style: "display:inline-block;width:34px;height:10px;margin:0 6px", "aria-hidden": "true" },
      svg("path", { d: "M1 5H33", stroke: `var(--c${i})`, "stroke-width": 3, "stroke-dasharray": net.dash }));
    return { error, row: el("tr", {}, el("th", { scope: "row" }, el("label", {}, check, line, net.label)), error) };
  });
  box.append(plot,
    el("div", { class: "sine-controls" }, el("label", {}, "inner steps J ", slider, " ", shown),
      el("label", {}, "step size α ", rate),
      button("new task", newTask), button("upside down", turn), button("start again", again), tell),
    where,
    el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "network"), el("th", { scope: "col" }, "error after J steps"))), el("tbody", {}, ...rows.map((r) => r.row))));
  root.replaceChildren(box);

  let W, H, px, py, curves, faint, truth, handles;
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
    faint = nets.map((_, i) => svg("path", { fill: "none", stroke: `var(--c${i})`, "stroke-width": 1.2, opacity: 0.45 }));
    curves = nets.map((net, i) => svg("path", { class: "curve", fill: "none", stroke: `var(--c${i})`, "stroke-width": 2.6, "stroke-dasharray": net.dash }));
    inner.append(...faint, truth, ...curves);
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

  const path = (f) => "M" + GRID.map((x) => `${px(x).toFixed(1)} ${py(clamp(f(x), 4 * Y)).toFixed(1)}`).join("L");
  function update() {
    const xs = points.map((p) => p.x), ys = points.map((p) => p.y), nearest = nearestSine();
    handles.forEach((node, i) => {
      node.setAttribute("transform", `translate(${L + px(xs[i])} ${T + py(ys[i])})`);
      node.setAttribute("aria-valuenow", ys[i].toFixed(1));
      node.setAttribute("aria-valuetext", `x ${xs[i].toFixed(1)}, y ${ys[i].toFixed(1)}`);
    });
    truth.setAttribute("d", nearest ? path(nearest.f) : "");
    nets.forEach((net, i) => {
      const phi = math.adapt(net.theta, xs, ys, steps, alpha), out = GRID.map((x) => math.predict(phi, x));
      const error = nearest ? GRID.reduce((sum, x, k) => sum + (out[k] - nearest.f(x)) ** 2, 0) / GRID.length : NaN;
      const finite = out.every(Number.isFinite);
      curves[i].setAttribute("d", net.on && finite ? "M" + GRID.map((x, k) => `${px(x).toFixed(1)} ${py(clamp(out[k], 4 * Y)).toFixed(1)}`).join("L") : "");
      faint[i].setAttribute("d", net.on && steps ? path((x) => math.predict(net.theta, x)) : "");
      rows[i].error.textContent = !told ? "?" : !finite ? "diverged" : !nearest ? "–" : error < 1000 ? error.toFixed(2) : error.toExponential(1);
    });
    shown.textContent = String(steps);
    if (!nearest) { where.textContent = "Spread the points out: no single sine is nearest to them."; return; }
    const inside = nearest.A >= 0.1 && nearest.A <= 5 && nearest.b <= Math.PI + 1e-9;
    where.textContent = `Dotted: the sine nearest to the points, A = ${nearest.A.toFixed(1)}, b = ${nearest.b.toFixed(1)}, ` +
      (inside ? "one of the training tasks." : "outside the training tasks (A from 0.1 to 5, b from 0 to π).");
  }

  layout();
  update();
  new ResizeObserver(() => {
    const width = Math.max(280, Math.min(720, box.clientWidth || 640));
    if (width !== W && !handles.includes(document.activeElement)) { layout(); update(); }
  }).observe(box);
  root.sine = { adapt: (name, xs, ys, J) => { // for the test that compares this page with PyTorch
    const net = nets.find((n) => n.name === name);
    return Array.from(math.adapt(net.theta, xs, ys, J, alpha));
  }, predict: (phi, xs) => xs.map((x) => math.predict(phi, x)) };
}
