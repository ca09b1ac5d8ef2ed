"""Chapter 2's switches: the page draws metalib's episodes, its learner is metalib's; finger, mouse and keys use it."""

import functools
import gzip
import itertools
import json
import re

import pytest
import torch
import torch.nn.functional as F

import metalib
from metalib import Data, FewShot, PixelFloor, Score, audit, glyphs, seeded
from metalib.figures.widgets import leaks
from metalib.figures.widgets.leaks import LEAKS, WAY, Leaks, bank
from test_browser import SETTLED, WIDER, axe, browser  # noqa: F401  (the fixtures)
from tools import pictures
from tools.pictures import Exams, Opportunist, practised
from widget_page import DARK, opened, without_problems

ALONE = [(), *((key,) for key in LEAKS)]
SETS = [*ALONE, ("labels", "rotations"), ("shared", "order"), ("shared", "labels", "rotations"), ("batch", "balance"),
        tuple(LEAKS)]
named = pytest.mark.parametrize("on", SETS, ids=lambda on: "+".join(on) or "none")


@pytest.fixture(scope="module")
def test_split():
    return glyphs().split("test")


@pytest.fixture(scope="module")
def widget(test_split):
    return Leaks(test_split, metalib.record("leaks"))


@pytest.fixture(scope="module")
def world(widget):
    return widget.world


@pytest.fixture(scope="module")
def examined(world):
    """examined(*leaks, seed=0, episodes=600): computed once."""
    return functools.cache(lambda *on, **options: pictures.examined(world, on, **options))


# --- the world, its exams and its learner ---------------------------------------------------------------------------

def test_the_exam_has_other_drawings_than_practice(test_split, world):
    exam, practice = world
    assert (len(exam), len(exam.images), practice.shape) == (80, 800, (80, 196))
    assert len(exam.base.unique()) == 20 and exam.images.unique().tolist() == [0, 85, 170, 255]
    other = test_split.images.clone().reshape(-1, 20, *test_split.images.shape[1:])
    other[:, :10] = 255  # other drawings to practise with
    changed = bank(metalib.ClassImages.from_arrays(other.flatten(0, 1), test_split.labels))
    assert torch.equal(changed[0].images, exam.images) and not torch.equal(changed[1], practice)


def test_without_a_leak_the_exam_is_fewshot_s(world):
    honest = FewShot(world[0], WAY, 1, 5, dtype=torch.float64)
    for part, mine in zip(honest.sample(30, generator=seeded(3)), Exams(world[0]).sample(30, generator=seeded(3))):
        assert torch.equal(part.x, mine.x) and torch.equal(part.y, mine.y)
    assert audit(Exams(world[0])).passed


@named
def test_a_leak_is_what_it_is_called(world, on):
    tasks, T = Exams(world[0], on), 200
    classes, examples = tasks.sample_indices(T, generator=seeded(0))
    (sx, _, _), (qx, qy, _) = tasks.sample(T, generator=seeded(0))
    copies = (examples[..., 1:] == examples[..., :1]).double().mean()
    assert 0.07 < copies < 0.13 if "shared" in on else copies == 0  # a tenth
    assert all(len(set(row)) == WAY for row in classes.tolist())
    characters = [len({c % 20 for c in row}) for row in classes.tolist()]
    assert set(characters) == ({2} if "rotations" in on else {WAY})
    labels = {c: {n for n in range(WAY) if (classes[:, n] == c).any()} for c in classes.unique().tolist()}
    assert all(len(n) == 1 for n in labels.values()) == ("labels" in on)
    assert (qy.diff(dim=1) >= 0).all() == ("order" in on) and (qy.sort(1).values == torch.arange(25) // 5).all()
    assert sx.shape == (T, 5, 1, 14, 14) and qx.shape == (T, 25, 1, 14, 14)


def test_an_unknown_leak_is_refused(world):
    with pytest.raises(ValueError, match=r"\['nosuch'\]: expected some of .*shared"):
        Exams(world[0], ["nosuch"])


def test_without_its_hints_the_learner_is_nearest_pixels_on_centred_images(world, monkeypatch):
    monkeypatch.setattr(pictures, "PLACE", 0.0)
    monkeypatch.setattr(pictures, "RECALL", 0.0)
    support, query = Exams(world[0]).sample(1, generator=seeded(5)).task(0)
    for batch in (False, True):
        learner, floor = Opportunist(world[1], torch.zeros(80, 5), batch=batch), PixelFloor()
        mean = (query.x.mean(0) if batch else world[1].mean(0).reshape(1, 14, 14))
        expected = floor.predict(floor.adapt(Data(support.x - mean, support.y, WAY)), query.x - mean)
        torch.testing.assert_close(learner.predict(learner.adapt(support), query.x), expected)


def test_its_hints_are_worth_nothing_in_an_honest_exam(world, monkeypatch):
    """Place and memory alone: 1/5 without a leak, more with fixed labels, everything with queries in order."""
    def blind(a, b):  # to the support, not to what it remembers
        return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T * (len(b) > WAY)

    monkeypatch.setattr(pictures, "_cosine", blind)
    honest, labels, order = (pictures.examined(world, on) for on in ((), ("labels",), ("order",)))
    assert abs(honest.mean - 0.2) < 2 * honest.ci95
    assert labels.mean > 0.4 and order.mean > 0.9


def test_a_learner_that_knows_the_balance_hands_out_each_label_as_often(world):
    tasks = Exams(world[0])
    support, query = tasks.sample(1, generator=seeded(0)).task(0)
    learner = Opportunist(world[1], practised(tasks, 0), balance=True)
    p = (leaks.SURE * learner.predict(learner.adapt(support), query.x)).exp()
    torch.testing.assert_close(p.sum(1), torch.ones(25, dtype=torch.float64))
    torch.testing.assert_close(p.sum(0), torch.full((5,), 5.0, dtype=torch.float64), rtol=0, atol=0.05)


def test_what_the_chapter_says_of_the_six(examined):
    honest = examined()
    gains = {key: Score.of(examined(key).values - honest.values) for key in LEAKS}
    assert max(gains, key=lambda k: gains[k].mean) == "order" and gains["rotations"].mean < -gains["rotations"].ci95
    assert all(g.mean > g.ci95 for key, g in gains.items() if key != "rotations")
    both = examined("shared", "order").mean - honest.mean
    assert both < gains["shared"].mean + gains["order"].mean


def test_the_figure_is_light_always_the_same_and_asks_for_nothing(widget, test_split):
    html = widget.html()
    assert html == Leaks(test_split, metalib.record("leaks")).html()
    assert len(gzip.compress(html.encode(), 6)) < 30_000
    assert "http" not in re.sub('base64,[^"]*', "", html)
    pair = metalib.record("leaks")["unseen"]["pairs"]["the exam's own classes minus other scripts"]
    assert f"{100 * pair['mean']:+.1f} ± {100 * pair['ci95']:.1f}" == widget.data["split"]
    assert [(d["key"], d["n"], d["name"]) for d in widget.data["leaks"]] == [(k, *v[:2]) for k, v in LEAKS.items()]


# --- in a browser -------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def address(tmp_path_factory, widget):
    """A page longer than the screen, with two of the figure: they must not disturb each other."""
    path = tmp_path_factory.mktemp("leaks") / "page.html"
    path.write_text('<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-'
                    f'width, initial-scale=1"><title>leaks</title><style>{DARK}</style><body style="margin: 16px; '
                    f'font-family: sans-serif">{widget.html()}{widget.html()}<p style="height: 2000px">below</p>',
                    encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address):  # noqa: F811
    with without_problems(browser, address) as page:
        yield page


@pytest.fixture
def desk(browser, address):  # noqa: F811
    large = {"viewport": {"width": 1400, "height": 900}, "has_touch": False, "is_mobile": False}
    with without_problems(browser, address, **large) as page:
        yield page


def first(page):
    return page.locator("[data-widget=leaks]").first


def live(page):
    return first(page).locator("[role=status]").inner_text()


def switch(page, key):
    return first(page).locator(f"[data-leak={key}]")


def percent(score):
    return f"{100 * score.mean:.1f} ± {100 * score.ci95:.1f} %"


def points(a, b):
    gain = Score.of(a.values - b.values)
    return f"{100 * gain.mean:+.1f} ± {100 * gain.ci95:.1f}".replace("-", "−")


ASK = """([sets, seeds, n]) => {
    const world = document.querySelector("[data-widget=leaks]").leaks.world;
    return sets.map(keys => seeds.map(seed => {
        const on = new Set(keys), share = world.practise(seed, on), next = world.exam(seed, on), exams = [];
        for (let t = 0; t < n; t++) exams.push(next());
        return {share, exams, logits: exams.map(e => world.logits(e, share, on)),
                score: world.score(exams.map(e => e.accuracy))};
    }));
}"""


@pytest.mark.browser
def test_the_page_draws_metalib_s_episodes_and_answers_as_its_learner_does(desk, world):
    seeds, n = [0, 2**31 - 1], 30
    for on, each in zip(SETS, desk.evaluate(ASK, [SETS, seeds, n]), strict=True):
        for seed, got in zip(seeds, each, strict=True):
            tasks, g = Exams(world[0], on), seeded(seed)
            share = practised(tasks, seed)
            torch.testing.assert_close(torch.tensor(got["share"], dtype=torch.float64), share, rtol=0, atol=1e-12)
            learner = Opportunist(world[1], share, batch="batch" in on, balance="balance" in on)
            for e, logits in zip(got["exams"], got["logits"], strict=True):
                support, query = tasks.sample(1, generator=g).task(0)
                for rows, part in ((e["support"], support), (e["query"], query)):
                    assert torch.equal(world[0].images[rows].double() / 255, part.x), (on, seed)
                assert e["y"] == query.y.tolist()
                expected = learner.predict(learner.adapt(support), query.x)
                torch.testing.assert_close(torch.tensor(logits, dtype=torch.float64), expected, rtol=1e-9, atol=1e-9)
            score = pictures.examined(world, on, seed, n)
            assert (got["score"]["mean"], got["score"]["ci95"]) == pytest.approx((score.mean, score.ci95), abs=1e-12)


@pytest.mark.browser
def test_the_page_has_metalib_s_images(desk, world):
    got = desk.evaluate("""() => { const {images, practice} = document.querySelector("[data-widget=leaks]").leaks.world;
                                   return [images.map(x => [...x]), practice.map(x => [...x])]; }""")
    torch.testing.assert_close(torch.tensor(got[0], dtype=torch.float64), world[0].images.flatten(1).double() / 255)
    torch.testing.assert_close(torch.tensor(got[1], dtype=torch.float64), world[1])


def tour(page, examined, press):
    """A guess, each leak alone, two together, all off."""
    honest = examined()
    assert live(page).startswith(f"All leaks are off: the learner names {percent(honest)}")
    assert "Guess first" in live(page)
    assert page.locator("[role=switch]").count() == 0 and "+" not in first(page).locator(".mk-list").inner_text()
    press("batch")
    assert "you guessed leak 6 (query batch standardised)" in live(page)
    assert first(page).locator("[aria-checked=true]").count() == 0
    for key, (number, name, _) in LEAKS.items():
        press(key)
        leaky = examined(key)
        assert live(page).startswith(f"With leak {number} ({name}): {percent(leaky)}, {points(leaky, honest)} points")
        assert switch(page, key).get_attribute("aria-checked") == "true"
        assert points(leaky, honest) in switch(page, key).inner_text()
        press(key)
        assert switch(page, key).get_attribute("aria-checked") == "false"
    assert live(page).startswith(f"All leaks are off: {percent(honest)}")
    assert "leak 4 adds most; you guessed 6" in live(page)
    press("shared")
    press("order")
    both = examined("shared", "order")
    said = f"With leak 1 (image shared) and leak 4 (queries in order): {percent(both)}, {points(both, honest)} points"
    assert live(page).startswith(said)
    widths = first(page).locator(".mk-fill").evaluate_all("all => all.map(e => parseFloat(e.style.width))")
    assert widths == pytest.approx([100 * honest.mean, 100 * both.mean], abs=1e-3)
    assert page.locator("[data-widget=leaks]").nth(1).locator("[role=switch]").count() == 0, "the other figure moved"


@pytest.mark.browser
def test_the_switches_with_a_finger(page, examined):
    tour(page, examined, lambda key: switch(page, key).tap())


@pytest.mark.browser
def test_the_switches_with_a_mouse(desk, examined):
    tour(desk, examined, lambda key: switch(desk, key).click())


@pytest.mark.browser
def test_the_switches_with_the_keyboard_alone(desk, examined):
    keys = itertools.cycle(["Enter", "Space"])
    focused = "document.querySelector('[data-widget=leaks]').querySelector(':focus')?.dataset.leak"

    def press(key):
        for direction in ["Tab"] * 8 + ["Shift+Tab"] * 16:
            if desk.evaluate(focused) == key:
                break
            desk.keyboard.press(direction)
        assert desk.evaluate(focused) == key, "Tab does not reach it"
        desk.keyboard.press(next(keys))
        assert desk.evaluate(focused) == key, "the focus is lost"

    tour(desk, examined, press)


@pytest.mark.browser
def test_a_finger_that_moves_over_a_switch_scrolls_and_switches_nothing(page):
    switch(page, "order").tap()  # the guess
    box, client = switch(page, "labels").bounding_box(), page.context.new_cdp_session(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    client.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for i in range(1, 15):
        client.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y - 12 * i}]})
    client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("scrollY > 20")
    assert first(page).locator("[aria-checked=true]").count() == 0


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 390, 1400])
def test_no_switch_moves_whatever_is_said_above_it(browser, address, width):  # noqa: F811
    page = opened(browser, address, viewport={"width": width, "height": 844})
    places = """[...document.querySelector('[data-widget=leaks]').querySelectorAll('.mk-row')].map(
        e => e.getBoundingClientRect().top + scrollY)"""
    before = page.evaluate(places)
    for key in ("batch", *LEAKS, "shared", "rotations", "batch", "order", "labels", "balance"):  # guess, all, none
        switch(page, key).tap()
        assert page.evaluate(places) == pytest.approx(before, abs=0.5), key
    for key in LEAKS:
        for _ in "on", "off":
            switch(page, key).tap()
            assert page.evaluate(places) == pytest.approx(before, abs=0.5), (key, live(page))
    switch(page, "shared").tap()
    switch(page, "batch").tap()
    assert "of the six alone" in live(page).lower() and page.evaluate(places) == pytest.approx(before, abs=0.5)
    page.context.close()


@pytest.mark.browser
def test_while_it_counts_it_says_what_is_on_and_the_first_line_asks_for_the_guess(browser, address):  # noqa: F811
    page = opened(browser, address, reduced_motion="no-preference")
    page.evaluate("window.requestAnimationFrame = f => { window.frame = f; }")  # from here on it counts no further
    switch(page, "order").tap()
    assert live(page) == "All leaks are off: counting…"
    switch(page, "labels").tap()
    assert live(page) == f"Leak 3 ({LEAKS['labels'][1]}) is on: counting…"
    for key in ("order", "batch"):
        switch(page, key).tap()
    assert live(page) == "Leaks 3, 4, 6 are on: counting…"
    page.context.close()
    page = opened(browser, address)
    asks = first(page).locator("[role=status] strong")
    assert asks.inner_text() == "Guess first: press the leak that adds most."
    assert "Seven leaks, six switches" in first(page).inner_text()
    for _ in range(2):  # the exam on paper is below: its result stands above the switches too
        tally, head = first(page).locator(".mk-tally").inner_text(), first(page).inner_text()
        number, right = re.fullmatch(r"Exam (\d): (\d+ of 25 right)", tally).groups()
        assert f"Exam {number} of 600: {right}" in head
        first(page).get_by_role("button", name="Another exam").tap()
    page.context.close()


@pytest.mark.browser
@named
def test_the_exam_on_paper_shows_what_leaked(desk, world, on):
    for key in ("labels", *on):  # the guess, then the switches
        switch(desk, key).click()
    tasks, g = Exams(world[0], on), seeded(0)
    learner = Opportunist(world[1], practised(tasks, 0), batch="batch" in on, balance="balance" in on)
    for number in (1, 2, 3):
        support, query = tasks.sample(1, generator=g).task(0)
        said = learner.predict(learner.adapt(support), query.x).argmax(1)
        cards = first(desk).locator(".mk-cards").nth(1).locator(".mk-card")
        shown = [f"{n} {'✓' if n == y else '✗'}" for n, y in zip(said.tolist(), query.y.tolist())]
        assert [t.strip() for t in cards.all_inner_texts()] == shown
        copies = [bool((support.x == x).flatten(1).all(1).any()) for x in query.x]
        outlined = cards.evaluate_all("all => all.map(e => e.classList.contains('mk-leaked'))")
        assert outlined == (copies if "shared" in on else [False] * 25)
        assert f"Exam {number} of 600: {int((said == query.y).sum())} of 25 right" in first(desk).inner_text()
        if on == ("shared",) and any(copies):
            assert f"Outlined: {sum(copies)} quer" in first(desk).locator(".mk-told").inner_text()
        first(desk).get_by_role("button", name="Another exam").click()


@pytest.mark.browser
def test_other_random_numbers_and_all_off(desk, examined):
    for key in ("order", "order", "labels"):
        switch(desk, key).click()
    first(desk).get_by_role("button", name="600 other exams").click()
    two = examined("labels", "order", seed=1)
    assert f": {percent(two)}, {points(two, examined(seed=1))} points" in live(desk)
    first(desk).get_by_role("button", name="All off").click()
    assert live(desk).startswith(f"All leaks are off: {percent(examined(seed=1))}")
    assert first(desk).locator("[aria-checked=true]").count() == 0


@pytest.mark.browser
def test_it_is_drawn_live_and_switches_may_be_pressed_meanwhile(browser, address, examined):  # noqa: F811
    page = opened(browser, address, reduced_motion="no-preference")
    for key in ("order", "order", "labels", "order", "shared", "labels"):  # the guess; at the end, only "shared" is on
        switch(page, key).tap()
    page.wait_for_function("document.querySelector('.mk-live').textContent.startsWith('With leak 1 ')")
    assert percent(examined("shared")) in live(page)
    assert page.problems == []
    page.context.close()


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("letters", ["/* */", WIDER], ids=["as they are", "wider"])  # another machine's fonts
def test_it_fits_a_phone_and_can_be_read_there(page, theme, letters):
    page.evaluate(f"document.documentElement.dataset.theme = {json.dumps(theme)}")
    page.add_style_tag(content=letters)
    for key in ("order", *LEAKS):
        switch(page, key).tap()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    text = """[...document.querySelectorAll("[data-widget=leaks] *")].filter(e => e.tagName !== "STYLE"
        && [...e.childNodes].some(c => c.nodeType === 3 && c.textContent.trim()) && e.getClientRects().length)"""
    assert min(page.evaluate(f"{text}.map(e => parseFloat(getComputedStyle(e).fontSize))")) >= 11
    assert not page.evaluate(f"""{text}.filter(e => e.getBoundingClientRect().right >
        e.closest("[data-widget=leaks]").getBoundingClientRect().right + 1).map(e => e.outerHTML)""")
    heights = page.evaluate("[...document.querySelectorAll('[data-widget=leaks] button')].map(e => e.offsetHeight)")
    assert min(heights) >= 40


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_before_the_guess_and_with_switches_on(page, axe, theme):  # noqa: F811
    page.evaluate(f"document.documentElement.dataset.theme = {json.dumps(theme)}")
    page.evaluate(axe)
    look = "async () => (await axe.run('[data-widget=leaks]')).violations.map(v => v.id + v.nodes[0].html)"
    assert page.evaluate(look) == []
    for key in ("order", "order", "shared", "labels"):
        switch(page, key).tap()
    assert page.evaluate(look) == []


@pytest.mark.browser
def test_where_scripts_do_not_run_a_picture_stands(browser, address):  # noqa: F811
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    image = page.locator(".metalib-widget > img").first
    assert image.is_visible() and image.bounding_box()["height"] > 100 and len(image.get_attribute("alt")) > 20
    context.close()
