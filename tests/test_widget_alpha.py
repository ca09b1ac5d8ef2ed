"""Chapter 5's figure: its steps are MAML's, and the bound shows itself to whoever has gone past it."""

import gzip
import math
import re
from functools import partial

import pytest
import torch
from torch import nn

from metalib import MAML, Data, seeded
from metalib.figures.widgets import alpha
from metalib.functional import descend
from test_browser import SETTLED, WIDER, axe, browser  # noqa: F401  (fixtures)
from widget_page import fits_a_phone, two_of, without_problems


def line(seed=3, w=None):
    """The support set of one of chapter 5's tasks: the third seed is that of its first figure."""
    g = seeded(seed)
    w = torch.tensor([2.0, -1.0]) + 0.5 * torch.randn(1, 1, 2, generator=g, dtype=torch.float64)
    x = torch.tensor([2.0, 0.6], dtype=torch.float64) * torch.randn(1, 28, 2, generator=g, dtype=torch.float64)
    return Data(x[0, :8], (w * x).sum(-1, keepdim=True)[0, :8])


SUPPORT = line()
H, W = alpha.quadratic(SUPPORT)
LAMBDAS = torch.linalg.eigvalsh(H).flip(0)
BOUND = 2 / float(LAMBDAS[0])


@pytest.fixture(scope="module")
def html():
    return alpha.figure(SUPPORT).html()


def test_the_valley_is_the_support_loss():
    learner = MAML(nn.Linear(2, 1, bias=False).double(), 0.1)
    for phi in torch.randn(5, 2, generator=seeded(0), dtype=torch.float64):
        loss = learner.support_loss({"weight": phi[None]}, SUPPORT)
        assert float(0.5 * (phi - W) @ H @ (phi - W)) == pytest.approx(float(loss), rel=1e-9)


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.3])
def test_the_path_is_steps_of_descend(rate):
    phi = torch.tensor([0.5, 2.0], dtype=torch.float64)
    for shown in alpha.path(SUPPORT, rate, 6, (0.5, 2.0)):
        torch.testing.assert_close(shown, phi, rtol=1e-10, atol=1e-10)
        phi = descend({"phi": phi}, {"phi": H @ (phi - W)}, rate)["phi"]


def test_below_the_bound_the_error_goes_and_above_it_the_error_grows():
    errors = {f: (alpha.path(SUPPORT, f * BOUND, 400) - W).norm(dim=1) for f in (0.9, 0.99, 1.01, 1.1)}
    assert errors[0.9][-1] < 1e-9 and errors[0.99][-1] < 1e-2 and errors[1.01][-1] > 1e3 and errors[1.1][-1] > 1e9


def test_the_figure_is_small_always_the_same_and_asks_nothing_of_the_network(html):
    assert html == alpha.figure(SUPPORT).html()
    assert len(gzip.compress(html.encode())) < 19_000
    html = re.sub('base64,[^"]*', "", html)  # without its own picture
    assert len(gzip.compress(html.encode())) < 7_500
    assert "https:" not in html and "http:" not in html.replace("http://www.w3.org/2000/svg", "")
    assert alpha.figure(SUPPORT).png.startswith(b"\x89PNG")


@pytest.mark.parametrize("wrong", [{"rate": 0.28}, {"rate": 0.0}, {"steps": 21}, {"steps": -1}])
def test_a_view_that_cannot_be_chosen_is_refused(wrong):
    with pytest.raises(ValueError, match="expected 0 < rate < bound < 0.4 and 0 to 20 steps"):
        alpha.figure(SUPPORT, **wrong)


@pytest.mark.parametrize("support, why", [
    (Data(torch.randn(8, 3).double(), torch.randn(8, 1).double()), "expected .K, 2., points of a plane"),
    (SUPPORT._replace(y=SUPPORT.y + 1), "no bowl"),
    (Data(torch.ones(8, 2).double(), torch.ones(8, 1).double()), "no bowl")])
def test_a_loss_that_is_no_bowl_is_refused(support, why):
    with pytest.raises(ValueError, match=why):
        alpha.figure(support)


# --- In a browser -------------------------------------------------------------------------------------------------



@pytest.fixture(params=["light", "dark"])
def page(browser, html, tmp_path, request):  # noqa: F811
    with without_problems(browser, two_of("alpha", html, tmp_path, request.param)) as page:
        yield page


def number(text):
    return float(text.replace("−", "-"))


def rate_of(figure):
    return number(re.match(r"α = (\S+)\. Distance", figure.locator(".now").inner_text())[1])


def start_of(figure):
    said = figure.locator(".plot .handle").get_attribute("aria-valuetext")
    return tuple(number(v) for v in said.split(", "))


def agrees(figure, rate, steps=8, start=(0.0, 0.0)):
    """The numbers of the page are those of MAML's path, and the mark and the dashes are there when they should be."""
    phis = alpha.path(SUPPORT, rate, steps, start)
    distance, loss = (phis - W).norm(dim=1), [float(0.5 * (phi - W) @ H @ (phi - W)) for phi in phis]
    said = re.findall(r"(?<![\w.])\d+\.\d+(?:e\+\d+)?", figure.locator(".now").inner_text())
    now = [float(v) for v in said]
    assert now == pytest.approx([rate, float(distance[0]), float(distance[-1]), loss[0], loss[-1]], abs=0.006, rel=0.05)
    cells = [[number(c.inner_text()) for c in row.locator("td").all()] for row in figure.locator("tbody tr").all()]
    for (shown, factor, power), true in zip(cells, LAMBDAS.tolist(), strict=True):
        assert (shown, factor) == pytest.approx((true, 1 - rate * true), abs=0.0051)
        assert power == pytest.approx((1 - rate * true) ** steps, abs=0.0051, rel=0.05)
    wild = rate > BOUND
    assert figure.locator("g.wild").count() == wild and figure.locator("g.calm").count() == (not wild)
    assert figure.locator("g.wild > rect, g.calm > circle").count() == steps  # not by colour alone
    assert ("no number of steps arrives" in figure.get_by_role("status").inner_text()) == wild


@pytest.mark.browser
def test_the_page_s_steps_are_maml_s_to_1e_9(page, html):
    script = html[html.index("function alphaMath"):html.index("function alpha(root")]
    data = re.search(r"alpha\(root, (.*)\);\n\}\)", html).group(1)
    rates, starts = [0.01, 0.05, 0.137, 0.25, BOUND, 0.3, 0.4], [(0.0, 0.0), (-1.7, 2.9), (5.5, -3.0)]
    got = page.evaluate(f"""([rates, starts]) => {{ {script}
        const math = alphaMath({data});
        return {{ paths: rates.map(rate => starts.map(s => math.path(s, rate, 20))), losses: starts.map(math.loss),
                 lambdas: math.lambdas, axes: math.axes, bound: math.bound, factors: rates.map(math.factors) }}; }}""",
                        [rates, starts])
    for rate, shown in zip(rates, got["paths"], strict=True):
        expected = torch.stack([alpha.path(SUPPORT, rate, 20, s) for s in starts])
        torch.testing.assert_close(torch.tensor(shown, dtype=torch.float64), expected, rtol=1e-8, atol=1e-9)
    losses = [0.5 * e @ H @ e for e in torch.tensor(starts, dtype=torch.float64) - W]
    assert got["losses"] == pytest.approx([float(v) for v in losses], rel=1e-9)
    assert got["lambdas"] == pytest.approx(LAMBDAS.tolist(), abs=1e-9)
    assert got["bound"] == pytest.approx(BOUND, abs=1e-9)
    for axis, eigenvalue in zip(torch.tensor(got["axes"], dtype=torch.float64), LAMBDAS, strict=True):
        torch.testing.assert_close(H @ axis, eigenvalue * axis, rtol=1e-8, atol=1e-8)
    assert got["factors"] == [pytest.approx([1 - r * v for v in LAMBDAS.tolist()], abs=1e-9) for r in rates]


@pytest.mark.browser
def test_the_mark_shows_itself_once_the_reader_has_gone_past_the_bound(page):
    one, other = page.locator(".metalib-alpha").all()
    knob = one.locator(".track .handle")
    agrees(one, 0.05)
    rate = 0.05
    while rate < BOUND:
        assert one.locator(".bound").count() == 0
        agrees(one, rate)
        knob.press("PageUp")
        rate = round(rate + 0.05, 3)
    agrees(one, rate)
    assert f"= {BOUND:.3f}" in one.locator(".bound").text_content()
    knob.press("PageDown")
    assert one.locator(".bound").count() == 1  # it stays
    assert other.locator(".bound").count() == 0 and rate_of(other) == 0.05
    one.get_by_role("button", name="start again").click()
    agrees(one, 0.05)
    assert one.locator(".bound").count() == 0


@pytest.mark.browser
def test_keys_find_the_edge_to_a_thousandth(page):
    one = page.locator(".metalib-alpha").first
    knob = one.locator(".track .handle")
    for key, rate in (("Shift+ArrowRight", 0.07), ("ArrowRight", 0.072), ("ArrowLeft", 0.07), ("End", 0.4),
                      ("Home", 0.0)):
        knob.press(key)
        assert rate_of(one) == rate
    assert "nothing moves" in one.get_by_role("status").inner_text()
    knob.press("End")
    while one.locator("g.wild").count():
        knob.press("ArrowLeft")
    below = rate_of(one)
    assert below < BOUND <= below + 0.002
    agrees(one, below)


@pytest.mark.browser
def test_start_and_steps_move_by_keys_and_mouse(page):
    one = page.locator(".metalib-alpha").first
    start = one.locator(".plot .handle")
    for key in ("ArrowRight", "Shift+ArrowUp", "ArrowDown"):
        start.press(key)
    agrees(one, 0.05, start=(0.05, 0.45))
    steps = one.get_by_label("inner steps J")
    for key, J in (("ArrowRight", 9), ("End", 20), ("Home", 0)):
        steps.press(key)
        agrees(one, 0.05, J, (0.05, 0.45))
    frame = one.locator(".plot > svg > rect").bounding_box()
    page.mouse.click(frame["x"] + frame["width"] / 4, frame["y"] + frame["height"] / 7)
    assert start_of(one) == pytest.approx((0, 2), abs=0.03)
    page.mouse.move(frame["x"] + frame["width"] * 3 / 4, frame["y"] + frame["height"] * 5 / 7)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] * 6 / 7, steps=4)
    page.mouse.up()
    assert start_of(one) == pytest.approx((2, -3), abs=0.03)
    track = one.locator(".track > svg").bounding_box()
    page.mouse.click(frame["x"] + frame["width"] / 2, track["y"] + 40)
    assert rate_of(one) == pytest.approx(0.2, abs=0.003)


def swipe(page, x, y, dx, dy, steps=8, look=lambda: None):
    """A finger that comes down at (x, y), moves by (dx, dy) in small steps, and is lifted; what one sees at each."""
    seen = []
    client = page.context.new_cdp_session(page)
    send = partial(client.send, "Input.dispatchTouchEvent")
    send({"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for k in range(1, steps + 1):
        send({"type": "touchMove", "touchPoints": [{"x": x + k * dx / steps, "y": y + k * dy / steps}]})
        page.evaluate(SETTLED)
        seen.append(look())
    send({"type": "touchEnd", "touchPoints": []})
    page.evaluate(SETTLED)
    return seen


# Counts whatever changes in a figure, for a moment too.
CHANGES = """figure => { figure.changes = 0; new MutationObserver(all => { figure.changes += all.length; }).observe(
    figure, { childList: true, characterData: true, subtree: true }); }"""


@pytest.mark.browser
def test_a_finger_scrolls_over_the_picture_and_moves_the_handles(page):
    one = page.locator(".metalib-alpha").first
    frame, before = one.locator(".plot > svg > rect").bounding_box(), (rate_of(one), start_of(one))
    swipe(page, frame["x"] + 250, frame["y"] + 250, 0, -240)  # over the picture, away from the handle
    page.wait_for_function("scrollY > 50")
    assert (rate_of(one), start_of(one)) == before
    page.evaluate("scrollTo(0, 0)")
    page.evaluate(SETTLED)
    box = one.locator(".plot .handle").bounding_box()
    swipe(page, box["x"] + 22, box["y"] + 22, frame["width"] / 8, frame["width"] / 4)
    assert page.evaluate("scrollY") == 0
    assert start_of(one) == pytest.approx((1, -2), abs=0.03)
    box = one.locator(".track .handle").bounding_box()
    swipe(page, box["x"] + 22, box["y"] + 22, frame["width"] * 5 / 8, 0)  # by 0.25
    assert page.evaluate("scrollY") == 0
    assert rate_of(one) == pytest.approx(0.3, abs=0.003) and one.locator(".bound").count() == 1
    page.touchscreen.tap(frame["x"] + frame["width"] / 4, one.locator(".track > svg").bounding_box()["y"] + 40)
    page.wait_for_function("document.querySelector('.metalib-alpha .now').textContent < 'α = 0.2'")
    assert rate_of(one) == pytest.approx(0.1, abs=0.003)


@pytest.mark.browser
def test_a_finger_draws_alpha_along_from_anywhere_on_the_track_and_scrolls_across_it(page):
    one = page.locator(".metalib-alpha").first
    frame, track = one.locator(".plot > svg > rect").bounding_box(), one.locator(".track > svg").bounding_box()
    y, at = track["y"] + 40, lambda rate: frame["x"] + frame["width"] * rate / 0.4
    swipe(page, at(0.3), y, at(0.1) - at(0.3), 0)  # beside the handle, which stands at 0.05
    assert rate_of(one) == pytest.approx(0.1, abs=0.004) and page.evaluate("scrollX + scrollY") == 0
    swipe(page, at(0.3), y, 0, -240)
    page.wait_for_function("scrollY > 50")
    assert rate_of(one) == pytest.approx(0.1, abs=0.004)
    page.evaluate("scrollTo(0, 0)")
    page.evaluate(SETTLED)
    swipe(page, at(0.3), y, at(0.2) - at(0.3), 0)  # and it is not stuck
    assert rate_of(one) == pytest.approx(0.2, abs=0.004)


@pytest.mark.browser
def test_a_finger_draws_the_slider_along_and_scrolls_across_it(page):
    one = page.locator(".metalib-alpha").first
    slider = one.get_by_label("inner steps J")
    slider.scroll_into_view_if_needed()
    page.evaluate(SETTLED)
    box, scrolled = slider.bounding_box(), page.evaluate("scrollY")
    one.evaluate(CHANGES)
    swipe(page, box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2, 0, -200)
    page.wait_for_function(f"scrollY > {scrolled} + 40")
    assert slider.input_value() == "8" and one.evaluate("figure => figure.changes") == 0
    agrees(one, 0.05)
    slider.press("ArrowRight")  # it still works
    agrees(one, 0.05, 9)
    box, scrolled = slider.bounding_box(), page.evaluate("scrollY")
    at, y = lambda J: box["x"] + 8 + (box["width"] - 16) * J / 20, box["y"] + box["height"] / 2
    seen = swipe(page, at(9), y, at(19) - at(9), 0, look=lambda: one.locator("g.calm > circle").count())
    assert page.evaluate("scrollY") == scrolled
    assert seen[-1] >= 18 and seen == sorted(seen) and len(set(seen)) > 4  # the path follows the finger
    agrees(one, 0.05, int(slider.input_value()))
    page.touchscreen.tap(at(4), y)
    page.wait_for_function("document.querySelector('.metalib-alpha .now').textContent.includes('φ₄')")
    agrees(one, 0.05, 4)
    page.mouse.move(at(4), y)
    page.mouse.down()
    page.mouse.move(at(12), y + 60, steps=4)  # a mouse goes where it likes
    agrees(one, 0.05, 12)
    page.mouse.up()
    agrees(one, 0.05, 12)


@pytest.mark.browser
def test_both_factors_on_the_line_have_names_that_do_not_overlap(page):
    one = page.locator(".metalib-alpha").first
    for width in (390, 1400):
        page.set_viewport_size({"width": width, "height": 844})
        for key in ("Home", "PageUp", "PageUp", "PageUp", "PageUp", "End"):
            one.locator(".track .handle").press(key)
            page.evaluate(SETTLED)
            strip = one.locator(".side > div > svg").first
            texts = strip.locator("text").all()
            assert {"● across", "■ along"} <= {t.text_content() for t in texts}
            boxes, frame = [t.bounding_box() for t in texts], strip.bounding_box()
            for i, a in enumerate(boxes):
                assert a["x"] >= frame["x"] - 1 and a["x"] + a["width"] <= frame["x"] + frame["width"] + 1
                for b in boxes[:i]:
                    apart = [a[k] + a[s] <= b[k] + 2 or b[k] + b[s] <= a[k] + 2
                             for k, s in (("x", "width"), ("y", "height"))]
                    assert any(apart), (key, a, b)


@pytest.mark.browser
def test_contours_lie_where_the_loss_has_their_level(page):
    frame = page.locator(".metalib-alpha .plot > svg > svg").first
    scale = float(frame.get_attribute("width")) / 8
    group = frame.locator(".contours")
    turn = math.radians(-float(re.search(r"rotate\((\S+)\)", group.get_attribute("transform"))[1]))
    across = torch.tensor([math.cos(turn), math.sin(turn)], dtype=torch.float64)
    along = torch.tensor([-math.sin(turn), math.cos(turn)], dtype=torch.float64)
    for level, ring in zip(alpha.LEVELS, group.locator("ellipse").all(), strict=True):
        rx, ry = (float(ring.get_attribute(k)) / scale for k in ("rx", "ry"))
        for t in (0.0, 0.7, 2.0, 4.0):
            e = rx * math.cos(t) * across + ry * math.sin(t) * along
            assert float(0.5 * e @ H @ e) == pytest.approx(level, rel=0.01)


@pytest.mark.browser
@pytest.mark.parametrize("letters", ["/* */", WIDER], ids=["as they are", "wider"])  # another machine's fonts
def test_the_page_fits_a_phone_and_can_be_read(page, axe, letters):  # noqa: F811
    page.add_style_tag(content=letters)
    page.locator(".metalib-alpha .track .handle").first.press("End")
    fits_a_phone(page, "alpha", "table, button, input, label, p, div > svg")
    for figure in page.locator(".metalib-alpha").all():
        assert all(min(h.bounding_box()[k] for k in ("width", "height")) >= 44 for h in figure.locator(".handle").all())
    page.evaluate(axe)
    assert page.evaluate("axe.run(document).then(found => found.violations.map(v => v.id))") == []
