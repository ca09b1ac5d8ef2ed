// What the stock pages leave nameless for a screen reader.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("details > summary")) {
    if (!summary.textContent.trim() && !summary.getAttribute("aria-label")) {
      const link = summary.closest("li")?.querySelector("a");
      summary.setAttribute("aria-label", `Show the sections of ${link ? link.textContent.trim() : "this part"}`);
    }
  }
  for (const button of document.querySelectorAll("button[aria-label]")) {
    const text = button.textContent.replace(/\s+/g, " ").trim();
    if (text) button.setAttribute("aria-label", text); // what is seen is what is said
  }
  document.querySelector(".bd-sidebar-primary")?.setAttribute("role", "navigation");
  document.querySelector(".bd-sidebar-primary")?.setAttribute("aria-label", "Chapters");
});

// What is wider than its column scrolls in a box of its own, and the box shows it: it fades at the edge behind which there
// is more (book.css), the keyboard reaches it, and it has a name.
{
  const BOXES = ".bd-article :is(pre, mjx-container, .pst-scrollable-table-container, .output.text_html)";
  const kind = box => box.matches("mjx-container") ? "Equation" : box.matches(".cell_output *, .cell_output") ? "Output"
    : box.matches("pre") ? "Code" : "Table";

  function shade(box) { // at which edges there is more
    box.classList.toggle("more-left", box.scrollLeft > 1);
    box.classList.toggle("more-right", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  }

  function look(box) {
    const inner = box.querySelector(":scope > mjx-math")?.getBoundingClientRect().width ?? box.scrollWidth; // less a letter's slant
    const wide = box.clientWidth > 0 && inner > box.clientWidth + 1;
    if (wide === box.classList.contains("scrolls")) return wide && shade(box);
    box.classList.toggle("scrolls", wide);
    if (wide) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", `${kind(box)}, scrolls sideways`);
      shade(box);
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
      box.classList.remove("more-left", "more-right");
    }
  }

  const sizes = new ResizeObserver(entries => entries.forEach(entry => look(entry.target)));
  const watch = () => document.querySelectorAll(BOXES).forEach(box => sizes.observe(box));
  document.addEventListener("DOMContentLoaded", () => {
    watch();
    window.MathJax?.startup?.promise?.then(watch);
  });
  document.addEventListener("scroll", event => event.target.classList?.contains("scrolls") && shade(event.target), true);
}

// A table that may be sorted (metalib.table): a column's title sorts its rows, numbers from the largest, and again the other
// way round. A cell counts as its first number; one without any stays at the end.
{
  const first = cell => parseFloat(cell.textContent.replace(/[\u2212]/g, "-").match(/[-+]?\d+(\.\d+)?/)?.[0]);

  function sort(table, title) {
    const column = title.cellIndex, body = table.tBodies[0], number = title.classList.contains("number");
    const down = title.getAttribute("aria-sort") ? title.getAttribute("aria-sort") === "ascending" : number;
    const sign = down ? -1 : 1, text = row => row.cells[column].textContent;
    const rows = [...body.rows].sort((a, b) => {
      if (!number) return sign * text(a).localeCompare(text(b));
      const [x, y] = [a, b].map(row => first(row.cells[column]));
      return isNaN(x) - isNaN(y) || sign * (x - y) || 0;
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const table of document.querySelectorAll(".metalib-table.sortable")) {
      for (const title of table.tHead.rows[0].cells) {
        const button = document.createElement("button");
        button.type = "button";
        button.append(...title.childNodes);
        button.addEventListener("click", () => sort(table, title));
        title.append(button);
      }
    }
  });
}

// On paper every hint and every solution is open; what the reader had folded is folded again afterwards.
{
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(".bd-article details:not([open], .fold-code)")];
    opened.forEach(fold => (fold.open = true));
  });
  addEventListener("afterprint", () => opened.forEach(fold => (fold.open = false)));
}
