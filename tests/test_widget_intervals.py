"""Chapter 3's figure: its world is the chapter's, its intervals are metalib's, and a page counts what misses."""

import gzip
import math
import re
from functools import partial

import pytest
import torch

from metalib import Score, seeded
from metalib.figures.widgets import intervals
from test_browser import SETTLED, WIDER, axe, browser  # noqa: F401  (fixtures)
from tools import pictures
from widget_page import fits_a_phone, two_of, without_problems

KINDS = ("normal", "student", "queries")  # of an interval, as the page's buttons


@pytest.fixture(scope="module")
def html():
    return intervals.figure(seed=0).html()


def world(mean, replicates, n, g, queries=75):
    """As chapter 3 defines it."""
    u = torch.rand(replicates, n, generator=g, dtype=torch.float64)
    p = u ** ((1 - mean) / mean)
    return torch.binomial(torch.full_like(p, queries), p, generator=g) / queries


def test_the_population_is_the_world_of_the_chapter():
    p, k = pictures.population(), torch.arange(76, dtype=torch.float64) / 75
    assert float(p @ k) == pytest.approx(0.9, abs=1e-12)
    drawn = world(0.9, 1, 400_000, seeded(0))[0]
    counts = torch.bincount((75 * drawn).round().long(), minlength=76).double()
    expected = 400_000 * p
    common = expected > 5  # Pearson's statistic: its mean is their number, its standard deviation sqrt(2 * number)
    statistic = float(((counts - expected) ** 2 / expected)[common].sum())
    assert statistic < float(common.sum()) + 5 * math.sqrt(2 * float(common.sum()))


@pytest.mark.parametrize("n", [2, 5, 10, 29, 30, 100, 600])
def test_half_is_the_score_s_interval(n):
    tests = pictures.draw(4, n, seeded(n))
    score = torch.tensor([Score.of(test).ci95 for test in tests], dtype=torch.float64)
    torch.testing.assert_close(pictures.half(tests, "student"), score, rtol=0, atol=1e-12)
    spread = torch.tensor([1.96 * float(test.std()) / math.sqrt(n) for test in tests], dtype=torch.float64)
    torch.testing.assert_close(pictures.half(tests, "normal"), spread, rtol=0, atol=1e-12)
    right = (75 * tests).round().sum(1) / (75 * n)  # of all queries: a proportion
    torch.testing.assert_close(pictures.half(tests, "queries"), 1.96 * (right * (1 - right) / (75 * n)).sqrt())


def test_the_figure_is_small_always_the_same_and_asks_nothing_of_the_network(html):
    assert html == intervals.figure(seed=0).html()
    assert len(gzip.compress(html.encode())) < 17_000
    html = re.sub('base64,[^"]*', "", html)  # without its own picture
    assert len(gzip.compress(html.encode())) < 6_000
    assert "https:" not in html and "http:" not in html.replace("http://www.w3.org/2000/svg", "")
    assert intervals.figure().png.startswith(b"\x89PNG")


def test_another_number_of_tasks_is_refused():
    with pytest.raises(ValueError, match="tasks=7: expected one of 5, 10, 30, 100, 600"):
        intervals.figure(7)


# --- In a browser -------------------------------------------------------------------------------------------------



@pytest.fixture(params=["light", "dark"])
def page(browser, html, tmp_path, request):  # noqa: F811
    with without_problems(browser, two_of("intervals", html, tmp_path, request.param)) as page:
        yield page


def math_of(html):
    """The page's arithmetic, as a script that defines `math`."""
    script = html[html.index("function intervalsMath"):html.index("function intervals(root")]
    return f"{script}\nconst math = intervalsMath({re.search(r'intervals.root, (.*).;', html)[1]});"


def said(figure):
    """(missed, too high, too low) of the intervals that are shown, as the status line says it."""
    text = figure.get_by_role("status").inner_text()
    high, low = re.search(r"\((\d+) too high, (\d+) too low\)", text).groups() if "too high" in text else (0, 0)
    return int(re.match(r"(\d+) of these 50 miss it", text)[1]), int(high), int(low)


def rows(figure):
    """{tasks a test: (missed, of)} as the table of all presses has them."""
    counts = {int(row.get_attribute("data-tasks")): row.locator("td").first.inner_text().split(" of ")
              for row in figure.locator("tr[data-tasks]").all()}
    return {n: (int(missed), int(tests)) for n, (missed, tests) in counts.items()}


def marks(figure):
    """How many intervals are drawn as kept, with a dot, and as missed, with a cross."""
    shown = figure.locator(".run > div > svg")
    dots, crosses = shown.locator("g.kept > circle").count(), shown.locator("g.missed > path + path").count()
    assert (shown.locator("g.kept").count(), shown.locator("g.missed").count()) == (dots, crosses)
    return dots, crosses


@pytest.mark.browser
def test_the_page_s_interval_is_the_score_s_to_1e_9(page, html):
    tests = {n: pictures.draw(6, n, seeded(n)) for n in (2, 5, 10, 29, 30, 100, 600)}
    got = page.evaluate(f"""tests => {{ {math_of(html)}
        return tests.map(values => {{
          const test = math.summary(values);
          return [test.mean, ...{list(KINDS)}.map(kind => math.half(test, kind)),
                  ...{list(KINDS)}.map(kind => math.side(test, kind))]; }}); }}""",
                        [values for each in tests.values() for values in each.tolist()])
    for shown, values in zip(got, (v for each in tests.values() for v in each), strict=True):
        score = Score.of(values)
        halves = [float(pictures.half(values[None], kind)) for kind in KINDS]
        assert shown[0] == pytest.approx(score.mean, abs=1e-9) and shown[2] == pytest.approx(score.ci95, abs=1e-9)
        assert shown[1:4] == pytest.approx(halves, abs=1e-9)
        off = score.mean - intervals.TRUTH
        assert shown[4:] == [int(math.copysign(1, off)) if abs(off) > h else 0 for h in halves]


@pytest.mark.browser
def test_the_page_draws_from_the_population_and_misses_as_often_as_metalib(page, html):
    N = 4000
    population, counts, missed = page.evaluate(f"""N => {{ {math_of(html)}
        const counts = Array(76).fill(0), missed = {{}};
        for (let i = 0; i < 50 * N; i++) counts[Math.round(75 * math.test(1).mean)]++;
        for (const n of [5, 10]) {{
          const tests = Array.from({{ length: N }}, () => math.test(n));
          missed[n] = {list(KINDS)}.map(kind => tests.filter(t => math.side(t, kind)).length / N);
        }}
        return [math.population, counts, missed]; }}""", N)
    p = pictures.population()
    torch.testing.assert_close(torch.tensor(population, dtype=torch.float64), p, rtol=1e-9, atol=1e-12)
    expected = 50 * N * p
    common = expected > 5
    statistic = float(((torch.tensor(counts) - expected) ** 2 / expected)[common].sum())
    assert statistic < float(common.sum()) + 5 * math.sqrt(2 * float(common.sum()))
    for n in (5, 10):
        tests = pictures.draw(4 * N, n, seeded(n))
        for kind, shown in zip(KINDS, missed[str(n)], strict=True):
            rate = float(((tests.mean(1) - intervals.TRUTH).abs() > pictures.half(tests, kind)).double().mean())
            assert abs(shown - rate) < 5 * math.sqrt(rate * (1 - rate) * 1.25 / N), (n, kind)


@pytest.mark.browser
def test_it_starts_empty_with_a_question_and_a_press_draws_and_counts(page):
    one, other = page.locator(".metalib-intervals").all()
    assert "how many will miss" in one.locator("p").first.inner_text() and marks(one) == (0, 0) and not rows(one)
    one.get_by_label("your guess").fill("3")
    page.get_by_role("button", name="draw 50 tests").first.tap()
    missed, high, low = said(one)
    assert missed == high + low and marks(one) == (50 - missed, missed) and rows(one) == {5: (missed, 50)}
    assert "You guessed 3." in one.get_by_role("status").inner_text()
    total = missed
    for presses in (2, 3, 4, 5):
        one.get_by_role("button", name="draw 50 tests").click()
        total += said(one)[0]
        assert rows(one) == {5: (total, 50 * presses)}
    cells = one.locator("tr[data-tasks] td").all_inner_texts()
    assert cells == [f"{total} of 250", f"{100 * total / 250:.1f} %", "5 ± 2.7 %"]
    assert marks(other) == (0, 0) and not rows(other)


@pytest.mark.browser
def test_another_interval_judges_the_same_tests_and_another_number_of_tasks_asks_anew(page):
    one = page.locator(".metalib-intervals").first
    one.get_by_label("your guess").fill("2")
    one.get_by_label("your guess").press("Enter")
    normal, means = said(one)[0], one.locator("g.kept > circle, g.missed > path + path").count()
    one.get_by_label("mean ± 1.96 s / √n").press("ArrowDown")  # by the keyboard: Student's t
    assert one.get_by_label("Student").is_checked() and said(one)[0] < normal
    assert "guessed" not in one.get_by_role("status").inner_text()
    assert one.get_by_label("your guess").input_value() == ""
    one.get_by_label("as if every query").tap()
    assert said(one)[0] > normal
    assert one.locator("g.kept > circle, g.missed > path + path").count() == means
    one.get_by_label("mean ± 1.96 s / √n").tap()
    assert said(one)[0] == normal
    slider = one.get_by_label("tasks a test")
    for key, n in (("ArrowRight", 10), ("End", 600)):
        slider.press(key)
        assert marks(one) == (0, 0) and slider.get_attribute("aria-valuetext") == f"{n} tasks"
        assert f"{n} tasks" in one.locator("p").first.inner_text()
        one.get_by_role("button", name="draw 50 tests").press("Enter")
        assert sum(marks(one)) == 50
    assert list(rows(one)) == [5, 10, 600]
    slider.press("Home")
    assert said(one)[0] == normal and rows(one)[5] == (normal, 50)  # its tests are still there
    one.get_by_role("button", name="forget").click()
    assert not rows(one) and marks(one) == (0, 0)


@pytest.mark.browser
def test_a_guess_that_cannot_be_is_refused(page):
    one = page.locator(".metalib-intervals").first
    one.get_by_label("your guess").fill("51")
    one.get_by_role("button", name="draw 50 tests").click()
    assert marks(one) == (0, 0)


def swipe(page, x, y, dy, steps=8):
    """A finger that comes down at (x, y), moves by dy in small steps, and is lifted."""
    client = page.context.new_cdp_session(page)
    send = partial(client.send, "Input.dispatchTouchEvent")
    send({"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for k in range(1, steps + 1):
        send({"type": "touchMove", "touchPoints": [{"x": x, "y": y + k * dy / steps}]})
        page.evaluate(SETTLED)
    send({"type": "touchEnd", "touchPoints": []})
    page.evaluate(SETTLED)


@pytest.mark.browser
def test_a_finger_scrolls_over_the_picture(page):
    page.get_by_role("button", name="draw 50 tests").first.tap()
    box = page.locator(".metalib-intervals .run > div > svg").first.bounding_box()
    swipe(page, box["x"] + 150, box["y"] + 250, -200)
    page.wait_for_function("scrollY > 50")  # it follows the finger
    assert sum(marks(page.locator(".metalib-intervals").first)) == 50


@pytest.mark.browser
def test_a_finger_that_scrolls_from_the_slider_chooses_nothing_and_the_result_stays(page):
    one = page.locator(".metalib-intervals").first
    page.get_by_role("button", name="draw 50 tests").first.tap()
    before, slider = said(one), one.get_by_label("tasks a test")
    slider.scroll_into_view_if_needed()
    page.evaluate(SETTLED)
    box, scrolled = slider.bounding_box(), page.evaluate("scrollY")
    swipe(page, box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2, -200)
    page.wait_for_function(f"scrollY > {scrolled} + 40")
    assert slider.input_value() == "0" and slider.get_attribute("aria-valuetext") == "5 tasks"
    assert said(one) == before and sum(marks(one)) == 50 and one.locator(".tasks span").inner_text() == "5"
    slider.press("ArrowRight")  # it still works
    assert slider.get_attribute("aria-valuetext") == "10 tasks" and marks(one) == (0, 0)
    slider.press("Home")
    box = slider.bounding_box()
    page.touchscreen.tap(box["x"] + 0.99 * box["width"], box["y"] + box["height"] / 2)
    page.wait_for_function("document.querySelector('.metalib-intervals p').textContent.includes('600 tasks')")
    assert marks(one) == (0, 0)


@pytest.mark.browser
def test_without_a_seed_every_visit_has_tests_of_its_own(browser, tmp_path):  # noqa: F811
    file, seen = tmp_path / "page.html", set()
    file.write_text(f"<!doctype html><title>x</title>{intervals.figure().html()}", encoding="utf-8")
    tab = browser.new_page()
    for _ in range(3):
        tab.goto(file.as_uri())
        tab.get_by_role("button", name="draw 50 tests").click()
        seen.add(tab.locator(".metalib-intervals .run > div > svg").inner_html())
    tab.close()
    assert len(seen) == 3


@pytest.mark.browser
@pytest.mark.parametrize("letters", ["/* */", WIDER], ids=["as they are", "wider"])  # another machine's fonts
def test_the_page_fits_a_phone_and_can_be_read(page, axe, letters):  # noqa: F811
    page.add_style_tag(content=letters)
    page.get_by_role("button", name="draw 50 tests").first.tap()
    fits_a_phone(page, "intervals", "table, button, input, label, p, svg")
    page.evaluate(axe)
    assert page.evaluate("axe.run(document).then(found => found.violations.map(v => v.id))") == []
