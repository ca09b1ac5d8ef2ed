"""Chapter 4's figure: its three arrows are what they are called, and the page shows the numbers of metalib."""

import math
import re
from functools import partial

import pytest
import torch

from metalib.figures.widgets import surface
from test_browser import SETTLED, WIDER, browser  # noqa: F401  (the fixture)
from tools import pictures
from widget_page import fits_a_phone, two_of, without_problems

THETA = torch.tensor(surface.STARTS, dtype=torch.float64)
STEPS = range(surface.MOST_STEPS + 1)


@pytest.fixture(scope="module")
def html():
    return surface.figure().html()


def by_hand(theta, J, order):
    """The meta-gradient at one theta, with plain autograd and the model written out."""
    theta = theta.clone().requires_grad_()
    total = 0.0
    for t in range(len(surface.WAVES)):
        (sx, sy, _), (qx, qy, _) = surface.waves().task(t)
        phi = theta
        for _ in range(J):
            loss = (phi[0] * torch.sin(sx + phi[1]) - sy).pow(2).mean()
            phi = phi - surface.ALPHA * torch.autograd.grad(loss, phi, create_graph=order == 2)[0]
        total = total + (phi[0] * torch.sin(qx + phi[1]) - qy).pow(2).mean() / len(surface.WAVES)
    return torch.autograd.grad(total, theta)[0]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("J", [0, 1, 2, 5])
def test_the_arrows_are_maml_s_gradients(J, order):
    shown, chosen = surface.gradients(THETA, J, order), THETA[::10]
    expected = torch.stack([by_hand(theta, J, order) for theta in chosen])
    torch.testing.assert_close(shown[::10], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("J", STEPS)
def test_finite_differences_agree_with_the_exact_arrow_everywhere(J):
    exact = surface.gradients(THETA, J, 2)
    assert float((surface.differences(THETA, J) - exact).norm() / exact.norm()) < 1e-6


def test_first_order_is_exact_without_inner_steps_and_turns_away_with_them():
    assert torch.equal(surface.gradients(THETA, 0, 1), surface.gradients(THETA, 0, 2))
    cosines = [torch.cosine_similarity(surface.gradients(THETA, J, 1), surface.gradients(THETA, J, 2)).mean()
               for J in STEPS]
    assert all(a > b for a, b in zip(cosines, cosines[1:], strict=False))


def test_a_race_walks_down_its_own_gradient():
    thetas, losses = surface.race((1.2, 0.8), 3, 1, n=4)
    for now, then in zip(thetas, thetas[1:], strict=False):
        torch.testing.assert_close(now - then, surface.META_RATE * by_hand(now, 3, 1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(losses, surface.meta_loss(thetas, 3))


def test_neither_gradient_wins_every_race():
    """What chapter 4 says below the figure, at the two starts that it names."""
    exact, first = (surface.race((0.2, 1.2), 6, order)[1] for order in (2, 1))
    assert first[-1] < 0.2 and exact[-1] > 1 and float(exact.diff().max()) < 1e-3  # downhill all the way, into a hollow
    exact, first = (surface.race((3.6, -1.6), 6, order)[1] for order in (2, 1))
    assert exact[-1] < 0.2 and first[:20].max() > first[0] + 0.5 and first[-1] > 1


def test_the_figure_is_small_always_the_same_and_asks_nothing_of_the_network(html):
    assert html == surface.figure().html()
    html = re.sub('base64,[^"]*', "", html)  # without its own picture
    assert len(html) < 40_000
    assert "https:" not in html and "http:" not in html.replace("http://www.w3.org/2000/svg", "")
    png = surface.figure().png
    assert png.startswith(b"\x89PNG") and len(png) < 150_000


@pytest.mark.parametrize("wrong", [{"steps": 7}, {"steps": -1}, {"start": (4.1, 0.0)}, {"start": (1.0, -2.1)}])
def test_a_view_that_cannot_be_chosen_is_refused(wrong):
    with pytest.raises(ValueError, match="expected 0 to 6 steps and an"):
        surface.figure(**wrong)


# --- In a browser -------------------------------------------------------------------------------------------------



@pytest.fixture(params=["light", "dark"])
def page(browser, html, tmp_path, request):  # noqa: F811
    with without_problems(browser, two_of("surface", html, tmp_path, request.param)) as page:
        yield page


def shown(figure, kind="arrow"):
    """{arrow: [d/da, d/db, length, angle]} as the page's table prints them; {racer: [steps, loss, lowest]}."""
    return {row.get_attribute(f"data-{kind}"): [float(t.replace("−", "-").rstrip("°")) for t in
                                                row.locator("td").all_inner_texts()]
            for row in figure.locator(f"tr[data-{kind}]").all()}


def start_of(figure):
    """Where the handle says that it is: (amplitude, phase)."""
    said = figure.locator("[role=slider].handle").get_attribute("aria-valuetext").replace("−", "-")
    return tuple(float(v) for v in re.findall(r"-?\d+\.\d+", said))


def agrees(figure, J, start):
    """The table's numbers are metalib's at that point, as far as the page's two decimals say where it is."""
    theta = torch.tensor([start], dtype=torch.float64)
    exact, first = (surface.gradients(theta, J, order)[0] for order in (2, 1))
    table = shown(figure)
    assert table["exact"][:2] == pytest.approx(exact.tolist(), abs=0.006) == table["differences"][:2]
    assert table["first"][:2] == pytest.approx(first.tolist(), abs=0.006)
    angle = math.degrees(math.acos(float(torch.cosine_similarity(exact, first, dim=0).clamp(-1, 1))))
    assert table["first"][3] == pytest.approx(angle, abs=1)
    assert f"after {J} inner step" in figure.locator(".loss").inner_text()


@pytest.mark.browser
def test_the_page_s_arithmetic_is_metalib_s(page, html):
    """Everything that it computes, at the grid's points and between them: to 1e-6, the differences to 1e-5."""
    script = html[html.index("function surfaceMath"):html.index("function surface(root")]
    data = re.search(r"surface\(root, (.*)\);\n\}\)", html).group(1)
    starts = [*surface.STARTS[::8], (1.2, 0.8), (2.41, -1.37), (0.03, 1.9)]
    got = page.evaluate(f"""([starts, most, race]) => {{ {script}
        const data = {data}, math = surfaceMath(data), all = [];
        for (let J = 0; J <= most; J++) all.push(starts.map(theta => ({{
          loss: math.metaLoss(theta, J), exact: math.metaGradient(theta, J, 2), first: math.metaGradient(theta, J, 1),
          differences: math.differences(theta, J), paths: data.waves.map((_, t) => math.path(theta, t, J)),
          races: [2, 1].map(order => {{
            const way = [theta];
            for (let n = 0; n < race; n++) way.push(math.minus(way[n], data.rate, math.metaGradient(way[n], J, order)));
            return way;
          }}) }})));
        return all; }}""", [starts, surface.MOST_STEPS, 20])
    theta = torch.tensor(starts, dtype=torch.float64)

    def close(key, expected, J, tol=1e-6):
        shown = torch.tensor([g[key] for g in got[J]], dtype=torch.float64)
        torch.testing.assert_close(shown, expected, rtol=tol, atol=tol)

    for J in STEPS:
        close("loss", surface.meta_loss(theta, J), J)
        close("exact", surface.gradients(theta, J, 2), J)
        close("first", surface.gradients(theta, J, 1), J)
        close("differences", surface.gradients(theta, J, 2), J, 1e-5)
        close("paths", torch.stack([pictures.paths(*s) for s in starts])[:, :, :J + 1], J)
        way = [[theta, theta]]
        for _ in range(20):
            way.append([w - surface.META_RATE * surface.gradients(w, J, order)
                        for w, order in zip(way[-1], (2, 1), strict=True)])
        close("races", torch.stack([torch.stack(w, 1) for w in way], 2), J)


@pytest.mark.browser
def test_the_page_shows_metalib_s_numbers_and_moves_with_keys_and_mouse(page):
    one, other = page.locator(".metalib-surface").all()
    before, steps, handle = shown(other), one.get_by_label("inner steps J"), one.locator(".handle")
    agrees(one, 3, (1.2, 0.8))
    for key, J in (("ArrowRight", 4), ("Home", 0), ("End", 6)):
        steps.press(key)
        agrees(one, J, (1.2, 0.8))
    one.get_by_label("start: amplitude a").press("ArrowRight")
    one.get_by_label("start: phase b").press("ArrowLeft")
    agrees(one, 6, (1.25, 0.75))
    for key in ("ArrowUp", "ArrowUp", "ArrowLeft", "Shift+ArrowRight"):
        handle.press(key)
    agrees(one, 6, (1.35, 1.2))
    square = one.locator(".land").bounding_box()
    page.mouse.click(square["x"] + square["width"] / 4, square["y"] + square["height"] / 4)
    assert start_of(one) == pytest.approx((3, -1), abs=0.02)
    page.mouse.move(square["x"] + square["width"] / 2, square["y"] + square["height"] / 4)  # anywhere: not the handle
    page.mouse.down()
    page.mouse.move(square["x"] + square["width"] / 2, square["y"] + square["height"] / 2, steps=4)
    page.mouse.up()
    assert start_of(one) == pytest.approx((2, 0), abs=0.02)
    one.get_by_role("button", name="go where they differ most").click()
    assert shown(one)["first"][3] > 90  # first order can point uphill
    agrees(one, 6, start_of(one))
    assert shown(other) == before


def swipe(page, x, y, dy, steps=8, dx=0, look=lambda: None):
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
def test_a_finger_scrolls_over_the_square_and_moves_the_handle(page):
    one = page.locator(".metalib-surface").first
    square, before = one.locator(".land").bounding_box(), start_of(one)
    swipe(page, square["x"] + 60, square["y"] + 300, -240)  # over the square, away from the handle
    scrolled = page.evaluate("scrollY")
    assert scrolled > 100 and start_of(one) == before
    page.evaluate("scrollTo(0, 0)")
    page.evaluate(SETTLED)
    box = one.locator(".handle").bounding_box()
    swipe(page, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, -square["height"] / 4)
    assert page.evaluate("scrollY") == 0
    assert start_of(one) == pytest.approx((before[0] + 1, before[1]), abs=0.02)
    page.touchscreen.tap(square["x"] + square["width"] / 4, square["y"] + square["height"] / 4)
    assert start_of(one) == pytest.approx((3, -1), abs=0.02)


@pytest.mark.browser
@pytest.mark.parametrize("name", ["inner steps J", "start: amplitude a", "start: phase b"])
def test_a_finger_draws_a_slider_along_and_scrolls_across_it(page, name):
    one = page.locator(".metalib-surface").first
    slider = one.get_by_label(name)
    one.get_by_role("button", name="one step").click()
    slider.scroll_into_view_if_needed()
    page.evaluate(SETTLED)
    box, scrolled, value = slider.bounding_box(), page.evaluate("scrollY"), slider.input_value()
    one.evaluate(CHANGES)
    swipe(page, box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2, -200)
    page.wait_for_function(f"scrollY > {scrolled} + 40")
    assert slider.input_value() == value and one.evaluate("figure => figure.changes") == 0
    agrees(one, 3, (1.2, 0.8))
    assert shown(one, "racer")["exact"][0] == 1  # the race stays where it is
    slider.press("ArrowRight")  # it still works
    assert float(slider.input_value()) > float(value) and shown(one, "racer")["exact"][0] == 0
    slider.scroll_into_view_if_needed()
    page.evaluate(SETTLED)
    box, scrolled = slider.bounding_box(), page.evaluate("scrollY")
    at, y = lambda part: box["x"] + 8 + (box["width"] - 16) * part, box["y"] + box["height"] / 2
    seen = swipe(page, at(0.2), y, 0, dx=at(0.9) - at(0.2),
                 look=lambda: (one.locator(".loss").inner_text(), start_of(one)))
    assert page.evaluate("scrollY") == scrolled and len(set(seen)) > 3  # numbers and picture follow the finger
    J = int(one.get_by_label("inner steps J").input_value())
    agrees(one, J, start_of(one))
    assert (J == 5) == (name == "inner steps J")
    page.touchscreen.tap(at(0.0), y)
    page.wait_for_function("slider => slider.value === slider.min", arg=slider.element_handle())
    low = {"inner steps J": (0, start_of(one)), "start: amplitude a": (J, (0, 0.8)), "start: phase b": (J, (1.2, -2))}
    page.evaluate(SETTLED)
    agrees(one, *low[name])
    assert start_of(one) == low[name][1]


@pytest.mark.browser
def test_the_race_is_metalib_s_and_without_motion_it_shows_its_end_at_once(page):
    one, other = page.locator(".metalib-surface").all()
    expected = [surface.race((1.2, 0.8), 3, order)[1].tolist() for order in (2, 1)]

    def after(n):
        for got, losses in zip(shown(one, "racer").values(), expected, strict=True):
            assert got == pytest.approx([n, losses[n], min(losses[:n + 1])], abs=0.0051)

    after(0)
    one.get_by_role("button", name="one step").click()
    after(1)
    one.get_by_role("button", name="one step").click()
    after(2)
    one.get_by_role("button", name="descend").click()  # reduced motion: no animation
    after(surface.RACE)
    assert f"After {surface.RACE} meta-iterations" in one.get_by_role("status").inner_text()
    trails = one.locator(".trail")
    assert [t.get_attribute("data-racer") for t in trails.all()] == ["exact", "first"]
    assert all(t.locator("circle, rect").count() >= surface.RACE for t in trails.all())
    assert trails.nth(0).locator("rect").count() == trails.nth(1).locator("circle").count() == 0  # not by colour alone
    one.get_by_role("button", name="back to the start").click()
    after(0)
    one.get_by_role("button", name="one step").click()
    one.get_by_label("inner steps J").press("ArrowRight")  # another surface, another race
    assert [row[0] for row in shown(one, "racer").values()] == [0, 0]
    assert [row[0] for row in shown(other, "racer").values()] == [0, 0]


@pytest.mark.browser
def test_a_race_does_not_move_what_stands_beside_it(page):
    page.set_viewport_size({"width": 1400, "height": 900})
    page.evaluate(SETTLED)
    one = page.locator(".metalib-surface").first

    def places():
        return [one.locator(s).first.bounding_box() for s in (".run", ".side", ".legend", "table")]

    before = places()
    assert before[0]["x"] + before[0]["width"] <= before[1]["x"] and before[0]["y"] == before[1]["y"]
    one.get_by_role("button", name="descend").click()
    assert "After 60 meta-iterations" in one.get_by_role("status").inner_text() and places() == before


def tips(figure):
    """Where the three arrows begin and where their heads end, in pixels of the square: [(start, tip), ...]."""
    found = []
    for group in figure.locator(".arrows > g").all():
        shaft, head = (re.findall(r"-?\d+\.\d", p.get_attribute("d")) for p in group.locator("path").all())
        found.append(((float(shaft[0]), float(shaft[1])), (float(head[2]), float(head[3]))))
    return found


@pytest.mark.browser
def test_the_heads_of_the_arrows_stay_in_the_picture_and_all_three_are_shortened_alike(page):
    one = page.locator(".metalib-surface").first
    side = one.locator(".land").bounding_box()["width"]
    assert "usual length" not in one.locator(".loss").inner_text()
    full = max(math.dist(*ends) for ends in tips(one))
    assert full == pytest.approx(0.26 * side, abs=0.2)
    for J in range(1, 7):
        one.get_by_label("inner steps J").fill(str(J))
        one.get_by_role("button", name="go where they differ most").click()
        ends, table = tips(one), shown(one)
        assert all(0 <= v <= side for _, tip in ends for v in tip), J
        lengths = [math.dist(*e) for e in ends]
        sizes = [table[key][2] for key in ("exact", "first", "differences")]
        assert [v / max(lengths) for v in lengths] == pytest.approx([v / max(sizes) for v in sizes], abs=0.02)
        said = re.search(r"at (\d+) % of their usual length", one.locator(".loss").inner_text())
        assert max(lengths) / full == pytest.approx(float(said[1]) / 100 if said else 1, abs=0.006)
        assert max(lengths) >= 23.9
    assert start_of(one) == pytest.approx((0.2, 1.2)) and said


@pytest.mark.browser
def test_where_motion_is_welcome_the_race_runs_by_itself_and_pauses(page):
    page.emulate_media(reduced_motion="no-preference")
    one = page.locator(".metalib-surface").first
    one.get_by_role("button", name="descend").click()
    page.wait_for_function("document.querySelector('[data-racer] td').textContent >= 2")
    one.get_by_role("button", name="pause").click()
    n = shown(one, "racer")["exact"][0]
    assert 2 <= n < surface.RACE or one.get_by_role("status").inner_text()  # a slow machine may see its end
    page.wait_for_timeout(300)
    assert shown(one, "racer")["exact"][0] == n
    one.get_by_role("button", name="descend").click()
    page.wait_for_function(f"document.querySelector('[data-racer] td').textContent === '{surface.RACE}'")
    page.wait_for_function("document.querySelector('[role=status]').textContent.startsWith('After')")


@pytest.mark.browser
@pytest.mark.parametrize("J", [0, 3, 6])
def test_contours_lie_where_the_meta_loss_has_their_level(page, J):
    one = page.locator(".metalib-surface").first
    one.get_by_label("inner steps J").fill(str(J))
    side = one.locator(".land").bounding_box()["width"]
    lines = one.locator(".contours path").all()
    seen = 0
    for level, line in zip(surface.LEVELS, lines, strict=True):
        xy = torch.tensor([float(v) for v in re.findall(r"-?\d+\.\d", line.get_attribute("d"))], dtype=torch.float64)
        xy = xy.reshape(-1, 2) / side
        theta = torch.stack([surface.SIDE[0][1] - 4 * xy[:, 1], surface.SIDE[1][0] + 4 * xy[:, 0]], 1)
        if len(theta):
            seen += 1
            error = (surface.meta_loss(theta, J) - level).abs()
            assert float(error.median()) < 0.01 * level + 0.01
    assert seen >= 4


@pytest.mark.browser
@pytest.mark.parametrize("letters", ["/* */", WIDER], ids=["as they are", "wider"])  # another machine's fonts
def test_the_page_fits_a_phone_and_can_be_read(page, letters):
    page.add_style_tag(content=letters)
    fits_a_phone(page, "surface", "table, button, input, li, p, .plot")
    for figure in page.locator(".metalib-surface").all():
        handle = figure.locator(".handle").bounding_box()
        assert handle["width"] >= 44 and handle["height"] >= 44
        legend = figure.locator(".legend").inner_text()
        assert all(name in legend for name in ("start", "true wave", "inner steps", "exact arrow", "exact descent"))
        assert figure.locator(".tracks .number").all_text_contents() == ["1", "2", "3"]  # the trails are named
