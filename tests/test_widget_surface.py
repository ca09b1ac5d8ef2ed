"""Chapter 4's figure: its three arrows are what they are called, and the page shows the numbers of metalib."""

import json
import math
import re

import pytest
import torch

from metalib.figures.widgets import surface
from test_browser import SETTLED, WIDER, browser  # noqa: F401  (the fixture)

THETA = torch.tensor(surface.STARTS, dtype=torch.float64)
STEPS = range(surface.MOST_STEPS + 1)


@pytest.fixture(scope="module")
def html():
    return surface.figure().html()


@pytest.fixture(scope="module")
def data(html):
    return json.loads(re.search(r"surface\(root, (.*)\);\n\}\)", html).group(1))


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


def test_first_order_is_exact_without_inner_steps_and_turns_away_with_them(data):
    assert data["byStep"][0]["first"] == data["byStep"][0]["exact"]
    cosines = [torch.cosine_similarity(surface.gradients(THETA, J, 1), surface.gradients(THETA, J, 2)).mean()
               for J in STEPS]
    assert all(a > b for a, b in zip(cosines, cosines[1:], strict=False))


def test_the_paths_are_the_inner_loop_of_every_task(data):
    for i in (0, 40, 80):
        a, b = surface.STARTS[i]
        phi = torch.tensor([a, b], dtype=torch.float64)
        for t in range(len(surface.WAVES)):
            support = surface.waves().task(t).support
            assert [round(1000 * v) for v in phi.tolist()] == data["paths"][i][t][0]
            phi_j = phi.clone()
            for j in range(1, surface.MOST_STEPS + 1):
                phi_j.requires_grad_()
                loss = (phi_j[0] * torch.sin(support.x + phi_j[1]) - support.y).pow(2).mean()
                phi_j = (phi_j - surface.ALPHA * torch.autograd.grad(loss, phi_j)[0]).detach()
                assert [round(1000 * v) for v in phi_j.tolist()] == data["paths"][i][t][j]


@pytest.mark.parametrize("J", [0, 3, 6])
def test_contours_lie_where_the_meta_loss_has_their_level(J, data):
    for level, rings in zip(surface.LEVELS, data["byStep"][J]["regions"], strict=True):
        for ring in rings:
            ba = torch.tensor(ring, dtype=torch.float64).reshape(-1, 2) / 100
            inside = (ba[:, 0].abs() < 1.99) & (ba[:, 1] > 0.01) & (ba[:, 1] < 3.99)  # the rest is the frame
            if inside.any():
                error = (surface.meta_loss(ba[inside].flip(1), J) - level).abs()
                assert float(error.median()) < 0.05 * level + 0.02


def test_the_figure_is_small_always_the_same_and_asks_nothing_of_the_network(html):
    assert html == surface.figure().html() and len(html) < 120_000
    assert "https:" not in html and "http:" not in html.replace("http://www.w3.org/2000/svg", "")
    assert surface.figure().png.startswith(b"\x89PNG")


@pytest.mark.parametrize("wrong", [{"steps": 7}, {"steps": -1}, {"start": (1.0, 1.0)}])
def test_a_view_that_cannot_be_chosen_is_refused(wrong):
    with pytest.raises(ValueError, match="one of surface.STARTS"):
        surface.figure(**wrong)


# --- In a browser -------------------------------------------------------------------------------------------------

@pytest.fixture(params=["light", "dark"])
def page(browser, html, tmp_path, request):  # noqa: F811
    """Two of the figure on one page: they must not disturb each other."""
    path, problems = tmp_path / "page.html", []
    path.write_text(f'<!doctype html><html data-theme="{request.param}"><meta charset="utf-8"><title>surface</title>'
                    f'<body style="font-family:sans-serif">{html}<hr>{html}', encoding="utf-8")
    page = browser.new_page(viewport={"width": 390, "height": 1800})
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("request", lambda r: None if r.url == path.as_uri() else problems.append(r.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert not problems


def shown(figure):
    """{arrow: [d/da, d/db, length, angle]} as the page's table prints them."""
    return {row.get_attribute("data-arrow"): [float(t.replace("−", "-").rstrip("°")) for t in
                                              row.locator("td").all_inner_texts()]
            for row in figure.locator("tr[data-arrow]").all()}


def expected(J, i):
    exact, first = (surface.gradients(THETA[i:i + 1], J, order)[0] for order in (2, 1))
    angle = math.degrees(math.acos(float(torch.cosine_similarity(exact, first, dim=0).clamp(-1, 1))))
    return exact.tolist(), first.tolist(), angle


@pytest.mark.browser
def test_the_page_shows_metalib_s_numbers_and_moves_with_keys_and_pointer(page):
    one, other = page.locator(".metalib-surface").all()
    before, steps = shown(other), one.get_by_label("inner steps J")
    i, J = surface.STARTS.index(min(surface.STARTS, key=lambda s: abs(s[0] - 1.2) + abs(s[1] - 0.8))), 3
    for move in (None, "ArrowRight", "Home"):
        if move:
            steps.press(move)
            J = {"ArrowRight": 4, "Home": 0}[move]
        exact, first, angle = expected(J, i)
        table = shown(one)
        assert table["exact"][:2] == pytest.approx(exact, abs=0.006) == table["differences"][:2]
        assert table["first"][:2] == pytest.approx(first, abs=0.006)
        assert table["first"][3] == pytest.approx(angle, abs=1)
        assert f"after {J} inner steps" in one.locator(".loss").inner_text()
    steps.press("End")
    one.get_by_label("start: amplitude a").press("ArrowRight")
    one.get_by_label("start: phase b").press("ArrowLeft")
    assert shown(one)["exact"][:2] == pytest.approx(expected(6, i + 9 - 1)[0], abs=0.006)
    picture = one.locator("svg").first.bounding_box()
    page.mouse.click(picture["x"] + 34 + 10, picture["y"] + 8 + 10)  # the corner with the largest a, the smallest b
    assert shown(one)["exact"][:2] == pytest.approx(expected(6, 8 * 9)[0], abs=0.006)
    one.get_by_role("button").click()
    assert shown(one)["first"][3] > 90  # first order can point uphill
    assert shown(other) == before


@pytest.mark.browser
@pytest.mark.parametrize("letters", ["/* */", WIDER], ids=["as they are", "wider"])  # another machine's fonts
def test_the_page_fits_a_phone(page, letters):
    page.add_style_tag(content=letters)
    page.evaluate(SETTLED)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for figure in page.locator(".metalib-surface").all():
        assert all(c.bounding_box()["height"] >= 24 for c in figure.locator("input, button").all())
