// The meta-loss over two parameters and three arrows at one point. Nothing is computed here: every number was computed
// by metalib in float64 (surface.py) and rounded to thousandths; the page looks up and draws.
function surface(root, data) {
  const [[A0, A1], [B0, B1]] = data.side, K = 1000;
  let steps = data.steps, at = data.start;

  const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  function fill(node, attributes, children) {
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    node.append(...children);
    return node;
  }
  const text = (x, digits = 2) => x.toFixed(digits).replace("-", "−");
  const near = (a, b) => data.starts.reduce((best, s, i) => {
    const d = (v) => (v[0] / K - a) ** 2 + (v[1] / K - b) ** 2;
    return d(s) < d(data.starts[best]) ? i : best;
  }, 0);

  const style = el("style");
  style.textContent = `
    .metalib-surface { --exact: #0072b2; --first: #c14f00; --difference: #111; --page: #fff; --sea: #0072b2; max-width: 720px; line-height: 1.4; }
    html[data-theme="dark"] .metalib-surface, body[data-jp-theme-light="false"] .metalib-surface
      { --exact: #4db4f0; --first: #f59a4c; --difference: #fff; --page: #121212; --sea: #4db4f0; }
    .metalib-surface .both { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; align-items: flex-start; }
    .metalib-surface svg { display: block; touch-action: none; cursor: crosshair; }
    .metalib-surface svg text { fill: currentColor; font-size: 12px; }
    .metalib-surface .side { flex: 1 1 15rem; min-width: 0; font-size: .9em; }
    .metalib-surface label { display: grid; grid-template-columns: 8.2em 1fr 2.6em; gap: .4rem; align-items: center; margin: .25rem 0; }
    .metalib-surface input[type=range] { width: 100%; min-width: 4rem; min-height: 1.8rem; accent-color: var(--exact); }
    .metalib-surface output { text-align: right; font-variant-numeric: tabular-nums; }
    .metalib-surface button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor;
      border-radius: 4px; padding: .3rem .7rem; min-height: 2.2rem; cursor: pointer; }
    .metalib-surface button:focus-visible, .metalib-surface input:focus-visible { outline: 3px solid var(--exact); outline-offset: 2px; }
    .metalib-surface table { border-collapse: collapse; width: 100%; margin: .5rem 0; color: inherit; background: none; }
    .metalib-surface th, .metalib-surface td { padding: .15rem .4rem .15rem 0; text-align: right; font-weight: normal; border: 0; color: inherit; background: none; }
    .metalib-surface th:first-child { text-align: left; white-space: nowrap; }
    .metalib-surface thead th { border-bottom: 1px solid currentColor; }
    .metalib-surface td { font-variant-numeric: tabular-nums; white-space: nowrap; }
    .metalib-surface .key { display: inline-block; width: 18px; vertical-align: middle; margin-right: 5px; border-top: 3px solid; }`;

  const range = (label, max, value, change) => {
    const input = el("input", { type: "range", min: 0, max, step: 1, "aria-label": label }), shown = el("output");
    input.value = value;
    input.addEventListener("input", () => { change(Number(input.value)); update(); });
    return { input, shown, row: el("label", {}, label, input, shown) };
  };
  const levels = (i) => [...new Set(data.starts.map((s) => s[i]))].sort((x, y) => x - y);
  const as = levels(0), bs = levels(1);
  const move = (a, b) => { at = near(a / K, b / K); };
  const J = range("inner steps J", data.byStep.length - 1, steps, (v) => { steps = v; });
  const a = range("start: amplitude a", as.length - 1, 0, (v) => move(as[v], data.starts[at][1]));
  const b = range("start: phase b", bs.length - 1, 0, (v) => move(data.starts[at][0], bs[v]));

  const size = (g) => Math.hypot(...g);
  const angle = (g, h) => (Math.acos(Math.max(-1, Math.min(1, (g[0] * h[0] + g[1] * h[1]) / (size(g) * size(h))))) * 180) / Math.PI;
  const clear = (g) => size(g) >= 0.05; // shorter than this, the rounding would show in its direction
  const grads = (J, i) => Object.fromEntries(["exact", "first", "differences"].map((k) => [k, data.byStep[J][k][i].map((v) => v / K)]));
  const worst = el("button", { type: "button" }, "go where they differ most");
  worst.addEventListener("click", () => {
    const turn = (i) => { const g = grads(steps, i); return clear(g.exact) && clear(g.first) ? angle(g.exact, g.first) : 0; };
    at = data.starts.reduce((best, _, i) => (turn(i) > turn(best) ? i : best), 0);
    update();
  });

  const ARROWS = [["exact", "exact", "--exact"], ["first", "first-order", "--first"], ["differences", "finite diff.", "--difference"]];
  const rows = ARROWS.map(([key, name, colour]) => {
    const cells = [0, 1, 2, 3].map(() => el("td"));
    const swatch = el("span", { class: "key", style: `border-color:var(${colour});border-top-style:${key === "differences" ? "dashed" : "solid"}` });
    return { key, cells, row: el("tr", { "data-arrow": key }, el("th", { scope: "row" }, swatch, name), ...cells) };
  });
  const head = ["gradient", "∂a", "∂b", "length", "angle"].map((t) => el("th", { scope: "col" }, t));
  const loss = el("div", { class: "loss", "aria-live": "polite" }), plot = el("div");
  const box = el("div", { class: "metalib-surface" }, style, el("div", { class: "both" }, plot,
    el("div", { class: "side" }, J.row, a.row, b.row, worst,
      el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows.map((r) => r.row))), loss)));
  root.replaceChildren(box);

  let S, px, py, regions, tracks, lines, dot;
  const L = 34, T = 8, B = 36, R = 8;
  const width = () => Math.max(250, Math.min(400, (box.clientWidth || 400) - L - R));
  function layout() { // in real pixels, so that text keeps its size on a phone
    S = width();
    px = (v) => ((v - B0) / (B1 - B0)) * S;
    py = (v) => ((A1 - v) / (A1 - A0)) * S;
    const picture = svg("svg", { width: S + L + R, height: S + T + B, role: "img", "aria-label": "contours of the meta-loss, and the three downhill arrows at the start" });
    const inner = svg("svg", { x: L, y: T, width: S, height: S, style: "overflow:hidden" });
    inner.append(regions = svg("g", { fill: "var(--sea)", "fill-opacity": 0.09, "fill-rule": "evenodd", stroke: "var(--sea)", "stroke-width": 0.8, "stroke-opacity": 0.6 }));
    inner.append(tracks = svg("g", { fill: "currentColor", stroke: "currentColor", "stroke-width": 1.1, "stroke-opacity": 0.75 }));
    data.waves.forEach(([wa, wb], t) => inner.append(
      svg("path", { d: `M${px(wb) - 5} ${py(wa) - 5}l10 10m0-10l-10 10`, stroke: "currentColor", "stroke-width": 2 }),
      svg("text", { x: px(wb) + 8, y: py(wa) - 6 }, `task ${t + 1}`)));
    inner.append(lines = svg("g"), dot = svg("circle", { r: 6.5, fill: "currentColor", stroke: "var(--page)", "stroke-width": 1.5 }));
    picture.append(inner, svg("rect", { x: L, y: T, width: S, height: S, fill: "none", stroke: "currentColor", opacity: 0.5 }));
    for (let i = 0; i <= 4; i++) {
      const va = A0 + (i * (A1 - A0)) / 4, vb = B0 + (i * (B1 - B0)) / 4;
      picture.append(svg("text", { x: L + px(vb), y: T + S + 15, "text-anchor": "middle" }, text(vb, 0)),
        svg("text", { x: L - 6, y: T + py(va) + 4, "text-anchor": "end" }, text(va, 0)));
    }
    picture.append(svg("text", { x: L + S / 2, y: T + S + 31, "text-anchor": "middle" }, "phase b (radians)"),
      svg("text", { x: 11, y: T + S / 2, "text-anchor": "middle", transform: `rotate(-90 11 ${T + S / 2})` }, "amplitude a"));
    const pick = (e) => {
      const r = picture.getBoundingClientRect();
      at = near(A1 - ((e.clientY - r.top - T) / S) * (A1 - A0), B0 + ((e.clientX - r.left - L) / S) * (B1 - B0));
      update();
    };
    picture.addEventListener("pointerdown", (e) => { picture.setPointerCapture(e.pointerId); pick(e); });
    picture.addEventListener("pointermove", (e) => { if (picture.hasPointerCapture(e.pointerId)) pick(e); });
    plot.replaceChildren(picture);
  }

  function arrow(x, y, dx, dy, colour, width, dash) {
    const n = Math.hypot(dx, dy) || 1, h = Math.min(n, 5 + 2 * width), ux = dx / n, uy = dy / n, tx = x + dx, ty = y + dy;
    const bx = tx - h * ux, by = ty - h * uy, w = 2.5 + 1.1 * width, f = (v) => v.toFixed(1);
    return svg("g", { stroke: `var(${colour})`, fill: dash ? "none" : `var(${colour})` },
      svg("path", { d: `M${f(x)} ${f(y)}L${f(bx)} ${f(by)}`, "stroke-width": width, "stroke-dasharray": dash || "none" }),
      svg("path", { d: `M${f(bx - w * uy)} ${f(by + w * ux)}L${f(tx)} ${f(ty)}L${f(bx + w * uy)} ${f(by - w * ux)}${dash ? "" : "Z"}`, "stroke-width": dash ? width : 1 }));
  }

  function update() {
    const [sa, sb] = data.starts[at].map((v) => v / K), x = px(sb), y = py(sa), g = grads(steps, at);
    regions.replaceChildren(...data.byStep[steps].regions.map((rings) => svg("path", {
      d: rings.map((r) => { let d = ""; for (let i = 0; i < r.length; i += 2) d += `${i ? "L" : "M"}${px(r[i] / 100).toFixed(1)} ${py(r[i + 1] / 100).toFixed(1)}`; return d + "Z"; }).join(""),
    })));
    tracks.replaceChildren(...data.paths[at].flatMap((path) => {
      const points = path.slice(0, steps + 1).map(([pa, pb]) => [px(pb / K).toFixed(1), py(pa / K).toFixed(1)]);
      return [svg("path", { d: "M" + points.map((p) => p.join(" ")).join("L"), fill: "none" }),
        ...points.slice(1).map(([cx, cy]) => svg("circle", { cx, cy, r: 2.6, stroke: "none" }))];
    }));
    const longest = Math.max(...ARROWS.map(([k]) => size(g[k])), 1e-9), scale = (0.26 * S) / longest;
    lines.replaceChildren(...ARROWS.map(([k, , colour], i) => arrow(x, y, -g[k][1] * scale, g[k][0] * scale, colour, [6, 3, 1.6][i], i === 2 ? "5 4" : "")));
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    rows.forEach(({ key, cells }) => {
      const v = g[key], turn = clear(v) && clear(g.exact) ? `${Math.round(angle(v, g.exact))}°` : "–";
      [text(v[0]), text(v[1]), text(size(v)), turn].forEach((t, i) => { cells[i].textContent = t; });
    });
    J.shown.textContent = J.input.value = String(steps);
    a.input.value = as.indexOf(data.starts[at][0]);
    b.input.value = bs.indexOf(data.starts[at][1]);
    a.shown.textContent = text(sa, 1);
    b.shown.textContent = text(sb, 1);
    [[a, sa], [b, sb]].forEach(([r, v]) => r.input.setAttribute("aria-valuetext", text(v, 1)));
    loss.textContent = `meta-loss here after ${steps} inner ${steps === 1 ? "step" : "steps"}: ${text(data.byStep[steps].loss[at] / K)}`;
  }

  layout();
  update();
  new ResizeObserver(() => { if (width() !== S) { layout(); update(); } }).observe(box);
}
