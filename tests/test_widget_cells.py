"""Chapter 7's figure: its cells are ProtoNet's, on the toy and on a network, and dragging moves them exactly."""

import copy
import gzip
import json
import re
from functools import partial

import pytest
import torch
from torch import nn

from metalib import Data, Episode, FewShot, MatchingNet, ProtoNet, conv4, glyphs, seeded
from metalib.figures.widgets import cells
from test_browser import SETTLED, WIDER, axe, browser  # noqa: F401  (fixtures)
from widget_page import fits_a_phone, two_of, without_problems


def network(temperature=None):
    torch.manual_seed(0)
    return ProtoNet(conv4(channels=8), temperature=temperature)


def a_task(way=3, shot=5):
    return FewShot(glyphs().split("test"), way=way, shot=shot).sample(1, generator=seeded(0)).task(0)


def said(learner, episode):
    """What the network says of the queries, in float64: probabilities (3Q, 3)."""
    learner, episode = copy.deepcopy(learner).double(), episode.to(torch.float64)
    with torch.no_grad():
        return learner.predict(learner.adapt(episode.support), episode.query.x).softmax(1)


def toy(x, z):
    """ProtoNet's probabilities of the points z, in the plane itself."""
    learner = ProtoNet(nn.Identity())
    return learner.predict(learner.adapt(cells.TOY._replace(x=x)), z).softmax(1)


def data_of(html):
    return json.loads(re.search(r"cells\(root, (.*)\);\n\}\)", html).group(1))


@pytest.fixture(scope="module")
def html():
    return cells.figure().html()


@pytest.mark.parametrize("temperature", [None, 0.5])
def test_in_the_plane_of_the_prototypes_the_probabilities_are_the_network_s(temperature):
    learner, episode = network(temperature), a_task()
    z, q, tau = cells.plane(learner, episode)
    c = torch.stack([z[episode.support.y == n].mean(0) for n in range(3)])
    shown = (-tau * torch.cdist(q, c).pow(2)).softmax(1)
    torch.testing.assert_close(shown, said(learner, episode), rtol=0, atol=1e-9)
    with torch.no_grad():  # and no one-dimensional picture would do: both axes are needed
        assert (torch.cdist(q[:, :1], c[:, :1]).argmin(1) != shown.argmax(1)).any()


def test_a_support_point_that_is_dragged_in_the_plane_leaves_it_exact():
    """Move one embedding by a vector of the plane, in all dimensions; the probabilities are those of the plane."""
    learner, episode = copy.deepcopy(network()).double(), a_task().to(torch.float64)
    with torch.no_grad():
        z, q = learner.encoder(episode.support.x), learner.encoder(episode.query.x)
    embedded = Episode(episode.support._replace(x=z), episode.query._replace(x=q))
    identity = ProtoNet(nn.Identity())
    flat, flat_q, _ = cells.plane(identity, embedded)
    c = torch.stack([z[episode.support.y == n].mean(0) for n in range(3)])
    flat_c = torch.stack([flat[episode.support.y == n].mean(0) for n in range(3)])
    by = 0.7 * (c[1] - c[0]) - 0.4 * (c[2] - c[0])
    z, flat = z.clone(), flat.clone()
    z[0] += by
    flat[0] += 0.7 * (flat_c[1] - flat_c[0]) - 0.4 * (flat_c[2] - flat_c[0])
    full = identity.predict(identity.adapt(embedded.support._replace(x=z)), q).softmax(1)
    shown = identity.predict(identity.adapt(embedded.support._replace(x=flat)), flat_q).softmax(1)
    torch.testing.assert_close(shown, full, rtol=0, atol=1e-9)


def test_what_a_notebook_stores_but_for_points_and_picture_is_the_same_for_another_network():
    """So nbval, which leaves both out (tests/sanitize.cfg), compares the rest on any machine."""
    torch.manual_seed(1)
    one, other = (cells.figure(ProtoNet(conv4(channels=4)), a_task()).html() for _ in range(2))
    assert one != other and re.sub("base64,[^\"]*", "", one) == re.sub("base64,[^\"]*", "", other)


def test_the_figure_leaves_the_learner_alone():
    learner = network()
    before = copy.deepcopy(learner.state_dict())
    cells.figure(learner, a_task())
    assert all(torch.equal(v, before[k]) for k, v in learner.state_dict().items())
    assert next(learner.parameters()).dtype == torch.float32


def test_the_figure_is_small_always_the_same_and_asks_nothing_of_the_network(html):
    assert html == cells.figure().html()
    assert len(gzip.compress(html.encode())) < 19_000
    html = re.sub('base64,[^"]*', "", html)  # without its own picture
    assert len(gzip.compress(html.encode())) < 8_000
    assert "https:" not in html and "http:" not in html.replace("http://www.w3.org/2000/svg", "")
    assert cells.figure().png.startswith(b"\x89PNG")


@pytest.mark.parametrize("wrong, error, why", [
    ((network(), None), ValueError, "both or neither"), ((None, "task"), ValueError, "both or neither"),
    ((MatchingNet(nn.Identity()), "task"), TypeError, "got MatchingNet"),
    ((ProtoNet(nn.Identity()), "5-way"), ValueError, "way=5"),
    ((ProtoNet(nn.Identity()), "a line"), ValueError, "on one line")], ids=str)
def test_what_has_no_plane_is_refused(wrong, error, why):
    learner, episode = wrong
    line = Data(torch.arange(6.0)[:, None] * torch.ones(3), torch.arange(3).repeat_interleave(2), way=3)
    five = Data(torch.randn(5, 3), torch.arange(5), way=5)
    episode = {"task": Episode(line, line), "a line": Episode(line, line), "5-way": Episode(five, five)}.get(episode)
    with pytest.raises(error, match=why):
        cells.figure(learner, episode)


# --- In a browser -------------------------------------------------------------------------------------------------

X, Y = cells.SIDES


@pytest.fixture(params=["light", "dark"])
def page(browser, html, tmp_path, request):  # noqa: F811
    with without_problems(browser, two_of("cells", html, tmp_path, request.param)) as page:
        yield page


def math(html):
    return html[html.index("function cellsData"):html.index("function cells(root")]


def place(figure, i):
    """Where handle i stands, in the plane of the toy."""
    box, frame = figure.locator(".handle").nth(i).bounding_box(), figure.locator(".plot > svg").bounding_box()
    scale = (X[1] - X[0]) / frame["width"]
    return (X[0] + (box["x"] + box["width"] / 2 - frame["x"]) * scale,
            Y[1] - (box["y"] + box["height"] / 2 - frame["y"]) * scale)


def shown(figure):
    return [float(row.get_attribute("data-p")) for row in figure.locator("tbody tr").all()]


def agrees(figure, x=cells.TOY.x, star=cells.STAR, atol=1e-9):
    """The probabilities of the star and the number of lost examples are ProtoNet's."""
    z = torch.tensor([star], dtype=torch.float64)
    assert shown(figure) == pytest.approx(toy(x, z)[0].tolist(), abs=atol)
    lost = int((toy(x, x).argmax(1) != cells.TOY.y).sum())
    assert figure.locator(".wrong").count() == lost
    assert figure.get_by_role("status").inner_text().startswith(f"{lost} of 9 examples")
    difference = re.search(r"difference: (\S+)\.", figure.locator(".difference").inner_text())[1]
    assert float(difference.replace("−", "-")) < 1e-12
    for row in figure.locator("tbody tr").all():
        by_distance, by_layer = row.locator("td:not(.bar)").all_inner_texts()
        assert by_distance == by_layer


def moved(i, to):
    x = cells.TOY.x.clone()
    x[i] = torch.tensor(to, dtype=torch.float64)
    return x


@pytest.mark.browser
@pytest.mark.parametrize("temperature", [None, 0.5])
def test_the_page_s_decisions_and_probabilities_are_the_network_s(browser, tmp_path, temperature):  # noqa: F811
    learner, episode = network(temperature), a_task()
    html = cells.figure(learner, episode).html()
    expected, data = said(learner, episode), data_of(html)
    with torch.no_grad():
        single = learner.predict(learner.adapt(episode.support), episode.query.x).argmax(1)
    with without_problems(browser, two_of("cells", html, tmp_path, "light")) as page:
        points, p, layer, nearest = page.evaluate(f"""given => {{ {math(html)}
            const data = cellsData(given), math = cellsMath(data), sites = math.sites(data.points, data.labels, "one");
            return [data, ...[math.byDistance, math.byLayer, math.nearest].map(
                f => data.queries.map(q => f(q, sites)))]; }}""", data)
        for found in (p, layer):
            torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), expected, rtol=0, atol=1e-9)
        assert nearest == expected.argmax(1).tolist() == single.tolist()
        one, wrong = page.locator(".metalib-cells").first, expected.argmax(1) != episode.query.y
        assert 0 < int(wrong.sum()) == one.locator(".wrong").count()  # an untrained network errs
        assert one.get_by_role("status").inner_text().startswith(f"{int(wrong.sum())} of {len(wrong)} queries")
        star = [q[:2] for q in points["queries"]].index(points["star"])  # it begins on the closest call
        assert shown(one) == pytest.approx(expected[star].tolist(), abs=1e-9)
        assert one.get_by_role("radio").count() == 0  # the other rules are not exact in the plane
        before = one.locator(".border").get_attribute("d")
        one.locator(".handle").first.press("Shift+ArrowRight")
        assert one.locator(".border").get_attribute("d") != before
        assert "At the start it was" in one.get_by_role("status").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["one", "two", "example"])
def test_every_cell_is_convex_and_holds_what_is_nearest_to_its_site(page, html, kind):
    g = seeded(0)
    points = moved(1, (5.8, 0.1)).tolist()
    z = (torch.tensor([X[0], Y[0]]) + torch.rand(300, 2, generator=g, dtype=torch.float64)
         * torch.tensor([X[1] - X[0], Y[1] - Y[0]])).tolist()
    sites, polygons, said = page.evaluate(f"""([given, kind, points, z]) => {{ {math(html)}
        const data = cellsData(given), math = cellsMath(data), sites = math.sites(points, data.labels, kind);
        return [sites, sites.map((_, i) => math.cell(sites, i, data.sides)), z.map(p => math.nearest(p, sites))]; }}""",
                                          [data_of(html), kind, points, z])
    at = torch.tensor([s["at"] for s in sites], dtype=torch.float64)
    groups = {"one": [[0, 1, 2]], "two": [[0, 2], [1]], "example": [[0], [1], [2]]}[kind]
    assert sorted(s["of"] for s in sites if s["n"] == 0) == sorted(groups)
    for s in sites:
        assert s["at"] == pytest.approx(torch.tensor(points)[s["of"]].mean(0).tolist(), abs=1e-6)
    area = 0.0
    for i, corners in enumerate(polygons):
        p = torch.tensor([c[:2] for c in corners], dtype=torch.float64)
        a, b = p.roll(-1, 0) - p, p.roll(-2, 0) - p.roll(-1, 0)
        assert (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] > -1e-9).all()  # it turns one way only
        area += float((p[:, 0] * p.roll(-1, 0)[:, 1] - p[:, 1] * p.roll(-1, 0)[:, 0]).sum() / 2)
        far = torch.cdist(p, at)
        assert (far[:, i] <= far.min(1).values + 1e-9).all()
        for k, (_, _, j) in enumerate(corners):  # a border lies halfway
            if j >= 0:
                assert torch.allclose(far[[k, (k + 1) % len(p)], i], far[[k, (k + 1) % len(p)], j], atol=1e-9)
    assert area == pytest.approx((X[1] - X[0]) * (Y[1] - Y[0]), abs=1e-9)  # no gap, no overlap
    nearest = torch.cdist(torch.tensor(z, dtype=torch.float64), at).argmin(1).tolist()
    assert said == [sites[i]["n"] for i in nearest]


@pytest.mark.browser
def test_one_mean_fails_under_the_reader_s_hand_and_the_others_cure_it(page):
    one, other = page.locator(".metalib-cells").all()
    agrees(one)
    assert "Drag one circle" in one.get_by_role("status").inner_text()
    for _ in range(7):  # by 7.35 units
        one.locator(".handle").nth(1).press("Shift+ArrowRight")
    agrees(one, moved(1, (-1.7 + 7.35, -0.2)))
    assert one.locator(".wrong").count() >= 3 and "Now try two means" in one.get_by_role("status").inner_text()
    for label, sites, means in (("two means", 4, 4), ("the nearest example", 9, 0), ("one mean", 3, 3)):
        one.get_by_label(label).click()
        assert one.locator(".cell").count() == sites and one.locator(".mean").count() == means
        assert (one.locator(".wrong").count() == 0) == (label != "one mean")
        assert (one.locator("tbody tr td:last-child").first.inner_text() == "none") == (label != "one mean")
    agrees(other)  # untouched
    one.get_by_role("button", name="start again").click()
    agrees(one)


@pytest.mark.browser
def test_keys_and_mouse_move_points_and_star(page):
    one = page.locator(".metalib-cells").first
    square, star = one.locator(".handle").nth(4), one.locator(".handle.star")
    step = (X[1] - X[0]) / 100
    assert square.get_attribute("aria-label") == "square 2 of 3: the arrow keys move it"
    assert square.get_attribute("aria-valuetext") == "1.4, −0.4, in the cell of the squares"
    square.press("ArrowUp")
    square.press("Shift+ArrowLeft")
    agrees(one, moved(4, (1.4 - 10 * step, -0.4 + step)))
    star.press("Shift+ArrowDown")
    star.press("ArrowRight")
    agrees(one, moved(4, (1.4 - 10 * step, -0.4 + step)), (cells.STAR[0] + step, cells.STAR[1] - 10 * step))
    for _ in range(12):
        star.press("Shift+ArrowUp")
    assert place(one, 9)[1] == pytest.approx(Y[1], abs=0.02)  # it stays in the picture
    one.get_by_role("button", name="start again").click()
    box, frame = one.locator(".handle").nth(1).bounding_box(), one.locator(".plot > svg").bounding_box()
    x, y, unit = box["x"] + 18, box["y"] + 18, frame["width"] / (X[1] - X[0])
    page.mouse.move(x + 3, y - 2)  # not at its middle: it must not jump
    page.mouse.down()
    page.mouse.move(x + 3, y - 2)
    assert place(one, 1) == pytest.approx((-1.7, -0.2), abs=0.02)
    page.mouse.move(x + 3 + 6 * unit, y - 2 - unit, steps=4)
    page.mouse.up()
    page.mouse.move(x, y + 50)  # let go
    assert place(one, 1) == pytest.approx((4.3, 0.8), abs=0.02)
    agrees(one, moved(1, (4.3, 0.8)), atol=0.01)


def swipe(page, x, y, dx, dy, steps=8):
    """A finger that comes down at (x, y), moves by (dx, dy) in small steps, and is lifted."""
    send = partial(page.context.new_cdp_session(page).send, "Input.dispatchTouchEvent")
    send({"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for k in range(1, steps + 1):
        send({"type": "touchMove", "touchPoints": [{"x": x + k * dx / steps, "y": y + k * dy / steps}]})
        page.evaluate(SETTLED)
    send({"type": "touchEnd", "touchPoints": []})
    page.evaluate(SETTLED)


@pytest.mark.browser
def test_a_finger_scrolls_beside_the_points_and_moves_them(page):
    one = page.locator(".metalib-cells").first
    frame = one.locator(".plot > svg").bounding_box()
    swipe(page, frame["x"] + 0.8 * frame["width"], frame["y"] + 0.9 * frame["height"], 0, -240)
    page.wait_for_function("scrollY > 50")  # it follows the finger
    agrees(one)
    page.evaluate("scrollTo(0, 0)")
    page.evaluate(SETTLED)
    box, unit = one.locator(".handle").nth(1).bounding_box(), frame["width"] / (X[1] - X[0])
    swipe(page, box["x"] + 18, box["y"] + 18, 7 * unit, 0.5 * unit)
    assert page.evaluate("scrollX + scrollY") == 0
    assert place(one, 1) == pytest.approx((5.3, -0.7), abs=0.02)
    agrees(one, moved(1, (5.3, -0.7)), atol=0.01)
    assert one.locator(".wrong").count() >= 2
    box = one.locator(".handle.star").bounding_box()
    swipe(page, box["x"] + 22, box["y"] + 22, 2 * unit, -unit)
    assert place(one, 9) == pytest.approx((cells.STAR[0] + 2, cells.STAR[1] + 1), abs=0.02)


@pytest.mark.browser
def test_where_handles_overlap_the_nearest_point_is_drawn(page):
    one = page.locator(".metalib-cells").first
    for _ in range(5):
        one.locator(".handle").nth(1).press("ArrowLeft")  # beside circle 1, whose handle lies below
    for _ in range(10):
        one.locator(".handle").nth(0).press("ArrowRight")
    here, there = place(one, 0), place(one, 1)
    box = one.locator(".handle").nth(0).bounding_box()
    page.mouse.move(box["x"] + 18, box["y"] + 18)
    page.mouse.down()
    page.mouse.move(box["x"] + 18, box["y"] + 58, steps=3)
    page.mouse.up()
    assert place(one, 1) == pytest.approx(there, abs=0.02) and place(one, 0)[1] < here[1] - 1


@pytest.mark.browser
@pytest.mark.parametrize("scripts", [True, False])
def test_without_scripts_it_is_a_picture(browser, html, tmp_path, scripts):  # noqa: F811
    context = browser.new_context(java_script_enabled=scripts)
    try:
        tab = context.new_page()
        tab.goto(two_of("cells", html, tmp_path, "light"))
        image = tab.locator(".metalib-widget > img").first
        assert tab.locator(".metalib-widget svg").count() > 0 if scripts else image.is_visible()
        assert tab.locator(".metalib-widget > img").count() == (0 if scripts else 2)
    finally:
        context.close()


@pytest.mark.browser
@pytest.mark.parametrize("letters", ["/* */", WIDER], ids=["as they are", "wider"])  # another machine's fonts
def test_the_page_fits_a_phone_and_can_be_read(page, axe, letters):  # noqa: F811
    page.add_style_tag(content=letters)
    page.locator(".metalib-cells .handle").nth(1).press("Shift+ArrowRight")
    fits_a_phone(page, "cells", "table, button, input, label, p, div > svg")
    for figure in page.locator(".metalib-cells").all():
        assert all(min(h.bounding_box()[k] for k in ("width", "height")) >= 36 for h in figure.locator(".handle").all())
    page.evaluate(axe)
    assert page.evaluate("axe.run(document).then(found => found.violations.map(v => v.id))") == []
