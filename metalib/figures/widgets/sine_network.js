// The arithmetic of chapter 1's figure: a network, its gradient descent, and the gradient through that descent.
// tests/test_widget_sine.py compares all of it with PyTorch's.

// A network 1 -> H -> H -> 1 with tanh, its parameters in one Float64Array in the order of the PyTorch module:
// W1 (H), b1 (H), W2 (H, H) row by row, b2 (H), W3 (H), b3 (1).
function sineNetwork(H) {
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
      for (let j = 0, row = W2 + i * H; j < H; j++) z += w[row + j] * h1[j];
      h2[i] = Math.tanh(z);
      y += w[W3 + i] * h2[i];
    }
    return { h1, h2, y };
  }

  const loss = (w, xs, ys) => xs.reduce((sum, x, k) => sum + (forward(w, x).y - ys[k]) ** 2, 0) / xs.length;

  function gradient(w, xs, ys) { // of L(w) = (1/K) sum_k (f(x_k) - y_k)^2, by backpropagation
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
        for (let j = 0, row = W2 + i * H; j < H; j++) {
          g[row + j] += d2 * h1[j];
          d1[j] += d2 * w[row + j];
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

  // The Hessian of L at w times a vector v, without the Hessian: every line of `gradient`, differentiated in the
  // direction v (Pearlmutter, 1994). r_a is the derivative of a.
  function hessianTimes(w, v, xs, ys) {
    const out = new Float64Array(w.length), r_h1 = new Float64Array(H);
    xs.forEach((x, k) => {
      const { h1, h2, y } = forward(w, x);
      for (let j = 0; j < H; j++) r_h1[j] = (1 - h1[j] * h1[j]) * (v[j] * x + v[B1 + j]);
      const r_h2 = new Float64Array(H);
      let r_y = v[B3];
      for (let i = 0; i < H; i++) {
        let r_z = v[B2 + i];
        for (let j = 0, row = W2 + i * H; j < H; j++) r_z += v[row + j] * h1[j] + w[row + j] * r_h1[j];
        r_h2[i] = (1 - h2[i] * h2[i]) * r_z;
        r_y += v[W3 + i] * h2[i] + w[W3 + i] * r_h2[i];
      }
      const d = 2 * (y - ys[k]) / xs.length, r_d = 2 * r_y / xs.length;
      const d1 = new Float64Array(H), r_d1 = new Float64Array(H);
      out[B3] += r_d;
      for (let i = 0; i < H; i++) {
        out[W3 + i] += r_d * h2[i] + d * r_h2[i];
        const slope = 1 - h2[i] * h2[i], d2 = d * w[W3 + i] * slope;
        const r_d2 = (r_d * w[W3 + i] + d * v[W3 + i]) * slope - 2 * d * w[W3 + i] * h2[i] * r_h2[i];
        out[B2 + i] += r_d2;
        for (let j = 0, row = W2 + i * H; j < H; j++) {
          out[row + j] += r_d2 * h1[j] + d2 * r_h1[j];
          d1[j] += d2 * w[row + j];
          r_d1[j] += r_d2 * w[row + j] + d2 * v[row + j];
        }
      }
      for (let j = 0; j < H; j++) {
        const r_dz = r_d1[j] * (1 - h1[j] * h1[j]) - 2 * d1[j] * h1[j] * r_h1[j];
        out[j] += r_dz * x;
        out[B1 + j] += r_dz;
      }
    });
    return out;
  }

  function path(theta, xs, ys, steps, alpha) { // [phi_0, ..., phi_J]: phi_0 = theta, phi <- phi - alpha * gradient
    const phis = [theta];
    for (let j = 0; j < steps; j++) {
      const g = gradient(phis[j], xs, ys);
      phis.push(phis[j].map((p, i) => p - alpha * g[i]));
    }
    return phis;
  }

  // d L_Q(phi_J) / d theta = (I - alpha H_0) ... (I - alpha H_{J-1}) grad L_Q(phi_J), from the right to the left.
  function metaGradient(theta, { support, query }, steps, alpha) {
    const phis = path(theta, support.x, support.y, steps, alpha);
    let v = gradient(phis[steps], query.x, query.y);
    for (let j = steps - 1; j >= 0; j--) {
      const Hv = hessianTimes(phis[j], v, support.x, support.y);
      v = v.map((value, i) => value - alpha * Hv[i]);
    }
    return { gradient: v, before: loss(theta, query.x, query.y), after: loss(phis[steps], query.x, query.y) };
  }

  return { decode, loss, gradient, path, metaGradient, predict: (w, x) => forward(w, x).y };
}
