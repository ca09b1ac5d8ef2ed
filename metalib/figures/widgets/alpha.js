// Inner steps in a valley: drag the start and the rate, and find the largest rate with which the steps still arrive.
// The arithmetic (alphaMath) is compared with metalib's in tests/test_widget_alpha.py.

// L(phi) = (phi - w)' H (phi - w) / 2, whose gradient is H (phi - w); points and vectors are pairs.
function alphaMath({ H: [[a, b], [, d]], w }) {
  const off = (phi) => [phi[0] - w[0], phi[1] - w[1]];
  function step(phi, rate) {
    const [u, v] = off(phi);
    return [phi[0] - rate * (a * u + b * v), phi[1] - rate * (b * u + d * v)];
  }
  function path(theta, rate, J) { // phi_0 = theta, ..., phi_J
    const phis = [theta];
    for (let j = 0; j < J; j++) phis.push(step(phis[j], rate));
    return phis;
  }
  function loss(phi) {
    const [u, v] = off(phi);
    return 0.5 * (a * u * u + 2 * b * u * v + d * v * v);
  }
  const distance = (phi) => Math.hypot(...off(phi));
  const middle = (a + d) / 2, spread = Math.hypot((a - d) / 2, b), lambdas = [middle + spread, middle - spread]; // largest first
  const angle = 0.5 * Math.atan2(2 * b, a - d); // of the eigenvector of the largest
  const axes = [[Math.cos(angle), Math.sin(angle)], [-Math.sin(angle), Math.cos(angle)]];
  const factors = (rate) => lambdas.map((l) => 1 - rate * l); // of the error, in one step
  return { path, loss, distance, lambdas, axes, angle, factors, bound: 2 / lambdas[0] };
}

function alpha(root, data) {
  const math = alphaMath(data), [[X0, X1], [Y0, Y1]] = data.sides, NAMES = ["across the valley", "along the valley"];
  let theta = data.start, rate = data.rate, steps = data.steps, revealed = false, verdict = "";

  const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  function fill(node, attributes, children) {
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    node.append(...children);
    return node;
  }
  const clamp = (v, low, high) => Math.max(low, Math.min(high, v)), f = (v) => clamp(v, -1e5, 1e5).toFixed(1);
  const text = (v, digits = 2) => (Math.abs(v) < 1e4 ? v.toFixed(digits) : v.toExponential(1)).replaceAll("-", "−");
  const phi = (j) => "φ" + String(j).replace(/\d/g, (c) => "₀₁₂₃₄₅₆₇₈₉"[c]);

  const style = el("style");
  style.textContent = `
    .metalib-alpha { --calm: #0063a6; --wild: #b94700; --page: #fff; max-width: 760px; line-height: 1.4; }
    html[data-theme="dark"] .metalib-alpha, body[data-jp-theme-light="false"] .metalib-alpha
      { --calm: #5cbcf5; --wild: #ffa05a; --page: #121212; color-scheme: dark; }
    .metalib-alpha .both { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; }
    .metalib-alpha .run { flex: 0 1 370px; min-width: 0; }
    .metalib-alpha .side { flex: 1 1 17rem; font-size: .9em; }
    .metalib-alpha :is(.plot, .track) { position: relative; cursor: pointer; user-select: none; -webkit-user-select: none; }
    .metalib-alpha .track { touch-action: pan-y; }
    .metalib-alpha svg { display: block; }
    .metalib-alpha svg text { fill: currentColor; font-size: 12px; }
    .metalib-alpha .halo { paint-order: stroke; stroke: var(--page); stroke-width: 3px; stroke-linejoin: round; }
    .metalib-alpha .handle { position: absolute; width: 44px; height: 44px; margin: -22px 0 0 -22px; border-radius: 50%; cursor: grab; touch-action: none; }
    .metalib-alpha .handle::after { content: ""; position: absolute; inset: 13px; border-radius: 50%; background: currentColor;
      border: 2px solid var(--page); box-shadow: 0 0 0 2px currentColor; }
    .metalib-alpha :is(.handle, button, input):focus-visible { outline: 3px solid var(--calm); outline-offset: -4px; }
    .metalib-alpha p { margin: .3rem 0; }
    .metalib-alpha .now { min-height: 2.8em; font-variant-numeric: tabular-nums; }
    .metalib-alpha .status { min-height: 2.8em; }
    .metalib-alpha .steps { display: grid; grid-template-columns: auto 1fr 1.5em; gap: .5rem; align-items: center; }
    .metalib-alpha input[type=range] { width: 100%; min-width: 4rem; min-height: 2rem; margin: 0; accent-color: var(--calm); }
    .metalib-alpha button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor;
      border-radius: 4px; padding: .3rem .8rem; min-height: 2.2rem; cursor: pointer; margin: .4rem 0; }
    .metalib-alpha .key { display: inline-block; width: 14px; height: 12px; vertical-align: -1px; margin-right: 4px; }
    .metalib-alpha table { border-collapse: collapse; width: 100%; margin: .3rem 0; font-size: 1em; color: inherit; background: none; border: 0; }
    .metalib-alpha :is(th, td) { padding: .15rem .4rem .15rem 0; text-align: right; font-weight: normal; border: 0; color: inherit; background: none; }
    .metalib-alpha td { font-variant-numeric: tabular-nums; white-space: nowrap; }
    .metalib-alpha th:first-child { text-align: left; }
    .metalib-alpha thead th { border-bottom: 1px solid currentColor; vertical-align: bottom; }`;

  // --- The controls --------------------------------------------------------------------------------------------------

  // A handle is an HTML element, because Chromium ignores touch-action on a part of an SVG. `at` tells where a pointer is,
  // as the value that the handle moves; `go` moves it; `keys` says by how much a key does, for a step of size d. On a
  // `line` a finger draws the handle along wherever it comes down, and only a swipe across it scrolls the page.
  function handle(label, space, at, get, go, keys, line = false) {
    const node = el("div", { class: "handle", role: "slider", tabindex: 0, "aria-label": label });
    let off = [];
    node.addEventListener("click", (e) => e.stopPropagation());
    node.addEventListener("pointerdown", (e) => {
      const here = at(e);
      off = get().map((v, i) => v - here[i]); // the handle does not jump under the finger
      node.setPointerCapture(e.pointerId);
      node.focus({ preventScroll: true });
      e.stopPropagation();
      e.preventDefault();
    });
    node.addEventListener("pointermove", (e) => { if (node.hasPointerCapture(e.pointerId)) go(at(e).map((v, i) => v + off[i])); });
    node.addEventListener("keydown", (e) => {
      const by = keys(e.shiftKey ? 10 : 1)[e.key];
      if (!by) return;
      e.preventDefault();
      go(get().map((v, i) => v + by[i]));
    });
    // A tap or a click on the space puts it there; a mouse draws it along. A finger that swipes over a plane scrolls the page.
    let before, held = null;
    space.addEventListener("click", (e) => go(at(e)));
    space.addEventListener("pointerdown", (e) => {
      if (!e.isPrimary || (e.pointerType === "mouse" ? e.button !== 0 : !line)) return;
      [before, held] = [get(), e.pointerId];
      space.setPointerCapture(e.pointerId);
    });
    space.addEventListener("pointermove", (e) => { if (e.pointerId === held) go(at(e)); });
    space.addEventListener("pointercancel", (e) => { if (e.pointerId === held) { held = null; go(before); } }); // it scrolled
    space.addEventListener("pointerup", (e) => { if (e.pointerId === held) held = null; });
    return node;
  }

  let S, scale; // the width of the picture in pixels, and pixels for a unit of phi
  const L = 28, T = 6, R = 12, B = 34, TRACK = 40; // TRACK: where the track's line is, from above
  const x = (v) => L + (v - X0) * scale, y = (v) => T + (Y1 - v) * scale, along = (v) => L + (v / data.mostRate) * S;
  const width = () => clamp((box.clientWidth || 370) - L - R, 240, 332);
  const plot = el("div", { class: "plot" }), track = el("div", { class: "track" });
  const rect = (node, e) => { const r = node.getBoundingClientRect(); return [e.clientX - r.left, e.clientY - r.top]; };
  const start = handle("start θ: the arrow keys move it", plot, (e) => { const [u, v] = rect(plot, e); return [X0 + (u - L) / scale, Y1 - (v - T) / scale]; },
    () => theta, ([u, v]) => { theta = [clamp(u, X0, X1), clamp(v, Y0, Y1)]; update(); },
    (n) => ({ ArrowLeft: [-0.05 * n, 0], ArrowRight: [0.05 * n, 0], ArrowUp: [0, 0.05 * n], ArrowDown: [0, -0.05 * n] }));
  const knob = handle("inner rate α", track, (e) => [((rect(track, e)[0] - L) / S) * data.mostRate], () => [rate],
    ([v]) => { rate = clamp(Math.round(1000 * v) / 1000, 0, data.mostRate); update(); },
    (n) => ({ ArrowLeft: [-0.002 * n], ArrowDown: [-0.002 * n], ArrowRight: [0.002 * n], ArrowUp: [0.002 * n],
      PageDown: [-0.05], PageUp: [0.05], Home: [-9], End: [9] }), true);
  fill(knob, { "aria-valuemin": 0, "aria-valuemax": data.mostRate }, []);
  fill(start, { "aria-valuemin": X0, "aria-valuemax": X1 }, []);

  const J = el("input", { type: "range", min: 0, max: data.mostSteps, step: 1, "aria-label": "inner steps J" }), shown = el("span", { "aria-hidden": "true" });
  slide(J, () => { steps = Number(J.value); update(); });
  const again = el("button", { type: "button" }, "start again");
  again.addEventListener("click", () => { [theta, rate, steps, revealed] = [data.start, data.rate, data.steps, false]; update(); });

  const mark = (u, v, i) => (i ? svg("rect", { x: u - 4.5, y: v - 4.5, width: 9, height: 9 }) : svg("circle", { cx: u, cy: v, r: 5 }));
  const rows = NAMES.map((name, i) => {
    const cells = [0, 1, 2].map(() => el("td"));
    const key = svg("svg", { class: "key", viewBox: "0 0 14 12", fill: "currentColor", "aria-hidden": "true" }, mark(6, 6, i));
    return { cells, row: el("tr", {}, el("th", { scope: "row" }, key, name), ...cells) };
  });
  const power = el("th", { scope: "col" }), now = el("p", { class: "now" }), status = el("p", { class: "status", role: "status" }), strip = el("div");
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...["error", "λ", "1 − αλ"].map((t) => el("th", { scope: "col" }, t)), power)),
    el("tbody", {}, ...rows.map((r) => r.row)));
  const box = el("div", { class: "metalib-alpha" }, style,
    el("p", {}, "What is the largest α with which the path still arrives at w, however many steps it takes?"), el("div", { class: "both" },
      el("div", { class: "run" }, plot, track, now), el("div", { class: "side" }, status, table, strip, el("label", { class: "steps" }, "inner steps J", J, shown), again)));
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // or JupyterLab takes the handles' arrow keys
  root.replaceChildren(box);

  // --- The picture ---------------------------------------------------------------------------------------------------

  let moving, trackSvg; // what changes with every move
  function layout() { // in real pixels, so that text keeps its size on a phone
    S = width();
    scale = S / (X1 - X0);
    const H = (Y1 - Y0) * scale, [wx, wy] = data.w, degrees = (-math.angle * 180) / Math.PI;
    const far = (i, s) => [x(wx + 9 * s * math.axes[i][0]), y(wy + 9 * s * math.axes[i][1])];
    const inner = svg("svg", { x: L, y: T, width: S, height: H, viewBox: `${L} ${T} ${S} ${H}` },
      svg("g", { class: "contours", fill: "none", stroke: "currentColor", "stroke-width": 0.8, opacity: 0.45, transform: `translate(${f(x(wx))} ${f(y(wy))}) rotate(${degrees.toFixed(3)})` },
        ...data.levels.map((level) => svg("ellipse", Object.fromEntries(math.lambdas.map((l, i) => ["rx ry".split(" ")[i], (scale * Math.sqrt((2 * level) / l)).toFixed(2)]))))),
      ...[0, 1].map((i) => svg("path", { d: `M${far(i, -1).map(f).join(" ")}L${far(i, 1).map(f).join(" ")}`, stroke: "currentColor", "stroke-dasharray": "1 4", opacity: 0.7 })),
      moving = svg("g"), svg("text", { class: "halo", x: x(wx) + 9, y: y(wy) + 15 }, "w"),
      svg("path", { d: `M${f(x(wx) - 6)} ${f(y(wy))}h12m-6 -6v12`, stroke: "currentColor", "stroke-width": 2.4 }));
    const ticks = [];
    for (let v = X0; v <= X1; v += 2) ticks.push(svg("text", { x: x(v), y: T + H + 15, "text-anchor": "middle" }, text(v, 0)));
    for (let v = Y0; v <= Y1; v += 2) ticks.push(svg("text", { x: L - 6, y: y(v) + (v === Y0 ? 0 : 4), "text-anchor": "end" }, text(v, 0)));
    plot.replaceChildren(svg("svg", { width: S + L + R, height: H + T + B, role: "img", "aria-label": "contours of the support loss, a long valley, and the path of the inner steps" },
      inner, svg("rect", { x: L, y: T, width: S, height: H, fill: "none", stroke: "currentColor", opacity: 0.5 }), ...ticks,
      svg("text", { x: L + S / 2, y: T + H + 30, "text-anchor": "middle" }, "φ₁ (rings: loss 1, 4, 9, 16, …)"), svg("text", { x: 2, y: T + 24 }, "φ₂")), start);
    track.replaceChildren(trackSvg = svg("svg", { width: S + L + R, height: 76, "aria-hidden": "true" }), knob);
  }

  function drawPath(wild) { // never told apart by colour alone: a line with dots, or a dashed line with squares
    const points = math.path(theta, rate, steps).map(([u, v]) => [clamp(x(u), -2e4, 2e4), clamp(y(v), -2e4, 2e4)]), [ex, ey] = points.at(-1);
    const inside = ex > L && ex < L + S && ey > T && ey < T + scale * (Y1 - Y0);
    fill(moving, { fill: `var(--${wild ? "wild" : "calm"})`, stroke: `var(--${wild ? "wild" : "calm"})`, class: wild ? "wild" : "calm" }, []);
    moving.replaceChildren(svg("path", { d: "M" + points.map((p) => p.map(f).join(" ")).join("L"), fill: "none", "stroke-width": 1.8, "stroke-dasharray": wild ? "6 4" : "none" }),
      ...points.slice(1).map(([u, v]) => (wild ? svg("rect", { x: f(u - 3), y: f(v - 3), width: 6, height: 6 }) : svg("circle", { cx: f(u), cy: f(v), r: 3.2 }))),
      svg("text", { class: "halo", x: f(x(theta[0]) - 14), y: f(y(theta[1]) - 14), "text-anchor": "middle" }, "θ"),
      ...(steps && inside ? [svg("text", { class: "halo", x: f(ex + 8), y: f(ey - 7) }, phi(steps))] : []));
    start.style.left = `${x(theta[0])}px`;
    start.style.top = `${y(theta[1])}px`;
  }

  function drawTrack() {
    const b = along(math.bound), ticks = [0, 1, 2, 3, 4].map((i) => (i * data.mostRate) / 4);
    trackSvg.replaceChildren(svg("path", { d: `M${L} ${TRACK}h${S}`, stroke: "currentColor", "stroke-width": 3, opacity: 0.5 }),
      ...ticks.map((v) => svg("text", { x: f(along(v)), y: TRACK + 32, "text-anchor": "middle" }, v.toFixed(1))),
      svg("text", { x: 2, y: TRACK + 4 }, "α"),
      ...(revealed ? [svg("g", { class: "bound" }, svg("path", { d: `M${f(b)} ${TRACK - 18}v36`, stroke: "var(--wild)", "stroke-width": 2.5, "stroke-dasharray": "5 3" }),
        svg("text", { x: f(b), y: TRACK - 24, "text-anchor": "middle" }, "2/λ", svg("tspan", { dy: 3, style: "font-size: 11px" }, "max"), svg("tspan", { dy: -3 }, ` = ${text(math.bound, 3)}`)))] : []));
    knob.style.left = `${along(rate)}px`;
    knob.style.top = `${TRACK}px`;
  }

  function drawStrip(factors) { // both factors on one line
    const W = width(), [low, high] = [-2, 1.2], at = (v) => 10 + ((clamp(v, low, high) - low) / (high - low)) * (W - 20);
    const anchor = (v) => (at(v) > W - 70 ? "end" : at(v) < 60 ? "start" : "middle");
    strip.replaceChildren(svg("svg", { width: W, height: 66, role: "img", "aria-label": "the factors of both directions on a line; between −1 and 1 the error shrinks" },
      svg("rect", { x: at(-1), y: 22, width: at(1) - at(-1), height: 16, fill: "currentColor", opacity: 0.18 }), svg("path", { d: `M10 30H${W - 10}`, stroke: "currentColor", opacity: 0.6 }),
      ...[-2, -1, 0, 1].map((v) => svg("text", { x: at(v), y: 62, "text-anchor": "middle" }, text(v, 0))),
      svg("text", { x: at(-0.5), y: 50, "text-anchor": "middle" }, "shrinks"),
      ...factors.map((v, i) => svg("g", { fill: `var(--${v <= -1 ? "wild" : "calm"})` }, mark(at(v), 30, i))),
      ...["● across", "■ along"].map((name, i) => svg("text", { x: at(factors[i]), y: i ? 50 : 15, "text-anchor": anchor(factors[i]) }, name))));
  }

  function update() {
    const factors = math.factors(rate), wild = factors[0] <= -1, phis = math.path(theta, rate, steps), last = phis.at(-1);
    revealed ||= wild;
    drawPath(wild);
    drawTrack();
    drawStrip(factors);
    rows.forEach(({ cells }, i) => {
      [text(math.lambdas[i]), text(factors[i]), text(factors[i] ** steps)].forEach((t, k) => { cells[k].textContent = t; });
    });
    power.textContent = `after ${steps} steps`;
    now.textContent = `α = ${text(rate, 3)}. Distance to w: ${text(math.distance(theta))} at θ, ${text(math.distance(last))} at ${phi(steps)}. ` +
      `Loss: ${text(math.loss(theta))}, then ${text(math.loss(last))}.`;
    const said = wild ? "Across the valley every step makes the error longer: no number of steps arrives."
      : rate === 0 ? "With α = 0 nothing moves." : factors[0] < 0 ? "The path jumps from side to side, and every jump is shorter than the one before." : "The error shrinks in both directions.";
    if (said !== verdict) status.textContent = verdict = said; // a screen reader speaks at the turns only
    shown.textContent = J.value = String(steps);
    J.setAttribute("aria-valuetext", `${steps} steps`);
    fill(knob, { "aria-valuenow": rate, "aria-valuetext": `α = ${text(rate, 3)}, factor ${text(factors[0])} across the valley` }, []);
    fill(start, { "aria-valuenow": theta[0].toFixed(2), "aria-valuetext": `${text(theta[0])}, ${text(theta[1])}` }, []);
  }

  layout();
  update();
  new ResizeObserver(() => { if (width() !== S) { layout(); update(); } }).observe(box);
}
