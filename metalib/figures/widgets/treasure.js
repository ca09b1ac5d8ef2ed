// Hide the treasure, then follow the agent step by step: it explores in episode 1, and knows the way in episode 2.

function treasure(root, { packed, length, places }) {
  const bytes = Uint8Array.from(atob(packed.split(",")[1]), (c) => c.charCodeAt(0)), total = 2 * length;
  const walk = (goal) => [...bytes.slice((goal - 1) * total, goal * total)]; // the states after each step
  const reward = (goal, from, to) => walk(goal).slice(from, to).filter((s) => s === goal).length;
  let goal = 1, now = 0, timer = null; // steps taken, of both episodes together

  const style = el("style");
  style.textContent = `
    .metalib-treasure { --ink: #0072b2; --gold: #9a5b00; --tint: #0072b21f; max-width: 760px; line-height: 1.4; }
    html[data-theme="dark"] .metalib-treasure, body[data-jp-theme-light="false"] .metalib-treasure
      { --ink: #5cbcf5; --gold: #ffb74d; --tint: #5cbcf533; color-scheme: dark; }
    .metalib-treasure .both { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; }
    .metalib-treasure .board { display: grid; grid-template-columns: repeat(3, 1fr); gap: 4px; flex: 0 1 330px; min-width: 0; }
    .metalib-treasure .side { flex: 1 1 16rem; }
    .metalib-treasure button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor;
      border-radius: 4px; padding: .3rem .8rem; min-height: 2.4rem; cursor: pointer; touch-action: manipulation; }
    .metalib-treasure button:disabled { opacity: .55; cursor: default; }
    .metalib-treasure .board button { position: relative; aspect-ratio: 1; padding: 0; min-width: 0; overflow: hidden; opacity: 1; }
    .metalib-treasure .board .trod { background: var(--tint); }
    .metalib-treasure .board span { position: absolute; left: 4px; right: 4px; text-align: center; white-space: nowrap; }
    .metalib-treasure .star { top: 2px; font-size: 1.5rem; line-height: 1.1; color: var(--gold); }
    .metalib-treasure .agent { top: 34%; font-size: 1.7rem; line-height: 1; color: var(--ink); }
    .metalib-treasure .board .steps { bottom: 3px; font-size: .8rem; overflow: hidden; }
    .metalib-treasure button:focus-visible { outline: 3px solid currentColor; outline-offset: 2px; }
    .metalib-treasure .controls { display: flex; flex-wrap: wrap; gap: .4rem; margin: .5rem 0; }
    .metalib-treasure p { margin: .3rem 0; }
    .metalib-treasure .status { min-height: 4.2em; }
    .metalib-treasure table { border-collapse: collapse; margin: .3rem 0; font-size: 1em; color: inherit; background: none; border: 0; }
    .metalib-treasure caption { caption-side: top; text-align: left; color: inherit; font-size: 1em; padding: 0; font-style: normal; }
    .metalib-treasure :is(th, td) { padding: .15rem .8rem .15rem 0; text-align: left; font-weight: normal; border: 0; color: inherit; background: none; }
    .metalib-treasure td { text-align: right; font-variant-numeric: tabular-nums; }`;

  // --- The parts -----------------------------------------------------------------------------------------------------

  const name = ([row, column]) => `${["top", "middle", "bottom"][row]} ${["left", "centre", "right"][column]}`;
  const cells = places.map((place, state) => {
    const parts = ["star", "agent", "steps"].map((kind) => el("span", { class: kind, "aria-hidden": "true" }));
    const button = el("button", { type: "button", style: `grid-area: ${place[0] + 1} / ${place[1] + 1}` }, ...parts);
    button.addEventListener("click", () => { stop(); goal = state; now = 0; update(); });
    return { button, parts, place };
  });
  cells[0].button.disabled = true; // an episode begins here
  const control = (label, act) => { const b = el("button", { type: "button" }, label); b.addEventListener("click", act); return b; };
  const back = control("◀ back", () => { stop(); now -= 1; update(); });
  const step = control("step ▶", () => { stop(); now += 1; update(); });
  const play = control("play", () => (timer ? stop() : begin()));
  const again = control("start again", () => { stop(); now = 0; update(); });
  function begin() {
    if (now === total) now = 0;
    timer = setInterval(() => { if (!root.isConnected) return stop(); now += 1; if (now === total) stop(); update(); }, 700);
    update();
  }
  function stop() { clearInterval(timer); timer = null; play.textContent = "play"; }

  const status = el("p", { class: "status", role: "status" }), earned = [1, 2].map(() => el("td"));
  const table = el("table", {}, el("caption", {}, "Reward so far: steps that end at the treasure"), el("tbody", {},
    ...earned.map((td, i) => el("tr", {}, el("th", { scope: "row" }, `episode ${i + 1}`), td))));
  const box = el("div", { class: "metalib-treasure" }, style,
    el("p", {}, `Tap a place to hide the treasure ★ there. The agent ● does not see it. It walks ${length} steps, is put back to the middle, and walks ${length} more. How will the two walks differ?`),
    el("div", { class: "both" }, el("div", { class: "board", role: "group", "aria-label": "the board" }, ...cells.map((c) => c.button)),
      el("div", { class: "side" }, el("div", { class: "controls" }, back, step, play, again), status, table)));
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // or JupyterLab takes the keys
  root.replaceChildren(box);

  // --- The picture ---------------------------------------------------------------------------------------------------

  function update() {
    const episode = now > length ? 1 : 0, start = episode * length, path = [0, ...walk(goal).slice(start, now)];
    const at = path[path.length - 1], done = now - start;
    cells.forEach(({ button, parts: [star, agent, steps], place }, state) => {
      const visits = path.flatMap((s, t) => (s === state ? [t] : []));
      star.textContent = state === goal ? "★" : "";
      agent.textContent = state === at ? "●" : "";
      steps.textContent = visits.length > 3 ? `${visits.slice(0, 2).join(", ")} … ${visits.at(-1)}` : visits.join(", ");
      button.classList.toggle("trod", visits.length > 0);
      const here = [state === goal ? "the treasure" : "", state === at ? "the agent" : ""].filter(Boolean).join(" and ");
      fill(button, { "aria-label": `${name(place)}${here ? `: ${here}` : ""}${state ? "" : ", where an episode begins"}` }, []);
      if (state) button.setAttribute("aria-pressed", String(state === goal));
    });
    back.disabled = now === 0;
    step.disabled = now === total;
    play.textContent = timer ? "pause" : "play";
    earned[0].textContent = reward(goal, 0, Math.min(now, length));
    earned[1].textContent = now > length ? reward(goal, length, now) : "–";
    const first = walk(goal).slice(0, length).indexOf(goal) + 1, second = walk(goal).slice(length).indexOf(goal) + 1;
    const found = (t) => (t ? `found after ${t} step${t > 1 ? "s" : ""}` : "not found");
    status.textContent = now === 0 ? "Nothing has happened yet. Numbers in a place are the steps after which the agent stood there."
      : now === total ? `Episode 1: ${found(first)}. Episode 2: ${found(second)}. Hide it elsewhere.`
      : now === length ? `Episode 1 is over: ${found(first)}. The next step begins in the middle.`
      : `Episode ${episode + 1}, step ${done} of ${length}${at === goal ? ": at the treasure." : "."}`;
  }
  update();
}
