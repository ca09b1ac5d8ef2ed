// Support points, the means of their classes, and the cells of the nearest mean: drag a point, and the cells move.
// The arithmetic (cellsMath) is compared with metalib's in tests/test_widget_cells.py.

// A network's points arrive packed, as 64-bit floats: tau, the sides, the star, then a pair for every point and every query.
function cellsData({ packed, labels, queries, ...rest }) { // queries: their classes; what comes out is [x, y, class]
  const numbers = [...new Float64Array(Uint8Array.from(atob(packed.split(",")[1]), (c) => c.charCodeAt(0)).buffer)];
  const pairs = Array.from({ length: (numbers.length - 1) / 2 }, (_, i) => numbers.slice(2 * i + 1, 2 * i + 3));
  const points = pairs.slice(3, 3 + labels.length), others = pairs.slice(3 + labels.length);
  return { ...rest, labels, tau: numbers[0], sides: pairs.slice(0, 2), star: pairs[2], points, queries: others.map((p, i) => [...p, queries[i]]) };
}

function cellsMath({ classes, tau }) { // a point is [x, y]; a site is { n, at, of }: its class, its place, whose mean it is
  const away = ([a, b], [c, d]) => (a - c) ** 2 + (b - d) ** 2;
  const all = [...Array(classes).keys()];
  function mean(points, of) {
    return [0, 1].map((k) => of.reduce((sum, i) => sum + points[i][k], 0) / of.length);
  }
  const scatter = (points, of) => { const m = mean(points, of); return of.reduce((sum, i) => sum + away(points[i], m), 0); };
  function halves(points, of) { // the two groups with the smallest squared distances to their means: all splits are tried
    let best = null, least = Infinity;
    for (let bits = 1; bits < 2 ** (of.length - 1); bits++) {
      const groups = [1, 0].map((side) => of.filter((_, k) => ((bits >> k) & 1) === side));
      const now = groups.reduce((sum, group) => sum + scatter(points, group), 0);
      if (now < least) [best, least] = [groups, now];
    }
    return best;
  }
  function sites(points, labels, kind) { // kind: "one" mean a class, "two" for class 0, every "example"
    const site = (n, of) => ({ n, of, at: mean(points, of) });
    return all.flatMap((n) => {
      const of = [...labels.keys()].filter((i) => labels[i] === n);
      const groups = kind === "example" ? of.map((i) => [i]) : kind === "two" && n === 0 ? halves(points, of) : [of];
      return groups.map((group) => site(n, group));
    });
  }
  function softmax(scores) {
    const top = Math.max(...scores), e = scores.map((s) => Math.exp(s - top)), sum = e.reduce((a, b) => a + b);
    return e.map((v) => v / sum);
  }
  // By distance: of a class's sites the nearest counts. By the linear layer w_n . z + b_n, which one mean a class writes.
  const near = (z, sites) => all.map((n) => Math.min(...sites.filter((s) => s.n === n).map((s) => away(z, s.at))));
  const byDistance = (z, sites) => softmax(near(z, sites).map((d) => -tau * d));
  const byLayer = ([x, y], sites) => softmax(sites.map(({ at: [a, b] }) => tau * (2 * (a * x + b * y) - (a * a + b * b))));
  const nearest = (z, sites) => { const d = near(z, sites); return d.indexOf(Math.min(...d)); };

  // The cell of site i: what is left of the rectangle when it is cut by the line halfway to every other site. Each corner
  // is [x, y, j]: the side that begins there lies halfway to site j, or on the frame (-1).
  function cell(sites, i, [[x0, x1], [y0, y1]]) {
    let corners = [[x0, y0, -1], [x1, y0, -1], [x1, y1, -1], [x0, y1, -1]];
    const [a, b] = sites[i].at;
    sites.forEach(({ at: [c, d] }, j) => {
      if (j === i) return;
      const u = 2 * (c - a), v = 2 * (d - b), offset = c * c + d * d - a * a - b * b;
      if (u === 0 && v === 0) return void (corners = j < i ? [] : corners); // two sites at one place: the first has the cell
      const over = ([x, y]) => u * x + v * y - offset; // above zero: nearer to j
      corners = corners.flatMap((p, k) => {
        const q = corners[(k + 1) % corners.length], s = over(p), t = over(q), kept = s <= 0 ? [p] : [];
        if (s <= 0 === t <= 0) return kept;
        const w = s / (s - t), cut = [p[0] + w * (q[0] - p[0]), p[1] + w * (q[1] - p[1])];
        return [...kept, [...cut, s <= 0 ? j : p[2]]];
      });
    });
    return corners;
  }
  return { sites, byDistance, byLayer, nearest, cell };
}

function cells(root, given) {
  const data = cellsData(given);
  const math = cellsMath(data), { labels, names, queries, sides } = data, [[X0, X1], [Y0, Y1]] = sides, toy = !queries.length;
  const KINDS = [["one", "one mean a class"], ["two", `two means for the ${names[0]}`], ["example", "the nearest example"]];
  let points, star, kind, touched;
  const begin = () => { points = data.points.map((p) => [...p]); star = [...data.star]; kind = "one"; touched = false; };
  begin();
  const first = math.sites(points, labels, kind), lostAtFirst = queries.filter((q) => math.nearest(q, first) !== q[2]).length;

  const clamp = (v, low, high) => Math.max(low, Math.min(high, v)), f = (v) => v.toFixed(2);
  const text = (v, digits = 1) => v.toFixed(digits).replaceAll("-", "−");

  const style = el("style");
  style.textContent = `
    .metalib-cells { --c0: #0072b2; --c1: #b35c00; --c2: #007a59; --page: #fff; max-width: 760px; line-height: 1.4; }
    html[data-theme="dark"] .metalib-cells, body[data-jp-theme-light="false"] .metalib-cells
      { --c0: #5cbcf5; --c1: #ffa94d; --c2: #3ecf9f; --page: #121212; color-scheme: dark; }
    .metalib-cells .both { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; }
    .metalib-cells .run { flex: 0 1 400px; min-width: 0; }
    .metalib-cells .side { flex: 1 1 18rem; font-size: .9em; }
    .metalib-cells .plot { position: relative; user-select: none; -webkit-user-select: none; }
    .metalib-cells svg { display: block; }
    .metalib-cells .handle { position: absolute; width: 36px; height: 36px; margin: -18px 0 0 -18px; border-radius: 50%; cursor: grab; touch-action: none; }
    .metalib-cells .handle.star { width: 44px; height: 44px; margin: -22px 0 0 -22px; }
    .metalib-cells :is(.handle, button, input):focus-visible { outline: 3px solid currentColor; outline-offset: -4px; }
    .metalib-cells p { margin: .3rem 0; }
    .metalib-cells .status { min-height: 4.2em; }
    .metalib-cells fieldset { border: 0; margin: .3rem 0; padding: 0; min-width: 0; }
    .metalib-cells legend { font-size: 1em; float: none; width: auto; margin: 0; padding: 0; }
    .metalib-cells fieldset label { display: flex; gap: .5rem; align-items: center; min-height: 2rem; cursor: pointer; }
    .metalib-cells input { accent-color: var(--c0); margin: 0; width: 1.5rem; height: 1.5rem; flex: none; }
    .metalib-cells button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor;
      border-radius: 4px; padding: .3rem .8rem; min-height: 2.2rem; cursor: pointer; margin: .4rem 0; }
    .metalib-cells .key { display: inline-block; width: 14px; height: 14px; vertical-align: -2px; margin-right: 5px; }
    .metalib-cells table { border-collapse: collapse; width: 100%; margin: .3rem 0; font-size: 1em; color: inherit; background: none; border: 0; }
    .metalib-cells caption { caption-side: top; text-align: left; color: inherit; font-size: 1em; padding: 0; font-style: normal; }
    .metalib-cells :is(th, td) { padding: .15rem .4rem .15rem 0; text-align: right; font-weight: normal; border: 0; color: inherit; background: none; }
    .metalib-cells td { font-variant-numeric: tabular-nums; white-space: nowrap; }
    .metalib-cells th:first-child { text-align: left; }
    .metalib-cells thead :is(th, td) { border-bottom: 1px solid currentColor; vertical-align: bottom; }
    .metalib-cells .layer { white-space: nowrap; }
    .metalib-cells .bar { width: 4.5rem; }
    .metalib-cells .bar > div { height: .8em; min-width: 1px; }`;

  const colour = (n) => `var(--c${n})`;
  const STAR = Array.from({ length: 10 }, (_, k) => [(k % 2 ? 0.42 : 1) * Math.sin((Math.PI * k) / 5), (k % 2 ? -0.42 : -1) * Math.cos((Math.PI * k) / 5)]);
  const outline = (corners) => `M${corners.map((p) => p.map(f).join(" ")).join("L")}Z`;
  function mark(n, u, v, r, attributes = {}) { // a class is a shape as well as a colour
    const look = { fill: colour(n), ...attributes };
    if (n === 0) return svg("circle", { cx: f(u), cy: f(v), r, ...look });
    if (n === 1) return svg("rect", { x: f(u - 0.88 * r), y: f(v - 0.88 * r), width: 1.76 * r, height: 1.76 * r, ...look });
    return svg("path", { d: outline([[u, v - 1.2 * r], [u + 1.1 * r, v + 0.8 * r], [u - 1.1 * r, v + 0.8 * r]]), ...look });
  }

  // --- The controls --------------------------------------------------------------------------------------------------

  let scale, W, H; // pixels for a unit, and the size of the plane
  const x = (v) => (v - X0) * scale, y = (v) => (Y1 - v) * scale;
  const plot = el("div", { class: "plot" }), all = () => [...points, star];
  const at = (e) => { const r = plot.getBoundingClientRect(); return [X0 + (e.clientX - r.left) / scale, Y1 - (e.clientY - r.top) / scale]; };
  function go(i, [u, v]) {
    const to = [clamp(u, X0, X1), clamp(v, Y0, Y1)];
    if (i === points.length) star = to; else { points[i] = to; touched = true; }
    update();
  }

  // A handle is an HTML element, because Chromium ignores touch-action on a part of an SVG; beside it a finger scrolls.
  const one = names.map((name) => name.replace(/s$/, ""));
  let held = -1, off = [0, 0]; // the point that is drawn along: where handles overlap, the nearest
  const handles = all().map((_, i) => {
    const mine = labels.slice(0, i).filter((n) => n === labels[i]).length + 1, many = labels.filter((n) => n === labels[i]).length;
    const label = i === points.length ? "query, a star" : `${one[labels[i]]} ${mine} of ${many}`;
    const node = el("div", { class: i === points.length ? "handle star" : "handle", role: "slider", tabindex: 0, "aria-label": `${label}: the arrow keys move it`,
      "aria-valuemin": X0, "aria-valuemax": X1 });
    node.addEventListener("pointerdown", (e) => {
      if (!e.isPrimary || e.button) return;
      const here = at(e), far = all().map(([u, v]) => Math.hypot(u - here[0], v - here[1]));
      held = far.indexOf(Math.min(...far));
      off = all()[held].map((v, k) => v - here[k]); // it does not jump under the finger
      node.setPointerCapture(e.pointerId);
      handles[held].focus({ preventScroll: true });
      e.preventDefault();
    });
    node.addEventListener("pointermove", (e) => { if (held >= 0 && node.hasPointerCapture(e.pointerId)) go(held, at(e).map((v, k) => v + off[k])); });
    node.addEventListener("lostpointercapture", () => { held = -1; });
    node.addEventListener("keydown", (e) => {
      const d = ((X1 - X0) / 100) * (e.shiftKey ? 10 : 1), by = { ArrowLeft: [-d, 0], ArrowRight: [d, 0], ArrowUp: [0, d], ArrowDown: [0, -d] }[e.key];
      if (!by) return;
      e.preventDefault();
      go(i, all()[i].map((v, k) => v + by[k]));
    });
    return node;
  });

  const group = `cells-${Math.random().toString(36).slice(2)}`; // two figures on a page have radio buttons of their own
  const radios = KINDS.map(([value, label]) => {
    const input = el("input", { type: "radio", name: group, value });
    input.addEventListener("change", () => { kind = value; update(); });
    return { input, label: el("label", {}, input, label) };
  });
  const again = el("button", { type: "button" }, "start again");
  again.addEventListener("click", () => { begin(); update(); });

  const rows = names.map((name, n) => {
    const bar = el("div", { style: `background: ${colour(n)}` }), cells = [el("td"), el("td")];
    const key = svg("svg", { class: "key", viewBox: "0 0 14 14", "aria-hidden": "true" }, mark(n, 7, 7, 5.5));
    return { bar, cells, row: el("tr", {}, el("th", { scope: "row" }, key, name), el("td", { class: "bar", "aria-hidden": "true" }, bar), ...cells) };
  });
  const status = el("p", { class: "status", role: "status" }), difference = el("p", { class: "difference" });
  const table = el("table", {}, el("caption", {}, "Probabilities of the star ★"), el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "class"),
    el("td", {}), ...["by distance", "by layer"].map((t) => el("th", { scope: "col" }, t)))), el("tbody", {}, ...rows.map((r) => r.row)));
  const box = el("div", { class: "metalib-cells" }, style, el("p", {}, data.question), el("div", { class: "both" }, el("div", { class: "run" }, plot, status),
    el("div", { class: "side" }, ...(toy ? [el("fieldset", {}, el("legend", {}, "a query belongs to the class of"), ...radios.map((r) => r.label))] : []), table, difference, again)));
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // or JupyterLab takes the handles' arrow keys
  root.replaceChildren(box);

  // --- The picture ---------------------------------------------------------------------------------------------------

  const width = () => clamp(box.clientWidth || 370, 260, 400);
  let picture;
  function layout() { // in real pixels
    W = width();
    scale = W / (X1 - X0);
    H = (Y1 - Y0) * scale;
    plot.style.width = `${W}px`;
    plot.replaceChildren(picture = svg("svg", { width: W, height: H, role: "img", "aria-label": "a plane with the examples of three classes, and the cells that the classes have in it" }), ...handles);
  }

  function draw(sites, wrong) {
    const at = (p) => [x(p[0]), y(p[1])], borders = [], shades = [], page = { stroke: "var(--page)", "stroke-width": 1.5 };
    sites.forEach((site, i) => {
      const corners = math.cell(sites, i, sides);
      if (!corners.length) return;
      shades.push(svg("path", { class: "cell", "data-class": site.n, d: outline(corners.map(at)), fill: colour(site.n), opacity: 0.24 }));
      corners.forEach((p, k) => { // between two cells of one class there is no border
        if (p[2] > i && sites[p[2]].n !== site.n) borders.push(`M${at(p).map(f).join(" ")}L${at(corners[(k + 1) % corners.length]).map(f).join(" ")}`);
      });
    });
    const spokes = sites.flatMap((s) => s.of.map((i) => svg("path", { d: `M${at(points[i]).map(f).join(" ")}L${at(s.at).map(f).join(" ")}`, stroke: colour(s.n), opacity: 0.8 })));
    const big = kind === "example" ? [] : sites.map((s) => mark(s.n, ...at(s.at), 10, { class: "mean", stroke: "currentColor", "stroke-width": 2 }));
    const small = queries.map((q) => mark(q[2], ...at(q), 3.2, { opacity: 0.85, class: "query" }));
    const rings = wrong.map((p) => svg("circle", { class: "wrong", cx: f(x(p[0])), cy: f(y(p[1])), r: 9, fill: "none", stroke: "currentColor", "stroke-width": 1.6 }));
    picture.replaceChildren(...shades, svg("path", { class: "border", d: borders.join(""), stroke: "currentColor", "stroke-width": 1.6 }), ...spokes, ...small, ...big,
      ...points.map((p, i) => mark(labels[i], ...at(p), 6, page)), ...rings,
      svg("path", { d: outline(STAR.map(([u, v]) => [x(star[0]) + 11 * u, y(star[1]) + 11 * v])), fill: "currentColor", ...page }),
      svg("rect", { x: 0.5, y: 0.5, width: W - 1, height: H - 1, fill: "none", stroke: "currentColor", opacity: 0.5 }));
  }

  function say(sites, wrong) {
    const judged = toy ? `${points.length} examples` : `${queries.length} queries`, lost = wrong.length;
    const counted = `${lost} of ${judged} ${lost === 1 ? "lies" : "lie"} in another class’s cell${lost ? ", ringed" : ""}.`;
    if (!touched) return `${counted} ${data.invite}`;
    if (!toy) return `${counted} At the start it was ${lostAtFirst}.`;
    if (kind === "example") return `${counted} It could not be otherwise: an example is its own nearest. The border may bend.`;
    if (kind === "two") return `${counted} The ${names[0]} have two cells: the split with the least scatter.`;
    return `${counted}${lost ? ` Now try two means for the ${names[0]}.` : ""}`;
  }

  let said = "";
  function update() {
    const sites = math.sites(points, labels, kind), judged = toy ? points.map((p, i) => [...p, labels[i]]) : queries;
    const wrong = judged.filter((q) => math.nearest(q, sites) !== q[2]);
    draw(sites, wrong);
    all().forEach((p, i) => {
      const cell = names[math.nearest(p, sites)];
      Object.assign(handles[i].style, { left: `${x(p[0])}px`, top: `${y(p[1])}px` });
      fill(handles[i], { "aria-valuenow": p[0].toFixed(2), "aria-valuetext": `${text(p[0])}, ${text(p[1])}, in the cell of the ${cell}` }, []);
    });
    const p = math.byDistance(star, sites), q = kind === "one" ? math.byLayer(star, sites) : null;
    rows.forEach(({ bar, cells, row }, n) => {
      bar.style.width = `${100 * p[n]}%`;
      row.setAttribute("data-p", p[n]);
      cells[0].textContent = text(p[n], 4);
      cells[1].textContent = q ? text(q[n], 4) : "none";
    });
    const layer = el("span", { class: "layer" }, data.tau === 1 ? "2cₙ · z − |cₙ|²." : "τ (2cₙ · z − |cₙ|²).");
    difference.replaceChildren(...(q ? [`Largest difference: ${Math.max(...p.map((v, n) => Math.abs(v - q[n]))).toExponential(0).replace("e+0", "").replace("-", "−")}. The layer is `, layer]
      : ["With more than one point a class, the nearest of them counts, and no linear layer of z says the same."]));
    radios.forEach(({ input }) => { input.checked = input.value === kind; });
    const now = say(sites, wrong);
    if (now !== said) status.textContent = said = now; // a screen reader speaks at the turns only
  }

  layout();
  update();
  new ResizeObserver(() => { if (width() !== W) { layout(); update(); } }).observe(box);
}
