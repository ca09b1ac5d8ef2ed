function alphabet(root, data) {
  "use strict";
  root.setAttribute("data-lm-suppress-shortcuts", "true");  // JupyterLab: the digits are ours
  const SIZE = data.size, math = network(data);
  const names = n => `sign ${n + 1}`, percent = p => p < 0.005 ? "under 1 %" : p > 0.995 ? "over 99 %" : `${(100 * p).toFixed(0)} %`;
  let signs, ways = 5, target, strokes, pen, told, random = 1, waiting = false;  // target: the sign to draw; null: guess
  const tally = {right: 0, of: 0};

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key === "on") element.addEventListener("click", value);
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }
  const button = (label, on, more) => make("button", {type: "button", on, ...more}, label);

  const pad = make("canvas", {class: "ma-pad", width: 480, height: 480, role: "img", "aria-label": "the pad to draw on"});
  const seen = make("canvas", {class: "ma-seen", width: SIZE, height: SIZE, role: "img",
    "aria-label": `the drawing as the network sees it, ${SIZE} by ${SIZE} pixels`});
  const live = make("p", {class: "ma-live", role: "status", "aria-live": "polite"});
  // Focus goes to and fro between these two, so that Enter alone fills an alphabet with samples.
  const keep = button("", () => { if (keepAs(target)) sample.focus({preventScroll: true}); }, {class: "ma-main"});
  const undo = button("Undo stroke", () => { strokes.pop(); drawn(true); });
  const clear = button("Clear", () => { strokes = []; drawn(true); });
  const sample = button("Draw a sample", () => { strokes = sampled(); drawn(true); if (target !== null) keep.focus({preventScroll: true}); });
  const more = button("", () => { ways = ways === 5 ? 10 : 5; signs.length = Math.min(signs.length, ways); fill(); next(); });
  const again = button("Start over", begin);
  const grid = make("div", {class: "ma-signs", role: "group", "aria-label": "your signs"});
  const score = make("p", {class: "ma-score"});
  root.replaceChildren(make("style", {}, STYLE), make("p", {}, make("strong", {}, data.title)),
    ...(data.intro ? [make("p", {}, data.intro)] : []), live,
    make("div", {class: "ma-desk"}, pad, make("div", {class: "ma-side"}, make("span", {}, "The network sees"), seen, keep)),
    make("div", {class: "ma-tools"}, undo, clear, sample), grid, score,
    make("div", {class: "ma-tools"}, more, again), ...data.scores.map(text => make("p", {class: "ma-note"}, text)));
  const ink = pad.getContext("2d");

  function fill() { while (signs.length < ways) signs.push({shots: [], sample: null}); }

  function begin() {
    signs = [];
    Object.assign(tally, {right: 0, of: 0});
    told = "";
    fill();
    next();
  }

  function next(said) {  // the first sign without a drawing is drawn next; when there is none, the network guesses
    const empty = signs.findIndex(sign => !sign.shots.length);
    target = empty < 0 ? null : empty;
    strokes = [];
    told = said || "";
    drawn(true);
  }

  function keepAs(n) {
    if (n === null || !strokes.length) return false;
    const image = math.raster(strokes);
    signs[n].shots.push({image, z: math.encode(image)});
    if (strokes.sample !== undefined) signs[n].sample = strokes.sample;
    next();
    return true;
  }

  function press(n) {  // with a guess on the table: "it was this one"; else: draw this sign (once more)
    if (target === null && strokes.length) {
      const image = math.raster(strokes), p = guess(image), best = p.indexOf(Math.max(...p));
      tally.of++;
      tally.right += best === n;
      signs[n].shots.push({image, z: math.encode(image)});
      next(`${best === n ? "Right ✓" : `Wrong ✗: it said ${best + 1}, you meant ${n + 1}`}. The drawing joins sign ${n + 1}, ` +
        `which now has ${signs[n].shots.length}.`);
    } else {
      target = n;
      told = "";
      drawn(true);
    }
    grid.children[n].focus({preventScroll: true});
  }

  function guess(image) { return math.confidence(signs.map(sign => sign.shots.map(shot => shot.z)), math.encode(image)); }

  function drawn(done) {  // after every change of the pad; `done`: and say it, the pen is up
    waiting = false;
    ink.clearRect(0, 0, 480, 480);
    Object.assign(ink, {lineWidth: 14, lineCap: "round", lineJoin: "round", strokeStyle: "#111"});
    for (const stroke of strokes) {
      ink.beginPath();
      stroke.forEach(([x, y], i) => i ? ink.lineTo(480 * x, 480 * y) : ink.moveTo(480 * x, 480 * y));
      if (stroke.length === 1) ink.lineTo(480 * stroke[0][0], 480 * stroke[0][1]);
      ink.stroke();
    }
    const image = strokes.length ? math.raster(strokes) : new Float32Array(SIZE * SIZE);
    const p = target === null && strokes.length ? guess(image) : null;
    paint(seen, image);
    show(p);
    if (done) say(p);
  }

  function show(p) {
    const best = p ? p.indexOf(Math.max(...p)) : -1;
    while (grid.children.length > ways) grid.lastChild.remove();
    while (grid.children.length < ways) {
      const n = grid.children.length;
      grid.append(make("button", {type: "button", class: "ma-sign", on: () => press(n)}, make("canvas", {width: SIZE, height: SIZE,
        "aria-hidden": "true"}), make("span", {class: "ma-name"}), make("span", {class: "ma-bar", "aria-hidden": "true"}, make("i")),
        make("span", {class: "ma-p"})));
    }
    signs.forEach((sign, n) => {
      const slot = grid.children[n], [canvas, name, bar, text] = slot.children, k = sign.shots.length;
      paint(canvas, k ? sign.shots[k - 1].image : new Float32Array(SIZE * SIZE));
      name.textContent = `${n + 1}${k > 1 ? ` ×${k}` : ""}${n === best ? " ✓" : ""}`;
      bar.firstChild.style.width = p ? `${100 * p[n]}%` : "0";
      text.textContent = p ? percent(p[n]).replace("under ", "<").replace("over ", ">") : "\u00a0";
      slot.classList.toggle("ma-best", n === best);
      slot.classList.toggle("ma-target", n === target);
      slot.setAttribute("aria-label", `${names(n)}, ${k === 1 ? "1 drawing" : `${k} drawings`}` + (p ? `, ${percent(p[n])}: I meant this one`
        : n === target ? ", drawn now" : ": draw it"));
    });
    keep.hidden = target === null;
    keep.textContent = target === null ? "" : `Keep as ${target + 1}`;
    for (const tool of [keep, undo, clear]) tool.setAttribute("aria-disabled", String(!strokes.length));
    more.textContent = ways === 5 ? "Ten signs" : "Five signs";
    score.textContent = tally.of ? `Right so far: ${tally.right} of ${tally.of}.` : "";
  }

  function say(p) {
    const best = p ? p.indexOf(Math.max(...p)) : -1, known = target !== null && signs[target].shots.length;
    live.textContent = p ? `It is sign ${best + 1} (${percent(p[best])}). Was it? Press the sign that you meant.`
      : target === null ? `${told} ${told ? "Draw another" : `Now draw one of the ${ways} again`}; or press a sign to add a drawing to it.`.trim()
      : known ? `Draw sign ${target + 1} once more, and keep it: its prototype is the mean of its drawings.`
      : `Draw sign ${target + 1} of ${ways}, anything you like, and keep it.`;
  }

  function paint(canvas, image) {
    const context = canvas.getContext("2d"), pixels = context.createImageData(SIZE, SIZE);
    image.forEach((v, i) => pixels.data.set([255 - 238 * v, 255 - 238 * v, 255 - 238 * v, 255], 4 * i));
    context.putImageData(pixels, 0, 0);
  }

  function sampled() {  // a sample sign, bent a little differently each time
    const uniform = () => { random = (random * 48271) % 2147483647; return random / 2147483647; };
    const mine = signs.map(sign => sign.sample).filter(s => s !== null);
    const which = target === null ? (mine.length ? mine[Math.floor(uniform() * mine.length)] : Math.floor(uniform() * data.samples.length))
      : signs[target].sample ?? target % data.samples.length;
    const r = () => 2 * uniform() - 1, turn = 0.2 * r(), slant = 0.25 * r(), stretch = 0.15 * r(), bend = 5 * r(), wave = 5 * r(), at = 6 * uniform();
    const found = data.samples[which].map(stroke => stroke.flatMap(([x, y], i) => i ? between(stroke[i - 1], [x, y]) : [[x, y]]).map(([x, y]) => {
      const u = (x - 50) * (1 + stretch) + slant * (y - 50) + bend * Math.sin(at + y / 20), v = (y - 50) * (1 - stretch) + wave * Math.sin(at + x / 20);
      return [0.5 + 0.0065 * (u * Math.cos(turn) - v * Math.sin(turn)), 0.5 + 0.0065 * (u * Math.sin(turn) + v * Math.cos(turn))];
    }));
    return Object.assign(found, {sample: which});
  }
  const between = ([ax, ay], [bx, by]) => Array.from({length: 8}, (_, k) => [ax + (bx - ax) * (k + 1) / 8, ay + (by - ay) * (k + 1) / 8]);

  // The pen: mouse, finger or stylus. A finger on the pad draws (touch-action: none), beside it the page scrolls.
  const where = event => {
    const box = pad.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  pad.addEventListener("pointerdown", event => {
    if (pen !== undefined || event.button) return;  // one pen at a time: a resting palm does not draw
    pen = event.pointerId;
    pad.setPointerCapture(pen);
    event.preventDefault();
    delete strokes.sample;
    strokes.push([where(event)]);
    drawn(false);
  });
  pad.addEventListener("pointermove", event => {
    if (event.pointerId !== pen) return;
    for (const e of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) strokes.at(-1).push(where(e));
    if (!waiting) requestAnimationFrame(() => { if (waiting) drawn(false); });
    waiting = true;
  });
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, event => {
    if (event.pointerId !== pen) return;
    pen = undefined;
    drawn(true);
  });

  root.addEventListener("keydown", event => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.key.length !== 1) return;
    const n = "1234567890".indexOf(event.key);
    if (n < 0 || n >= ways) return;
    event.preventDefault();
    press(n);
  });

  root.alphabet = math;
  begin();
}

function network(data) {  // ProtoNet(conv4(norm="group")) for one image at a time, in float64
  const {size: SIZE, side, pen, fine, small, groups, channels: C} = data;
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer;
  const blocks = data.blocks.map(({w, s}) => {
    const numbers = new Float32Array(bytes(s));  // a step, a scale and a shift for every filter
    const whole = new Int8Array(bytes(w)), each = whole.length / C;
    return {w: Float32Array.from(whole, (v, i) => v * numbers[Math.floor(i / each)]), scale: numbers.subarray(C, 2 * C), shift: numbers.subarray(2 * C)};
  });

  function raster(strokes) {  // as metalib.figures.widgets.alphabet.raster
    const all = strokes.flat(), xs = all.map(p => p[0]), ys = all.map(p => p[1]);
    const [left, right] = ends(xs), [top, bottom] = ends(ys);
    const scale = (side - pen) / Math.max(right - left, bottom - top, small), mx = (left + right) / 2, my = (top + bottom) / 2;
    const n = SIZE * fine, reach = pen * fine / 2, ink = new Uint8Array(n * n), image = new Float32Array(SIZE * SIZE);
    for (const stroke of strokes) {
      const points = stroke.map(([x, y]) => [((x - mx) * scale + SIZE / 2) * fine, ((y - my) * scale + SIZE / 2) * fine]);
      for (let i = 1; i < Math.max(points.length, 2); i++) {
        const [ax, ay] = points[i - 1], [bx, by] = points[Math.min(i, points.length - 1)], dx = bx - ax, dy = by - ay, squared = dx * dx + dy * dy;
        const from = (a, b) => Math.max(0, Math.floor(Math.min(a, b) - reach)), to = (a, b) => Math.min(n - 1, Math.ceil(Math.max(a, b) + reach));
        for (let row = from(ay, by); row <= to(ay, by); row++) for (let column = from(ax, bx); column <= to(ax, bx); column++) {
          const x = column + 0.5, y = row + 0.5;
          const t = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (squared || 1)));
          if ((x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2 <= reach * reach) ink[row * n + column] = 1;
        }
      }
    }
    ink.forEach((v, i) => { if (v) image[Math.floor(i / n / fine) * SIZE + Math.floor(i % n / fine)] += 1 / (fine * fine); });
    return image;
  }
  const ends = list => list.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);

  function encode(image) {
    let x = Float64Array.from(image), n = SIZE;
    for (const block of blocks) {
      x = pooled(block, convolved(block.w, x, n), n);
      n = Math.floor(n / 2);
    }
    return x;  // (C * 1 * 1)
  }

  function convolved(w, x, n) {  // 3x3, a pixel of padding
    const inputs = x.length / (n * n), z = new Float64Array(C * n * n);
    for (let o = 0; o < C; o++) for (let c = 0; c < inputs; c++) for (let k = 0; k < 9; k++) {
      const v = w[(o * inputs + c) * 9 + k], dy = Math.floor(k / 3) - 1, dx = k % 3 - 1;
      for (let row = Math.max(0, -dy); row < Math.min(n, n - dy); row++) {
        const to = (o * n + row) * n, from = (c * n + row + dy) * n + dx;
        for (let column = Math.max(0, -dx); column < Math.min(n, n - dx); column++) z[to + column] += v * x[from + column];
      }
    }
    return z;
  }

  function pooled({scale, shift}, z, n) {  // each group of channels to mean 0, variance 1; scale, shift; ReLU; the largest of 2x2
    const m = Math.floor(n / 2), out = new Float64Array(C * m * m), group = z.length / groups;
    for (let g = 0; g < groups; g++) {
      let mean = 0, variance = 0;
      for (let i = g * group; i < (g + 1) * group; i++) mean += z[i] / group;
      for (let i = g * group; i < (g + 1) * group; i++) variance += (z[i] - mean) ** 2 / group;
      for (let c = g * C / groups; c < (g + 1) * C / groups; c++) for (let i = 0; i < m * m; i++) {
        const at = (c * n + 2 * Math.floor(i / m)) * n + 2 * (i % m), gain = scale[c] / Math.sqrt(variance + 1e-5);
        for (const j of [at, at + 1, at + n, at + n + 1]) out[c * m * m + i] = Math.max(out[c * m * m + i], (z[j] - mean) * gain + shift[c]);
      }
    }
    return out;
  }

  function confidence(shots, z) {  // shots: the embeddings of each sign's drawings; softmax of -|z - mean|^2
    const logits = shots.map(list => -z.reduce((sum, v, i) => sum + (v - list.reduce((s, f) => s + f[i] / list.length, 0)) ** 2, 0));
    const largest = Math.max(...logits), powers = logits.map(v => Math.exp(v - largest)), sum = powers.reduce((a, b) => a + b);
    return powers.map(v => v / sum);
  }

  return {raster, encode, confidence};
}

const STYLE = `
.metalib-widget[data-widget=alphabet] { max-width: 36rem; margin: 1rem 0; padding: 0.75rem; box-sizing: border-box;
  border: 1px solid rgba(128, 128, 128, 0.6); border-radius: 0.5rem; color: inherit; line-height: 1.4; }
.metalib-widget[data-widget=alphabet] p { margin: 0 0 0.6rem; }
.metalib-widget[data-widget=alphabet] .ma-live { min-height: 2.8em; }
.metalib-widget[data-widget=alphabet] canvas { background: #fff; border-radius: 0.25rem; display: block; }
.metalib-widget[data-widget=alphabet] .ma-desk { display: flex; gap: 0.75rem; margin-bottom: 0.6rem; }
.metalib-widget[data-widget=alphabet] .ma-pad { width: min(17rem, 62%); aspect-ratio: 1; height: auto; flex: none; touch-action: none;
  cursor: crosshair; border: 2px solid rgba(128, 128, 128, 0.8); box-sizing: border-box; user-select: none; -webkit-user-select: none; }
.metalib-widget[data-widget=alphabet] .ma-side { flex: 1; min-width: 0; font-size: 0.85em; }
.metalib-widget[data-widget=alphabet] .ma-seen { width: 5rem; height: 5rem; max-width: 100%; image-rendering: pixelated;
  border: 1px solid rgba(128, 128, 128, 0.6); margin: 0.2rem 0 0.7rem; }
.metalib-widget[data-widget=alphabet] .ma-tools { display: flex; flex-wrap: wrap; gap: 0.4rem; margin-bottom: 0.7rem; }
.metalib-widget[data-widget=alphabet] button { font: inherit; color: inherit; background: transparent; cursor: pointer; min-height: 2.5rem;
  padding: 0.25rem 0.7rem; border: 1px solid rgba(128, 128, 128, 0.9); border-radius: 0.4rem; }
.metalib-widget[data-widget=alphabet] :is(.ma-tools) button { font-size: 0.9em; }
.metalib-widget[data-widget=alphabet] .ma-main { border: 2px solid currentColor; font-weight: 600; }
.metalib-widget[data-widget=alphabet] button[aria-disabled=true] { opacity: 0.55; cursor: default; border-style: dashed; }
.metalib-widget[data-widget=alphabet] [hidden] { display: none; }
.metalib-widget[data-widget=alphabet] .ma-signs { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 0.4rem; margin-bottom: 0.6rem; }
.metalib-widget[data-widget=alphabet] .ma-sign { padding: 0.2rem; border: 2px solid rgba(128, 128, 128, 0.6); text-align: center; min-width: 0; }
.metalib-widget[data-widget=alphabet] .ma-sign canvas { width: 100%; height: auto; }
.metalib-widget[data-widget=alphabet] .ma-sign span { display: block; font-size: 0.85em; line-height: 1.3; white-space: nowrap; overflow: hidden; }
.metalib-widget[data-widget=alphabet] .ma-bar { height: 0.4rem; border-radius: 0.2rem; background: rgba(128, 128, 128, 0.3); }
.metalib-widget[data-widget=alphabet] .ma-bar i { display: block; height: 100%; width: 0; background: currentColor; border-radius: 0.2rem; }
.metalib-widget[data-widget=alphabet] .ma-best { border: 2px solid currentColor; outline: 2px solid currentColor; font-weight: 600; }
.metalib-widget[data-widget=alphabet] .ma-target { border: 2px dashed currentColor; }
.metalib-widget[data-widget=alphabet] button:focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.metalib-widget[data-widget=alphabet] .ma-note { font-size: 0.85em; }
.metalib-widget[data-widget=alphabet] .ma-score:empty { display: none; }
`;
