"""The whole book as one PDF: the built pages, one after the other, printed by headless Chromium.

    make pdf            # writes _build/html/meta-learning.pdf and links it from the landing page

The pages are joined in the order of the table of contents, so that a link from one to another becomes a link within the
file. Hints and solutions are open; folded code is left out. Headings make the outline.
"""

import os
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import sync_playwright
from pypdf import PdfWriter
from pypdf.generic import NameObject, TextStringObject

SITE = Path(__file__).parents[1] / "_build/html"
NAME, START = "meta-learning.pdf", "intro"
FOOTER = ('<div style="width: 100%; text-align: center; font: 8pt sans-serif; color: #555">'
          '<span class="pageNumber"></span></div>')
LINK = '<p class="book-pdf"><a class="reference external" href="../{name}">The whole book as one PDF</a></p>'


def order(first: BeautifulSoup) -> list[str]:
    """The pages of the book's folder, as the sidebar lists them."""
    links = [a["href"] for a in first.select("nav.bd-docs-nav a.reference.internal")]
    stems = [START, *(link.removesuffix(".html") for link in links if re.fullmatch(r"[\w-]+\.html", link))]
    return list(dict.fromkeys(stems))


def chapter(stem: str, stems: list[str]) -> Tag:
    """A page's text, whose names and links are unique in the whole book."""
    article = BeautifulSoup((SITE / f"book/{stem}.html").read_text(encoding="utf-8"), "html.parser").select_one(
        "article.bd-article")
    for note in article.select(".book-pdf"):
        note.decompose()
    for tag in article.select("[id]"):
        if not tag.find_parent(class_="metalib-widget") and "metalib-widget" not in tag.get("class", []):
            tag["id"] = f"{stem}--{tag['id']}"
    for link in article.select("a[href]"):
        to = urlsplit(link["href"])
        page = to.path.removesuffix(".html") or stem
        if not to.scheme and page in stems:
            link["href"] = f"#{page}--{to.fragment}" if to.fragment else f"#{page}"
        elif not to.scheme:  # a page that is not printed
            link.name = "span"
            del link["href"]
    article["id"] = stem
    article["style"] = "break-before: page"
    return article


def join() -> str:
    """All pages in one, under the head of one that loads MathJax."""
    def read(stem: str) -> str:
        return (SITE / f"book/{stem}.html").read_text(encoding="utf-8")

    stems = order(BeautifulSoup(read(START), "html.parser"))
    head = next((stem for stem in stems if "mathjax/startup.js" in read(stem)), START)
    whole = BeautifulSoup(read(head), "html.parser")
    chapters = [chapter(stem, stems) for stem in stems]
    whole.body.clear()
    for text in chapters:
        whole.body.append(text)
    whole.html["data-mode"] = whole.html["data-theme"] = "light"
    return str(whole)


HEADINGS = """() => [...document.querySelectorAll("article :is(h1, h2, h3, h4, h5, h6)")].map(heading => {
  const copy = heading.cloneNode(true);
  copy.querySelectorAll(".headerlink, mjx-assistive-mml").forEach(e => e.remove());
  return copy.textContent.replace(/\\s+/g, " ").trim();
})"""


def entries(node):
    """The outline's entries in reading order."""
    item = node.get("/First")
    while item is not None:
        item = item.get_object()
        yield item
        yield from entries(item)
        item = item.get("/Next")


def name_headings(file: Path, headings: list[str]) -> None:
    """Chromium names a heading at the top of a page twice, and forgets the spaces between lines."""
    book = PdfWriter(clone_from=file)
    outline = list(entries(book.root_object["/Outlines"].get_object()))
    if len(outline) == len(headings):
        for entry, heading in zip(outline, headings):
            entry[NameObject("/Title")] = TextStringObject(heading)
        book.write(file)


def print_pdf(path: Path, to: Path, browser) -> None:
    """One page, on A4, with an outline and page numbers; its folds are open."""
    page = browser.new_page(color_scheme="light")
    page.set_default_timeout(0)
    page.goto(path.as_uri(), wait_until="load")
    page.evaluate("async () => { await window.MathJax?.startup?.promise; await document.fonts.ready; }")
    page.pdf(path=to, format="A4", outline=True, tagged=True, display_header_footer=True, header_template="<i></i>",
             footer_template=FOOTER, print_background=True,
             margin={"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"})
    headings = page.evaluate(HEADINGS)
    page.close()
    name_headings(to, headings)


def link(page: Path) -> None:
    """Says on the landing page that there is a PDF."""
    text = page.read_text(encoding="utf-8")
    if 'class="book-pdf"' not in text:
        page.write_text(text.replace("</h1>", "</h1>\n" + LINK.format(name=NAME), 1), encoding="utf-8")


def main() -> None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    chromium = os.environ.get("METALIB_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not chromium:
        sys.exit("Chromium is needed to print the book: install it, or name it in METALIB_CHROMIUM")
    if not (SITE / f"book/{START}.html").exists():
        sys.exit("The book is not built: make book")
    joined = SITE / "book/joined.html"  # beside the pages: their pictures and styles are found from there
    try:
        joined.write_text(join(), encoding="utf-8")
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            print_pdf(joined, SITE / NAME, browser)
            browser.close()
    finally:
        joined.unlink(missing_ok=True)
    link(SITE / f"book/{START}.html")
    print(f"{SITE / NAME}: {(SITE / NAME).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
