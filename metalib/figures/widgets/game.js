function game(root, data) {
  "use strict";
  // Lumino (JupyterLab) reads this attribute: without it the keys 1 to 5 would turn the cell into a heading.
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  const rounds = data.rounds, n = rounds.length, way = rounds[0].s.length;
  const players = ["you", ...data.rivals.map(r => r.name)];
  let at = -1, picks = [], predicted = players.map(() => null);

  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (key === "on") element.addEventListener("click", value);
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  function drawing(text) {  // hexadecimal greys, 0 to 15; a letter g, h, ... stands for 1, 2, ... pixels of paper
    const canvas = make("canvas", {width: data.size, height: data.size, "aria-hidden": "true"});
    const context = canvas.getContext("2d"), image = context.createImageData(data.size, data.size);
    let pixel = 0;
    for (const c of text) {
      const paper = c > "f" ? c.charCodeAt(0) - 102 : 0, grey = paper ? 0 : parseInt(c, 16);
      for (let i = 0; i < (paper || 1); i++, pixel++) image.data.set(Array(3).fill(255 - 17 * grey).concat(255), 4 * pixel);
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  function wilson(right, of) {  // 95 % interval of a proportion
    const z = 1.96, p = right / of, centre = p + z * z / (2 * of), scale = 1 + z * z / of;
    const half = z * Math.sqrt(p * (1 - p) / of + z * z / (4 * of * of));
    return [(centre - half) / scale, (centre + half) / scale];
  }

  function signTest(a, b) {  // how often a fair coin splits a + b rounds at least this unevenly
    let tail = 0, ways = 1;
    for (let i = 0; i <= Math.min(a, b); i++) {
      tail += ways;
      ways *= (a + b - i) / (i + 1);
    }
    return Math.min(1, 2 * tail / 2 ** (a + b));
  }

  const stage = make("div", {class: "mg-stage"});
  const live = make("p", {class: "mg-live", role: "status", "aria-live": "polite"});
  root.replaceChildren(make("style", {}, STYLE), stage, live);

  function start() {
    at = -1;
    picks = [];
    live.textContent = "";
    const inputs = players.map((who, i) => {
      const last = i === players.length - 1;
      const input = make("input", {type: "number", min: 0, max: n, inputmode: "numeric", enterkeyhint: last ? "go" : "next"});
      if (predicted[i] !== null) input.value = predicted[i];
      input.addEventListener("input", () => { predicted[i] = input.value === "" ? null : Number(input.value); });
      input.addEventListener("keydown", event => {  // Enter goes to the next empty field, and from the last one to round 1
        if (event.key !== "Enter" || event.isComposing) return;
        event.preventDefault();
        const empty = inputs.slice(i + 1).find(field => field.value === "");
        if (empty) empty.focus();
        else begin();
      });
      return input;
    });
    const begin = () => {
      const wrong = inputs.find(input => !input.checkValidity());  // more than n, less than 0, no whole number
      if (wrong) return wrong.reportValidity();
      at = 0;
      show();
    };
    stage.replaceChildren(
      make("p", {}, make("strong", {}, data.title)),
      make("p", {}, data.intro),
      make("fieldset", {}, make("legend", {}, `First predict: how many of ${n} will each get right?`),
        ...inputs.map((input, i) => make("label", {}, players[i] + " ", input))),
      make("button", {type: "button", class: "mg-main", on: begin}, "Start"));
  }

  function scoreboard() {  // everybody's right answers in the rounds that the reader has answered
    const all = [picks, ...data.rivals.map(r => r.picks)];
    const right = all.map(list => picks.filter((_, t) => list[t] === rounds[t].y).length);
    return make("p", {class: "mg-score"}, make("span", {}, picks.length ? `right of ${picks.length}:` : "right so far:"),
      ...players.map((who, i) => make("span", {}, `${who} `, make("strong", {}, String(right[i])))));
  }

  function show() {
    const round = rounds[at];
    const options = round.s.map((image, i) => make("button",
      {type: "button", class: "mg-option", "aria-label": `drawing ${i + 1}`, on: () => choose(i)}, drawing(image),
      make("span", {"aria-hidden": "true"}, String(i + 1))));
    const where = `Round ${at + 1} of ${n}`;
    const group = make("div", {class: "mg-round", role: "group", tabindex: "-1",
      "aria-label": `${where}: choose with the keys 1 to ${way}`},
      make("p", {class: "mg-head"}, make("strong", {}, where)), scoreboard(),
      make("div", {class: "mg-query"}, drawing(round.q), make("p", {}, `Which of the ${way} is this?`)),
      make("div", {class: "mg-options", style: `grid-template-columns: repeat(${way}, 1fr)`}, ...options));
    stage.replaceChildren(group);
    live.replaceChildren(`Choose one of the ${way} drawings`, make("span", {class: "mg-keys"}, `, or press 1 to ${way}`), ".");
    group.focus({preventScroll: true});
  }

  function choose(i) {
    if (at < 0 || at >= n || picks.length > at || i < 0 || i >= way) return;
    const round = rounds[at], buttons = stage.querySelectorAll(".mg-option");
    picks.push(i);
    buttons.forEach((button, k) => {
      button.setAttribute("aria-disabled", "true");
      const mark = k === round.y ? "right" : k === i ? "wrong" : "";
      if (!mark) return;
      button.classList.add(`mg-${mark}`);
      button.lastChild.textContent += mark === "right" ? " ✓" : " ✗";
    });
    stage.querySelector(".mg-score").replaceWith(scoreboard());
    const others = data.rivals.map(r => `${r.name} says ${r.picks[at] + 1}${r.picks[at] === round.y ? " ✓" : " ✗"}`);
    live.textContent = `${i === round.y ? "Right" : "Wrong"}: it is ${round.y + 1}${round.n ? ` (${round.n})` : ""}. ` +
      `${others.join(", ")}.`.replace(/^./, c => c.toUpperCase());
    const last = at === n - 1;
    const next = make("button", {type: "button", class: "mg-main", on: () => { at++; last ? finish() : show(); }},
      last ? "See the result" : "Next round");
    stage.firstChild.append(next);
    next.focus({preventScroll: true});
  }

  function percent(x) { return (100 * x).toFixed(0); }

  function finish() {
    const all = [picks, ...data.rivals.map(r => r.picks)];
    const hits = all.map(list => list.map((p, t) => p === rounds[t].y));
    const right = hits.map(list => list.filter(Boolean).length);
    const guessed = predicted.some(p => p !== null), long = data.rivals.some(r => r.score);
    const head = ["", `right of ${n}`, ...(guessed ? ["you said"] : []), "95 % interval", ...(long ? [data.long] : [])];
    const rows = players.map((who, i) => {
      const [low, high] = wilson(right[i], n);
      const cells = [String(right[i]), ...(guessed ? [predicted[i] === null ? "" : String(predicted[i])] : []),
        `${percent(low)} to ${percent(high)} %`, ...(long ? [i ? data.rivals[i - 1].score || "" : ""] : [])];
      return make("tr", {}, make("th", {scope: "row"}, who), ...cells.map(c => make("td", {}, c)));
    });
    const title = make("p", {tabindex: "-1"}, make("strong", {}, `You got ${right[0]} of ${n}`));
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...head.map(h => make(h ? "th" : "td", h ? {scope: "col"} : {}, h)))),
      make("tbody", {}, ...rows));
    const strips = players.map((who, i) => make("div", {class: "mg-strip"}, make("span", {}, who), bar(right[i] / n, wilson(right[i], n)),
      make("span", {class: "mg-dots", role: "img", "aria-label": `${who}: wrong in rounds ` +
        (hits[i].map((h, t) => h ? 0 : t + 1).filter(Boolean).join(", ") || "none")}, ...hits[i].map(h => h ? "●" : "○"))));
    const verdicts = data.rivals.map((r, k) => {
      const a = hits[0].filter((h, t) => h && !hits[k + 1][t]).length, b = hits[k + 1].filter((h, t) => h && !hits[0][t]).length;
      const p = signTest(a, b), known = p <= 0.05;
      return make("li", {}, `Against ${r.name}: only you were right in ${a}, only it was right in ${b}. ` + (a + b === 0
        ? "No round tells you apart." : `A fair coin splits ${a + b} rounds at least this unevenly with probability ${p < 0.005 ? "below 0.005" : p.toFixed(2)}, ` +
        (known ? "so chance is a poor explanation." : `so ${n} rounds do not tell you apart.`)));
    });
    remember(right);
    stage.replaceChildren(title, table, ...(guessed ? [make("p", {class: "mg-told"}, told(right))] : []),
      make("p", {}, `Bars: the range of true accuracies that ${n} rounds leave open. Dashed line: guessing. ● right, ○ wrong, round by round.`),
      ...strips, make("div", {class: "mg-strip mg-axis", "aria-hidden": "true"}, make("span"), make("div", {}, make("span", {}, "0"),
        make("span", {style: `left: ${2 + 96 / way}%`}, "chance"), make("span", {}, "100 %"))), make("ul", {}, ...verdicts),
      ...(root.closest(".metalib-landing") ? [make("p", {}, make("a", {href: "00_play.html"}, "Chapter 0"), " says what this proves.")] : []),
      make("button", {type: "button", class: "mg-main", on: () => { start(); stage.querySelector("button").focus({preventScroll: true}); }},
        "Play the same rounds again"),
      make("p", {}, "You have now seen the answers: a second game measures your memory too."));
    live.textContent = "";  // the focused line says it
    title.focus({preventScroll: true});
  }

  function told(right) {  // the reader's predictions beside what came out
    const each = players.map((who, i) => {
      if (predicted[i] === null) return "";
      const d = right[i] - predicted[i], off = d ? `${Math.abs(d)} ${d > 0 ? "more" : "fewer"}` : "exactly that";
      return `${predicted[i]} for ${i ? `${who}, which` : "yourself, and"} got ${right[i]} (${off})`;
    });
    return `Of ${n} rounds you predicted ${each.filter(Boolean).join("; ")}.`;
  }

  function remember(right) {  // a place further down the page (class metalib-revisit) gets the reader's own numbers
    for (const place of document.querySelectorAll(".metalib-revisit")) {
      place.querySelectorAll(":scope > :not(.mg-revisited)").forEach(child => child.remove());  // what stood in their place
      const own = [...place.children].find(child => child.game === root) || make("div", {class: "mg-revisited"});
      own.game = root;
      const came = players.map((who, i) => `${who} ${right[i]}`).join(", ");
      own.replaceChildren(make("p", {}, make("strong", {}, data.title.replace(/\w$/, "$&:")), ` ${predicted.some(p => p !== null) ? told(right)
        : `Of ${n} rounds, right were: ${came}. You wrote no prediction into the game.`}`));
      place.append(own);
    }
  }

  function bar(p, [low, high]) {
    const svg = (tag, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      return element;
    };
    const figure = svg("svg", {viewBox: "0 0 200 14", "aria-hidden": "true"}), x = v => 4 + 192 * v;
    figure.append(svg("line", {x1: x(0), x2: x(1), y1: 7, y2: 7, stroke: "currentColor", "stroke-opacity": 0.3}),
      svg("line", {x1: x(1 / way), x2: x(1 / way), y1: 0, y2: 14, stroke: "currentColor", "stroke-dasharray": "2 2"}),
      svg("line", {x1: x(low), x2: x(high), y1: 7, y2: 7, stroke: "#2f8fd0", "stroke-width": 5}),
      svg("circle", {cx: x(p), cy: 7, r: 4, fill: "currentColor"}));
    return figure;
  }

  document.addEventListener("keydown", event => {  // in the game, or with the focus nowhere and the game in view
    const where = document.activeElement, box = stage.getBoundingClientRect();
    if (event.defaultPrevented || where?.tagName === "INPUT" || event.altKey || event.ctrlKey || event.metaKey) return;
    if (!root.contains(where) && (where !== document.body || box.bottom <= 0 || box.top > innerHeight)) return;
    const i = "123456789".indexOf(event.key);
    if (i < 0 || event.key.length !== 1 || i >= way || at < 0 || at >= n) return;
    event.preventDefault();
    choose(i);
  });

  start();
}
const STYLE = `
.metalib-widget[data-widget=game] { max-width: 36rem; margin: 1rem 0; padding: 0.75rem; box-sizing: border-box;
  border: 1px solid rgba(128, 128, 128, 0.6); border-radius: 0.5rem; color: inherit; line-height: 1.4; }
.metalib-widget[data-widget=game] :is(p, ul, fieldset) { margin: 0 0 0.6rem; }
.metalib-widget[data-widget=game] fieldset { border: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0.4rem 1.2rem; }
.metalib-widget[data-widget=game] legend { font-size: 1em; padding: 0 0 0.3rem; margin: 0; float: none; width: auto; }
.metalib-widget[data-widget=game] input { width: 4rem; font: inherit; color: inherit; background: transparent;
  border: 1px solid currentColor; border-radius: 0.25rem; padding: 0.15rem 0.3rem; min-height: 2.2rem; box-sizing: border-box; }
.metalib-widget[data-widget=game] .mg-head { display: flex; justify-content: space-between; }
.metalib-widget[data-widget=game] .mg-score { display: flex; flex-wrap: wrap; gap: 0 1rem; font-variant-numeric: tabular-nums; }
.metalib-widget[data-widget=game] .mg-query { text-align: center; }
.metalib-widget[data-widget=game] canvas { background: #fff; border-radius: 0.25rem; display: block; width: 100%; height: auto; }
.metalib-widget[data-widget=game] .mg-query canvas { width: 8rem; margin: 0 auto 0.3rem; border: 1px solid rgba(128, 128, 128, 0.6); }
.metalib-widget[data-widget=game] .mg-options { display: grid; gap: 0.4rem; margin-bottom: 0.7rem; }
.metalib-widget[data-widget=game] .mg-option { font: inherit; color: inherit; background: transparent; cursor: pointer; min-width: 0;
  padding: 0.25rem; border: 2px solid rgba(128, 128, 128, 0.6); border-radius: 0.4rem; text-align: center; }
.metalib-widget[data-widget=game] .mg-option:not([aria-disabled]):hover { border-color: currentColor; }
.metalib-widget[data-widget=game] .mg-option[aria-disabled] { cursor: default; }
.metalib-widget[data-widget=game] .mg-right { border: 2px solid #009E73; outline: 2px solid #009E73; }
.metalib-widget[data-widget=game] .mg-wrong { border: 2px dashed #D55E00; }
.metalib-widget[data-widget=game] .mg-main { font: inherit; color: inherit; background: transparent; cursor: pointer;
  padding: 0.4rem 1.1rem; min-height: 2.5rem; border: 2px solid currentColor; border-radius: 0.4rem; margin-bottom: 0.6rem; }
.metalib-widget[data-widget=game] :is(button, input, p, .mg-round):focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.metalib-widget[data-widget=game] .mg-round:focus { outline: none; }
.metalib-widget[data-widget=game] .mg-live { margin: 0; }
@media (pointer: coarse) { .mg-keys { display: none; } }
.metalib-widget[data-widget=game] .mg-axis div { position: relative; height: 1.4em; }
.metalib-widget[data-widget=game] .mg-axis div span { position: absolute; left: 2%; transform: translateX(-50%); }
.metalib-widget[data-widget=game] .mg-axis div span:last-child { left: auto; right: 0; transform: none; white-space: nowrap; }
.metalib-widget[data-widget=game] td:last-child { white-space: nowrap; }
.metalib-widget[data-widget=game] .mg-live:not(:empty) { min-height: 2.8em; }
.metalib-widget[data-widget=game] table { border-collapse: collapse; width: 100%; margin: 0 0 0.6rem; font-size: 0.85em;
  table-layout: auto; border: 0; color: inherit; display: table; }
.metalib-widget[data-widget=game] :is(td, th) { text-align: left; padding: 0.2rem 0.3rem 0.2rem 0; vertical-align: top; background: none; color: inherit;
  border: 0; border-bottom: 1px solid rgba(128, 128, 128, 0.4); }
.metalib-widget[data-widget=game] .mg-strip { display: grid; grid-template-columns: 6.5rem 1fr; column-gap: 0.5rem;
  align-items: center; margin-bottom: 0.4rem; font-size: 0.9em; }
.metalib-widget[data-widget=game] .mg-strip svg { width: 100%; height: auto; }
.metalib-widget[data-widget=game] .mg-dots { grid-column: 2; letter-spacing: 0.05em; line-height: 1.1; overflow-wrap: anywhere; }
`;
