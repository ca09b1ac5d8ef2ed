"""Finding one's way: one number a chapter, a first page that plays, and pages that links and searches can find."""

import html
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from notebooks import CHAPTERS, PAGES, ROOT, read
from test_browser import SETTLED, browser, site  # noqa: F401 (fixtures)

sys.path.insert(0, str(ROOT / "book/_ext"))
numbering = pytest.importorskip("numbering", reason="sphinx is not installed")

NUMBERS = {int(p.stem[:2]): p for p in CHAPTERS}
TEXTS = {p.name: "\n\n".join(c.source for c in read(p).cells if c.cell_type == "markdown") for p in PAGES}
TEXTS |= {p.name: p.read_text(encoding="utf-8") for p in sorted((ROOT / "book").glob("*.md"))}
LINK = re.compile(r"\[([^\]\[]*)\]\((\d\d)_\w+\.ipynb[^)]*\)")
texts = pytest.mark.parametrize("name", TEXTS)


def built(site: Path) -> dict[str, str]:  # noqa: F811
    """Address -> source of every page, the redirect at the site's address left out."""
    return {str(p.relative_to(site)): p.read_text(encoding="utf-8") for p in sorted(site.rglob("*.html"))
            if "_static" not in p.parts and p != site / "index.html"}


def words(source: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", source)).split())


def chapters_of(pages: dict[str, str]) -> dict[int, str]:
    return {int(m[1]): source for name, source in pages.items() if (m := re.match(r"book/(\d\d)_", name))}


# --- One number -----------------------------------------------------------------------------------------------------

def test_a_number_is_that_of_the_file():
    assert numbering.number("book/04_mathematics_of_maml") == numbering.number("04_mathematics_of_maml") == 4
    assert numbering.number("book/00_play") == 0 and numbering.number("book/glossary") is None
    assert numbering.number("book/04a_proofs") == 4, "a deep dive is of its chapter, and has a letter"
    assert [numbering.label(f"book/{name}") for name in ("04_maml", "04a_proofs", "00_play", "glossary")] == [
        "4", "4a", "0", None]


def test_every_chapter_has_its_promise_and_only_unwritten_ones_a_planned_title():
    listed = [n for part in numbering.parts() for n in part["chapters"]]
    assert listed == sorted(set(listed)) and set(NUMBERS) <= set(listed)
    for n, entry in numbering.promises().items():
        assert entry["then"]
        assert ("title" in entry) == (n not in NUMBERS), f"chapter {n}: planned with a title, or written with a file"


def test_chapters_stand_in_the_part_that_the_table_of_contents_says():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = {int(m[1]): part["caption"] for part in toc["parts"] for c in part["chapters"]
              if (m := re.match(r"book/(\d\d)_", c["file"]))}
    said = {n: part["part"] for part in numbering.parts() for n in part["chapters"] if n in NUMBERS}
    assert said == listed


@texts
def test_a_link_to_a_chapter_says_the_number_of_its_file(name):
    for text, file in LINK.findall(TEXTS[name]):
        assert int(file) in NUMBERS
        said = re.search(r"[Cc]hapter\s+(\d+)", text) or re.search(r"第\s*(\d+)\s*章", text)
        assert not said or int(said[1]) == int(file), f"[{text}] leads to chapter {int(file)}"


@texts
def test_a_chapter_that_is_named_is_written_or_planned(name):
    for found in numbering.NAMED.finditer(TEXTS[name]):
        for n in filter(None, (found[1], found[3])):
            assert int(n) in numbering.promises(), f"{found[0]}: neither a file nor in book/chapters.yml"


@texts
def test_no_heading_is_numbered_by_hand(name):
    prose = re.sub(r"^(`{3,}).*?^\1", "", TEXTS[name], flags=re.M | re.S)
    assert not re.findall(r"^#+ (?:chapter )?\d+[.:) ]", prose, re.M | re.I)


@pytest.mark.browser
def test_sidebar_title_and_neighbours_call_a_chapter_by_its_file(site):  # noqa: F811
    pages, seen = built(site), 0
    for name, source in pages.items():
        for link, text in re.findall(r'<a class="[^"]*reference internal" href="([^"]*)">(.*?)</a>', source, re.S):
            target = re.search(r"(?:^|/)(\d\d)_\w+\.html$", link)
            if target and "toctree-l1" in source and re.match(r"\s*\d+\. ", words(text) + " "):
                assert words(text).startswith(f"{int(target[1])}. "), (name, link, text)
                seen += 1
        for link, text in re.findall(r'<a class="(?:left-prev|right-next)"\s+href="([^"]*)"(.*?)</a>', source, re.S):
            if target := re.match(r"(\d\d)_", link):
                assert f"{int(target[1])}. " in words(text), (name, link)
                seen += 1
    assert seen
    for n, source in chapters_of(pages).items():
        assert words(re.search(r"<title>(.*?)</title>", source, re.S)[1]).startswith(f"{n}. ")
        heading = next(h for h in re.findall(r"<h1>(.*?)</h1>", source, re.S) if "headerlink" in h)
        assert words(heading).startswith(f"{n}. ")


@pytest.mark.browser
def test_equations_figures_and_exercises_count_within_the_chapter(site):  # noqa: F811
    counted = 0
    for n, source in chapters_of(built(site)).items():
        article = source[source.index("<article"):source.index("</article>")]
        found = re.findall(r'class="eqno">\(([\d.]+)\)', article)
        found += re.findall(r'class="caption-number">(?:Fig|Figure|Table)\.? ([\d.]+?)\.? ?<', article)
        found += re.findall(r'class="admonition-title"><span class="caption-number">Exercise ([\d.]+)', article)
        assert found and all(f.split(".")[0] == str(n) and len(f.split(".")) == 2 for f in found), (n, found)
        counted += len(found)
    assert counted


@pytest.mark.browser
def test_a_planned_chapter_is_shown_as_planned_and_leads_to_the_list(site):  # noqa: F811
    pages, planned = built(site), {n for n, e in numbering.promises().items() if "title" in e}
    intro, seen = pages["book/intro.html"], 0
    for n in planned:
        assert re.search(rf'class="planned" id="chapter-{n}"|id="chapter-{n}"', intro), n
    for n, source in chapters_of(pages).items():
        article = source[source.index("<article"):source.index("</article>")]
        to_plan = r'<a class="reference internal" href="intro\.html#chapter-(\d+)">(.*?)</a>'
        for link in re.finditer(to_plan, article, re.S):
            assert int(link[1]) in planned and re.search(r"\d+", words(link[2]))
            assert "planned" in words(article[link.end():link.end() + 300])[:40], (n, link[0])
            seen += 1
        for found in numbering.NAMED.finditer(words(re.sub(r"<(script|pre|style).*?</\1>", "", article, flags=re.S))):
            assert {int(k) for k in (found[1], found[3]) if k} <= set(numbering.promises())
    assert seen


@pytest.mark.browser
def test_the_search_calls_a_chapter_by_its_file(site):  # noqa: F811
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(index[index.index("(") + 1:index.rindex(")")])
    for name, title in zip(index["docnames"], index["titles"], strict=True):
        n = numbering.label(name)
        assert n is None or re.match(rf"{n}\. \D", words(title)), (name, title)


# --- The first page -------------------------------------------------------------------------------------------------

@pytest.mark.browser
def test_the_table_of_chapters_is_that_of_the_files_and_the_plan(site):  # noqa: F811
    intro = built(site)["book/intro.html"]
    table = re.search(r'<div class="chapters.*</details>', intro, re.S)[0]
    cells = re.findall(r"<tr[^>]*><td[^>]*>(<p>\d+</p>)</td>\s*(.*?)</tr>", table, re.S)
    rows = {int(words(n)): row for n, row in cells}
    planned = [n for n in numbering.promises() if n not in NUMBERS]
    assert list(rows) == [n for n in numbering.promises() if n in NUMBERS] + planned
    for n, row in rows.items():
        if n in NUMBERS:
            title = re.search(r"^# (.*)$", TEXTS[NUMBERS[n].name], re.M)[1]
            assert f'href="{NUMBERS[n].stem}.html"' in row and words(title)[:20] in words(row), n
        else:
            assert "(planned)" in words(row) and numbering.promises()[n]["title"] in words(row), n


@pytest.mark.browser
def test_the_first_page_plays_the_rounds_that_chapter_0_stores(site):  # noqa: F811
    def rounds(source):
        return json.JSONDecoder().raw_decode(source, source.rindex("game(root, ") + len("game(root, "))[0]

    stored = next("".join(o.data["text/html"]) for c in read(NUMBERS[0]).cells for o in c.get("outputs", [])
                  if 'data-widget="game"' in o.get("data", {}).get("text/html", ""))
    assert rounds(built(site)["book/intro.html"]) == rounds(stored)
    assert '"rounds"' not in TEXTS["intro.md"], "generated, not pasted"


@pytest.mark.browser
@pytest.mark.parametrize(("width", "height", "phone"), [(1400, 900, False), (390, 844, True)])
def test_the_game_is_ready_at_round_1_where_one_looks_first(browser, site, width, height, phone):  # noqa: F811
    page = browser.new_page(viewport={"width": width, "height": height}, has_touch=phone, is_mobile=phone)
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto((site / "book/intro.html").as_uri())
    options = page.locator(".metalib-landing .mg-option")
    options.first.wait_for()
    page.evaluate(SETTLED)
    assert page.evaluate("scrollY") == 0 and "Round 1 of" in page.locator(".metalib-landing .mg-round").inner_text()
    assert page.evaluate("document.activeElement === document.body"), "nobody's focus is taken"
    bottom = max(box["y"] + box["height"] for box in (o.bounding_box() for o in options.all()))
    assert bottom <= (height * 1.5 if phone else height), "above the fold; on a phone within the first swipe"
    (options.first.tap if phone else options.first.click)()
    assert re.match("Right|Wrong", page.locator(".metalib-landing .mg-live").inner_text())
    page.locator(".metalib-landing .mg-main").click()
    assert "Round 2 of" in page.locator(".metalib-landing .mg-round").inner_text()
    assert not errors
    page.close()


@pytest.mark.browser
def test_without_scripts_the_first_page_shows_the_rounds_as_a_picture(browser, site):  # noqa: F811
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "book/intro.html").as_uri())
    picture = page.locator(".metalib-landing img").first
    picture.wait_for()
    assert picture.get_attribute("alt") and picture.bounding_box()["height"] > 100
    context.close()


@pytest.mark.browser
def test_four_doors_lead_somewhere(site):  # noqa: F811
    pages = built(site)
    intro = pages["book/intro.html"]
    card = r'<div class="sd-card-title[^>]*>\s*(.*?)</div>.*?<a class="sd-stretched-link[^"]*" href="([^"]*)"'
    doors = re.findall(card, intro, re.S)
    assert [words(title) for title, _ in doors] == ["Read", "Run", "Teach", "Use the library"]
    for title, link in doors:
        page, _, anchor = link.partition("#")
        assert not page or f"book/{page}" in pages, title
        assert not anchor or f'id="{anchor}"' in (pages[f"book/{page}"] if page else intro), title


def test_the_chinese_guide_says_that_it_is_chinese_and_how_to_read():
    guide = re.search(r'## 中文导读\n+<div lang="zh">\n(.*?)</div>', TEXTS["intro.md"], re.S)[1]
    assert 300 <= len(re.findall(r"[\u4e00-\u9fff]", guide)) <= 900, "half a page"
    assert all(needed in guide for needed in ("glossary.md", "00_play.ipynb", "notation.md", "元学习", "make lab"))


# --- Bibliography, links to a page, search ---------------------------------------------------------------------------

@pytest.mark.browser
def test_the_bibliography_is_labelled_as_the_texts_cite(site):  # noqa: F811
    pages = built(site)
    entries = dict(re.findall(r'<div class="citation" id="(\w+)"[^>]*>\s*<span class="label">(.*?)</span>\s*<p>',
                              re.sub(r'<span class="fn-bracket">.</span>', "", pages["book/bibliography.html"])))
    entries = {key: words(label).strip("[]") for key, label in entries.items()}
    assert len(entries) == (ROOT / "book/references.bib").read_text(encoding="utf-8").count("\n@")
    assert len(set(entries.values())) == len(entries)
    cited = 0
    for n, source in chapters_of(pages).items():
        for key, text in re.findall(r'href="bibliography\.html#(\w+)"[^>]*>(.*?)</a>', source, re.S):
            name, year = re.match(r"(.*) \((.*?)[a-h]?\)", entries[key]).groups()
            assert words(text) in (f"{name}, {year}", f"{name}", year, f"{name} [{year}]"), (n, text, entries[key])
            cited += 1
    assert cited


@pytest.mark.browser
def test_a_reference_with_an_arxiv_number_a_doi_or_an_address_is_a_link(site):  # noqa: F811
    page = built(site)["book/bibliography.html"]
    for kind, number in re.findall(r"\b(doi|url|note)\s*=\s*\{(?:arXiv:)?([^}]*)\}",
                                   (ROOT / "book/references.bib").read_text(encoding="utf-8")):
        place = {"doi": f"https://doi.org/{number}", "url": number, "note": f"https://arxiv.org/abs/{number}"}[kind]
        if kind != "note" or re.fullmatch(r"\d{4}\.\d{4,5}", number):
            assert f'href="{place}"' in html.unescape(page), place


@pytest.mark.browser
def test_every_page_says_what_it_is_to_who_links_to_it(site):  # noqa: F811
    about = {}
    for name, source in built(site).items():
        head = source[:source.index("</head>")]
        pattern = r'<meta (?:name|property)="((?:og|twitter):[\w:]+|description)" content="([^"]*)"'
        tags = dict(re.findall(pattern, head))
        wanted = {"description", "og:title", "og:description", "og:type", "og:image", "og:image:alt", "og:site_name",
                  "twitter:card", "twitter:title", "twitter:description", "twitter:image"}
        assert wanted <= set(tags) and all(tags[key].strip() for key in wanted), name
        assert 20 <= len(html.unescape(tags["description"])) <= 200 and "{" not in tags["description"], name
        assert source.count('name="viewport"') == 1, name
        if not tags["og:image"].startswith("http"):
            assert (site / name).parent.joinpath(tags["og:image"].split("?")[0]).resolve().exists(), name
        if re.match(r"book/\d\d_", name):
            about[name] = tags["description"]
    assert len(set(about.values())) == len(about), "each chapter says something else"


@pytest.mark.browser
@pytest.mark.parametrize(("query", "first"), [("元学习", "book/glossary.html#term-meta-learning"),
                                              ("Hessian", "book/glossary.html#term-Hessian"),
                                              ("prototype", "book/glossary.html#term-prototype")])
def test_the_search_finds_the_right_entry_first(browser, site, query, first):  # noqa: F811
    page = browser.new_page()
    page.goto(f"{(site / 'search.html').as_uri()}?q={query}")
    link = page.locator("#search-results li a").first
    link.wait_for()  # results come best first
    found = link.get_attribute("href")
    assert found.split("?")[0].split("#")[0] + "#" + found.partition("#")[2] == first
    page.close()
