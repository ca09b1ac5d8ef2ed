"""A figure that moves on a page of its own, as a phone shows it: what the tests of the figures share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from test_browser import SETTLED

DARK = "html[data-theme=dark] body { background: #121212; color: #ddd }"


def text_sizes(name: str) -> str:
    """A script: the sizes in pixels of all text in the figure .metalib-NAME."""
    return f"""[...document.querySelectorAll('.metalib-{name}, .metalib-{name} *')].filter(
        node => [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim())
        && node.tagName !== 'STYLE' && node.getClientRects().length
    ).map(node => parseFloat(getComputedStyle(node).fontSize))"""


def beyond(name: str, parts: str) -> str:
    """A script: those parts (a selector) of the figure that reach beyond its right edge."""
    return f"""[...document.querySelectorAll('.metalib-{name} :is({parts})')].filter(
        node => node.getBoundingClientRect().right > node.closest('.metalib-{name}').getBoundingClientRect().right + 1
    ).map(node => node.outerHTML.slice(0, 80))"""


def fits_a_phone(page, name: str, parts: str) -> None:
    """No sideways scroll at 390 px, text of 11 px at least, no part (see `beyond`) cut at any width, room to tap."""
    page.evaluate(SETTLED)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert min(page.evaluate(text_sizes(name))) >= 11
    for width in (768, 1024, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.evaluate(SETTLED)
        assert page.evaluate(beyond(name, parts)) == [], f"cut at {width} px"
    controls = page.locator(f".metalib-{name}").locator("input, button")
    assert all(c.bounding_box()["height"] >= 24 for c in controls.all())


def two_of(name: str, html: str, folder: Path, theme: str) -> str:
    """The address of a page, longer than the screen, with two of the figure: they must not disturb each other."""
    path = folder / "page.html"
    path.write_text(f'<!doctype html><html lang="en" data-theme="{theme}"><meta charset="utf-8"><title>{name}</title>'
                    f'<meta name="viewport" content="width=device-width"><style>{DARK}</style>'
                    f'<body style="font-family:sans-serif"><main><h1>{name}</h1>{html}<hr>{html}</main>',
                    encoding="utf-8")
    return path.as_uri()


def opened(browser, address: str, **options):
    """The page on a phone; `page.problems` is what its console, its scripts and its requests do wrong."""
    context = browser.new_context(**{"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True,
                                     "reduced_motion": "reduce", **options})
    page = context.new_page()
    page.problems = []
    page.on("console", lambda m: page.problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: page.problems.append(str(e)))
    page.on("request", lambda r: None if r.url == address else page.problems.append(r.url))
    page.goto(address)
    page.evaluate(SETTLED)
    return page


@contextmanager
def without_problems(browser, address: str, **options) -> Iterator:
    """An opened page, which must have had no problem when the test ends."""
    page = opened(browser, address, **options)
    yield page
    page.context.close()
    assert page.problems == []
