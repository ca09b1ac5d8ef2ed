"""Where scripts do not run, a figure that moves is a picture; where they do, the picture is gone."""

import base64
import io
import re

import pytest
from PIL import Image

from metalib.figures.widgets import sine
from metalib.figures.widgets.widget import light
from test_browser import browser  # noqa: F401  (the fixture)
from tools import pictures


@pytest.fixture
def html():
    return sine.figure().html()


def test_the_element_holds_the_picture_with_its_alternative_text(html):
    element = r'<div class="metalib-widget"[^>]*><img alt="([^"]+)"[^>]*base64,([^"]+)"></div>'
    alt, picture = re.search(element, html).groups()
    shown, png = (Image.open(io.BytesIO(data)) for data in (base64.b64decode(picture), sine.figure().png))
    assert shown.size == png.size and len(alt) > 20
    assert f'aria-label="{alt}"' in html


def test_the_light_picture_looks_the_same():
    png = sine.figure().png
    before, after = (Image.open(io.BytesIO(data)).convert("RGB").tobytes() for data in (png, light(png, 128)))
    assert sum(abs(a - b) for a, b in zip(before, after, strict=True)) / len(before) < 2, "greys of 255, on average"


@pytest.mark.parametrize("name", pictures.FIXED)
def test_a_picture_that_was_drawn_beforehand_is_of_what_the_figure_shows(name):
    figure = pictures.FIXED[name][0]()
    drawn = Image.open(io.BytesIO(figure.png)).text.get("Description", pictures.DRAWN.get(name))
    assert drawn == pictures.told(figure), "run python tools/pictures.py, and look at the pictures"


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False])
def test_the_script_takes_the_picture_s_place(browser, html, tmp_path, scripts):  # noqa: F811
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html lang=en><meta charset=utf-8><title>x</title>{html}</html>", encoding="utf-8")
    context = browser.new_context(java_script_enabled=scripts)
    try:
        tab = context.new_page()
        tab.goto(page.as_uri())
        image = tab.locator(".metalib-widget > img")
        if scripts:
            assert image.count() == 0 and tab.locator(".metalib-widget svg").count()
        else:
            assert image.is_visible() and image.bounding_box()["height"] > 100
    finally:
        context.close()
