"""Draws concept-map.svg, the map of the field in chapter 1: python book/_static/diagrams/concept-map.py"""

from html import escape
from pathlib import Path

BLUE, ORANGE = ("#dcebf7", "#0072b2"), ("#fdeed3", "#b35c00")  # fill, edge
GREEN, GREY = ("#d9f2e8", "#00755a"), ("#f2f2f2", "#666666")
WIDTH, HEIGHT = 560, 572
FAMILIES = [("optimisation-", "based", "gradient steps", "4, 5, 8"), ("metric", "", "distances", "7"),
            ("black-box,", "in-context", "reading the data", "9"), ("Bayesian", "", "conditioning", "10")]
SETTINGS = [("few-shot", "learning", "a few examples", "0, 2, 5"),
            ("adaptive", "learning", "a drifting stream", "11"),
            ("reinforcement", "learning", "an environment", "12"), ("knowledge", "graphs", "a new relation", "19")]
PRACTICE = [("episodes", "", "how tasks are cut", "2"), ("evaluation", "", "what to believe", "3"),
            ("speed", "", "GPU, vmap", "6"), ("applications", "", "medicine, finance", "13 to 18")]
RELATIVES = [("supervised learning", "", "one task", ""), ("pretraining", "", "one function for all", ""),
             ("multi-task learning", "", "the same tasks again", "")]


def box(x, y, w, h, colours, first, second, what, chapters, dashed=False):
    """A labelled box: its name in one or two lines, what it is in a few words, the chapters that treat it."""
    fill, edge = colours
    lines = [(first, 13, "bold"), (second, 13, "bold"), (what, 12, "normal"),
             (f"ch. {chapters}" if chapters else "", 12, "normal")]
    lines = [line for line in lines if line[0]]
    top, dash = y + h / 2 - 8 * (len(lines) - 1) + 4, ' stroke-dasharray="5 4"' if dashed else ""
    parts = [f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="8" fill="{fill}" stroke="{edge}" '
             f'stroke-width="1.5"{dash}/>\n']
    for i, (label, size, weight) in enumerate(lines):
        colour = edge if label.startswith("ch. ") else "#111111"
        parts.append(f'<text x="{x + w / 2}" y="{top + 16 * i}" font-size="{size}" font-weight="{weight}" '
                     f'text-anchor="middle" fill="{colour}">{escape(label)}</text>\n')
    return "".join(parts)


def row(y, h, entries, colours, dashed=False):
    """Boxes side by side over the whole width."""
    gap, n = 10, len(entries)
    w = (WIDTH - 20 - gap * (n - 1)) / n
    return "".join(box(10 + i * (w + gap), y, w, h, colours, *entry, dashed) for i, entry in enumerate(entries))


def arrow(x1, y1, x2, y2):
    return (f'<path d="M{x1} {y1}L{x2} {y2}" stroke="#444444" stroke-width="1.5" fill="none" '
            'marker-end="url(#head)"/>\n')


def heading(y, label):
    return (f'<text x="{WIDTH / 2}" y="{y}" font-size="13" font-style="italic" text-anchor="middle" '
            f'fill="#111111">{escape(label)}</text>\n')


def draw():
    """The whole map as SVG text."""
    centres = [10 + (WIDTH - 50) / 4 * (i + 0.5) + 10 * i for i in range(4)]
    thirds = [10 + (WIDTH - 40) / 3 * (i + 0.5) + 10 * i for i in range(3)]
    parts = [heading(22, "its relatives: no learned adaptation"), row(32, 52, RELATIVES, GREY, dashed=True)]
    parts += [arrow(x, 86, WIDTH / 2 + (x - WIDTH / 2) * 0.5, 118) for x in thirds]
    what = "learn from many tasks how to adapt to the next"
    parts += [box(100, 122, WIDTH - 200, 66, BLUE, "meta-learning", "", what, "1")]
    parts += [arrow(WIDTH / 2 + (x - WIDTH / 2) * 0.5, 190, x, 236) for x in centres]
    parts += ['<rect x="185" y="205" width="190" height="17" fill="#ffffff"/>\n',
              heading(218, "families: how does it adapt?"), row(240, 88, FAMILIES, BLUE)]
    parts += [heading(355, "settings: what is a task? (any family can meet any setting)"),
              row(365, 88, SETTINGS, ORANGE)]
    parts += [heading(480, "practice: how do you know, and what for?"), row(490, 72, PRACTICE, GREEN)]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="Helvetica, Arial, DejaVu Sans, sans-serif">\n<title>Concept map of meta-learning</title>\n'
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0L8 4L0 8z" fill="#444444"/></marker></defs>\n'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{"".join(parts)}</svg>\n')


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw(), encoding="utf-8")
