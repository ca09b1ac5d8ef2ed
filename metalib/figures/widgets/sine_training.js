// Meta-training of chapter 1's figure in the page: MAML on waves that are drawn fresh, one meta-iteration at a time.

function sineRandom(seed) { // mulberry32: numbers in [0, 1), the same on every visit
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// The family of metalib.Sinusoids: y = A sin(x + b), A in [0.1, 5], b in [0, pi], x in [-5, 5].
function sineWave(random) {
  const A = 0.1 + 4.9 * random(), b = Math.PI * random();
  return (x) => A * Math.sin(x + b);
}

function sineTask(random, shot, query) {
  const wave = sineWave(random);
  const points = (n) => {
    const x = Array.from({ length: n }, () => 10 * random() - 5);
    return { x, y: x.map(wave) };
  };
  return { support: points(shot), query: points(query) };
}

// The meta-gradient, averaged over tasks: metalib.meta_gradient for MAML.
function sineMetaGradient(network, theta, tasks, steps, alpha) {
  const mean = { gradient: new Float64Array(theta.length), before: 0, after: 0 };
  for (const task of tasks) {
    const one = network.metaGradient(theta, task, steps, alpha);
    one.gradient.forEach((g, i) => { mean.gradient[i] += g / tasks.length; });
    mean.before += one.before / tasks.length;
    mean.after += one.after / tasks.length;
  }
  return mean;
}

// One training: `step` makes a meta-iteration, `theta` is where it has come to. `before` and `after` are the query errors
// before and after the inner steps, on tasks that theta has not seen yet, averaged over the last meta-iterations.
function sineTraining(network, start, config) {
  const random = sineRandom(config.seed), self = { reset, step };
  let m, s; // Adam's two averages

  function reset() {
    m = new Float64Array(start.length);
    s = new Float64Array(start.length);
    Object.assign(self, { theta: Float64Array.from(start), iteration: 0, before: NaN, after: NaN, trace: [] });
  }

  function step() {
    const tasks = Array.from({ length: config.meta_batch }, () => sineTask(random, config.shot, config.query));
    const { gradient, before, after } = sineMetaGradient(network, self.theta, tasks, config.steps, config.alpha);
    const n = ++self.iteration, kept = Math.min(1 - 1 / n, 0.98); // a plain mean at first, then a running one
    self.before = n === 1 ? before : kept * self.before + (1 - kept) * before;
    self.after = n === 1 ? after : kept * self.after + (1 - kept) * after;
    self.trace.push([self.before, self.after]);
    const shrink = Math.min(1, config.clip / Math.hypot(...gradient));
    const rate = config.lr * 0.5 * (1 + Math.cos(Math.PI * (n - 1) / config.iterations)); // a cosine down to 0
    gradient.forEach((raw, i) => {
      const g = shrink * raw;
      m[i] += 0.1 * (g - m[i]);
      s[i] += 0.01 * (g * g - s[i]);
      self.theta[i] -= rate * (m[i] / (1 - 0.9 ** n)) / (Math.sqrt(s[i] / (1 - 0.99 ** n)) + 1e-8);
    });
  }

  reset();
  return self;
}
