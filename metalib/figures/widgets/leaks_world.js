// The world behind chapter 2's switches: metalib.figures.widgets.leaks, draw for draw, as tests/test_widget_leaks.py compares.

function mersenne(seed) { // PyTorch's CPU generator (MT19937): torch.rand in float64 and torch.randint
  const state = new Uint32Array(624);
  state[0] = seed;
  for (let i = 1; i < 624; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  let at = 624;
  function bits() {
    if (at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }
  const rand = () => ((bits() & 0x1fffff) * 2 ** 32 + bits()) / 2 ** 53;
  return { rands: (n) => Array.from({ length: n }, rand), ints: (below, n) => Array.from({ length: n }, () => bits() % below) };
}

function leaksWorld(data) {
  const { characters: B, drawings: M, size: S, way: N, query: Q, greys } = data, D = S * S, C = 4 * B, each = 1 + Q;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const quarter = (x) => x.map((_, i) => x[(i % S) * S + S - 1 - Math.floor(i / S)]); // counter-clockwise, as torch.rot90
  function turned(list) { // class r B + c is character c turned r times
    const all = [list];
    for (let r = 1; r < 4; r++) all.push(all[r - 1].map(quarter));
    return all.flat();
  }
  const cut = (values, scale) => Array.from({ length: values.length / D }, (_, i) => Float64Array.from(values.slice(i * D, (i + 1) * D), (v) => v / scale));
  const images = turned(cut([...bytes(data.exam)].flatMap((b) => [b & 3, (b >> 2) & 3, (b >> 4) & 3, b >> 6]), greys - 1)); // class c, drawing m: c M + m
  const practice = turned(cut(bytes(data.practice), M * (greys - 1)));

  const mean = (list) => list[0].map((_, d) => list.reduce((sum, x) => sum + x[d], 0) / list.length);
  function unit(x, m) { // x - m with length 1
    const z = x.map((v, d) => v - m[d]), norm = Math.sqrt(z.reduce((sum, v) => sum + v * v, 0));
    return z.map((v) => v / Math.max(norm, 1e-12));
  }
  const dot = (a, b) => { let sum = 0; for (let d = 0; d < D; d++) sum += a[d] * b[d]; return sum; };
  const largest = (list) => list.indexOf(Math.max(...list));
  const ranked = (keys) => keys.map((_, i) => i).sort((i, j) => keys[j] - keys[i]); // the largest first

  const usual = mean(practice), remembered = practice.map((x) => unit(x, usual)), cache = new Map();
  function like(row) { // the class whose mean practice drawing is most like this image
    if (!cache.has(row)) { const z = unit(images[row], usual); cache.set(row, largest(remembered.map((p) => dot(z, p)))); }
    return cache.get(row);
  }

  function indices(g, on) { // FewShot.sample_indices for one episode, and the chapter's leaky ones
    const base = ranked(g.rands(B)).slice(0, N), turns = g.rands(N).map((u) => Math.floor(4 * u));
    let classes = base.map((c, n) => c + B * turns[n]);
    const keys = g.rands(N * M), examples = classes.map((_, n) => ranked(keys.slice(n * M, (n + 1) * M)).slice(0, each));
    if (on.has("labels")) classes = g.ints(C / N, N).map((group, n) => N * group + n);
    if (on.has("rotations")) {
      const first = on.has("labels") ? classes[0] % B : classes[0];
      for (let r = 0; r < 4; r++) classes[r] = (first + B * r) % C;
    }
    if (on.has("shared")) {
      const again = g.ints(M, N * each);
      examples.forEach((list, n) => { for (let k = 1; k < each; k++) list[k] = again[n * each + k]; });
    }
    return { classes, examples };
  }
  function draw(g, on) { // { support: rows of the N drawings, query: rows of the N Q drawings, y: their labels }
    const { classes, examples } = indices(g, on), row = (n, k) => classes[n] * M + examples[n][k];
    let order = ranked(g.rands(N * Q)).reverse(); // argsort
    if (on.has("order")) order = order.map((i, j) => [Math.floor(i / Q), j, i]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((a) => a[2]);
    return { support: classes.map((_, n) => row(n, 0)), query: order.map((i) => row(Math.floor(i / Q), 1 + i % Q)), y: order.map((i) => Math.floor(i / Q)) };
  }
  function practise(seed, on) { // how often each class had each label, as a share
    const g = mersenne(2 ** 31 + seed), count = Array.from({ length: C }, () => new Array(N).fill(0));
    for (let t = 0; t < data.practiceExams; t++) indices(g, on).classes.forEach((c, n) => { count[c][n]++; });
    return count.map((row) => { const total = row.reduce((a, b) => a + b); return row.map((v) => (total ? v / total : 1 / N)); });
  }

  function logits(episode, share, on) { // Opportunist: (N Q) x N
    const m = on.has("batch") ? mean(episode.query.map((row) => images[row])) : usual;
    const support = episode.support.map((row) => unit(images[row], m));
    const z = episode.query.map((row, j) => {
      const x = unit(images[row], m), known = share[like(row)], fifth = Math.floor(j * N / (N * Q));
      return support.map((s, n) => dot(x, s) + data.recall * known[n] + (fifth === n ? data.place : 0));
    });
    const level = (list) => { const top = Math.max(...list); return top + Math.log(list.reduce((sum, v) => sum + Math.exp(data.sure * (v - top)), 0)) / data.sure; };
    for (let i = 0; on.has("balance") && i < 20; i++) {
      const column = support.map((_, n) => level(z.map((row) => row[n])));
      z.forEach((row) => row.forEach((v, n) => { row[n] = v - column[n]; }));
      z.forEach((row) => { const own = level(row); row.forEach((v, n) => { row[n] = v - own; }); });
    }
    return z;
  }

  function exam(seed, on) { // a function that holds the next exam and says { episode, said, accuracy }
    const g = mersenne(seed), share = practise(seed, on);
    return () => {
      const episode = draw(g, on), said = logits(episode, share, on).map(largest);
      return { ...episode, said, accuracy: said.filter((n, j) => n === episode.y[j]).length / said.length };
    };
  }
  function score(values) { // { mean, ci95 } as metalib.Score
    const n = values.length, m = values.reduce((a, b) => a + b, 0) / n;
    return { mean: m, ci95: 1.96 * Math.sqrt(values.reduce((sum, v) => sum + (v - m) ** 2, 0) / (n - 1) / n) };
  }
  return { images, practice, draw, practise, logits, exam, score };
}
