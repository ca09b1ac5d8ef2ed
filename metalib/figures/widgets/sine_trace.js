// The loss trace of chapter 1's figure: query error against meta-iteration, before and after the inner step.

function sineTrace(svg, floor) { // floor: the error of the average task, which no single function beats
  const TOP = 5, H = 120, L = 34, R = 8, T = 8, B = 34, node = svg("svg", { role: "img" });
  const LOOK = { before: { "stroke-width": 1.6, "stroke-dasharray": "4 3" }, after: { "stroke-width": 2.6 }, floor: { "stroke-width": 1.5, "stroke-dasharray": "1 4" } };
  const line = (name, d) => svg("path", { d, fill: "none", stroke: name === "floor" ? "currentColor" : "var(--c3)", ...LOOK[name] });
  const sample = (name) => svg("svg", { viewBox: "0 0 34 10", class: "sample", "aria-hidden": "true" }, line(name, "M1 5H33"));
  const text = (x, y, anchor, what) => svg("text", { x, y, "text-anchor": anchor }, what);

  function draw(trace, width) { // trace: [[before, after], ...], one pair for each meta-iteration
    const last = Math.max(100, trace.length), every = Math.ceil(trace.length / 300) || 1; // points to draw
    const px = (n) => L + (n / last) * (width - L - R), py = (error) => T + (1 - Math.min(error, TOP) / TOP) * (H - T - B);
    const curve = (which) => "M" + trace.map((pair, n) => [n + 1, pair[which]]).filter(([n]) => n % every === 0 || n === trace.length)
      .map(([n, error]) => `${px(n).toFixed(1)} ${py(error).toFixed(1)}`).join("L");
    node.setAttribute("viewBox", `0 0 ${width} ${H}`);
    node.setAttribute("aria-label", "query error against meta-iteration, before and after the inner step");
    node.replaceChildren(svg("path", { d: `M${L} ${T}V${H - B}H${width - R}`, fill: "none", stroke: "currentColor", opacity: 0.4 }),
      ...[0, 2, 4].map((v) => text(L - 6, py(v) + 4, "end", String(v))),
      text(L, H - B + 16, "middle", "0"), text(width - R, H - B + 16, "end", String(last)),
      text(L + 6, T + 10, "start", "query error"), text((L + width - R) / 2, H - 4, "middle", "meta-iteration"),
      line("floor", `M${L} ${py(floor)}H${width - R}`));
    if (trace.length > 1) node.append(line("before", curve(0)), line("after", curve(1)));
  }

  return { node, sample, draw };
}
