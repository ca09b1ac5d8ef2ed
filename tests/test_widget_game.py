"""The game of chapter 0: what it holds, and a whole game played in a browser with the keyboard."""

import math
import re

import pytest
import torch

from metalib import FewShot, PixelFloor, ProtoNet, conv4, glyphs, meta_test, seeded
from metalib.figures.widgets.game import Game, pack, picks, wilson
from test_browser import WIDER, browser  # noqa: F401  (the fixture)

N = 6


@pytest.fixture(scope="module")
def rounds():
    return FewShot(glyphs().split("test"), way=5, shot=1, query=1).sample(N, generator=seeded(3))


@pytest.fixture(scope="module")
def game(rounds):
    rivals = {"nearest pixel": picks(PixelFloor(), rounds), "always 1": torch.zeros(N, dtype=torch.long)}
    return Game(rounds, rivals, scores={"always 1": "20.0 %"}, names=[f"letter {t}" for t in range(N)], title="Which?")


def unpack(text, size=28):
    """What the page does with the text of a drawing, written again in Python."""
    levels = [x for c in text for x in ([0] * (ord(c) - 102) if c > "f" else [int(c, 16)])]
    return torch.tensor(levels, dtype=torch.float32).reshape(size, size) / 15


def test_a_packed_drawing_is_the_drawing_in_16_greys(rounds):
    images = [*rounds.support.x[:, :, 0].flatten(0, 1), torch.zeros(28, 28), torch.ones(28, 28)]
    for image in images:
        assert (unpack(pack(image)) - image).abs().max() <= 0.5 / 15 + 1e-6


def test_picks_see_the_support_and_one_query_only(rounds):
    torch.manual_seed(0)
    learner = ProtoNet(conv4(channels=8))
    chosen = picks(learner, rounds)
    changed = rounds.query.x.clone()
    changed[:, 1:] = torch.rand(changed[:, 1:].shape, generator=seeded(0))
    assert torch.equal(picks(learner, rounds._replace(query=rounds.query._replace(x=changed))), chosen)


def test_picks_follow_the_protocol_of_a_non_transductive_score():
    one = FewShot(glyphs().split("test"), way=5, shot=1, query=1)
    torch.manual_seed(0)
    for learner in (PixelFloor(), ProtoNet(conv4(channels=8))):
        score, generator, right = meta_test(learner, one, 12, seed=5, transductive=False), seeded(5), []
        for _ in range(12):
            episode = one.sample(1, generator=generator)
            first = [episode._replace(query=episode.query._replace(x=episode.query.x[:, q:], y=episode.query.y[:, q:]))
                     for q in range(5)]
            right.append(sum(float(picks(learner, e)[0] == e.query.y[0, 0]) for e in first) / 5)
        assert right == pytest.approx(score.values.tolist())


def test_the_answer_is_the_drawing_of_the_same_class(game, rounds):
    for t, told in enumerate(game.data["rounds"]):
        shown = unpack(told["s"][told["y"]])
        true = rounds.support.x[t, (rounds.support.y[t] == rounds.query.y[t, 0]).nonzero()[0, 0], 0]
        assert (shown - true).abs().max() <= 0.5 / 15 + 1e-6
    assert game.key().startswith(f"1: {rounds.query.y[0, 0] + 1}")


@pytest.mark.parametrize("n", [1, 20, 600])
def test_the_wilson_interval_holds_exactly_the_rates_that_the_count_does_not_contradict(n):
    for right in {0, 1, n // 2, n}:
        low, high = wilson(right, n)
        for p in (low, high):  # at its ends the inequality is an equality
            assert abs(right / n - p) == pytest.approx(1.96 * math.sqrt(max(p * (1 - p), 0) / n), abs=1e-7)
        assert -1e-12 <= low <= right / n + 1e-12 and right / n - 1e-12 <= high <= 1 + 1e-12


def test_a_five_shot_episode_is_refused_with_the_fix():
    rounds = FewShot(glyphs().split("test"), shot=5, query=1).sample(2, generator=seeded(0))
    with pytest.raises(ValueError, match="use shot=1"):
        Game(rounds, {})


def test_a_count_beyond_the_rounds_is_refused():
    with pytest.raises(ValueError, match="right=21"):
        wilson(21, 20)


def test_the_html_is_small_the_same_every_time_and_asks_for_nothing(game, rounds):
    again = Game(rounds, {"nearest pixel": picks(PixelFloor(), rounds), "always 1": torch.zeros(N, dtype=torch.long)},
                 scores={"always 1": "20.0 %"}, names=[f"letter {t}" for t in range(N)], title="Which?")
    assert game.html() == again.html()
    assert len(re.sub("base64,[^\"]*", "", game.html())) < 40_000 and len(game.html()) < 100_000  # with its picture
    assert "<noscript>" in game.html() and set(re.findall(r'src="(.{5})', game.html())) == {"data:"}
    assert "http" not in game.html().replace("http://www.w3.org/2000/svg", "")  # the name of SVG, never fetched


# --- in a browser -------------------------------------------------------------------------------------------------

TEXT = """[...document.querySelectorAll('[data-widget=game] *')].filter(
    node => [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim())
    && node.tagName !== 'STYLE' && node.getClientRects().length
).map(node => parseFloat(getComputedStyle(node).fontSize))"""


@pytest.fixture
def page(browser, game, tmp_path):  # noqa: F811
    file = tmp_path / "game.html"
    head = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>t</title>'
    file.write_text(f"{head}<body>{game.html()}{game.html()}"
                    '<div class="metalib-revisit"><p>Not played yet.</p></div></body>', encoding="utf-8")
    context, problems = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True), []
    page = context.new_page()
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else problems.append(r.url))
    page.goto(file.as_uri())
    yield page
    assert problems == []
    context.close()


@pytest.mark.browser
def test_a_whole_game_with_the_keyboard_alone(page, game, rounds):
    answers, rivals = game.answers, game.data["rivals"]
    page.keyboard.press("Tab")
    for predicted in ("6", "3", "1"):
        page.keyboard.type(predicted)
        page.keyboard.press("Enter")  # to the next field, and from the last to round 1
    mine = [y if t != 2 else (y + 1) % 5 for t, y in enumerate(answers)]  # one mistake, in round 3
    live = page.locator("[data-widget=game] [role=status]").first
    score = page.locator("[data-widget=game] .mg-score").first
    for t in range(N):
        assert f"Round {t + 1} of {N}" in page.evaluate("document.activeElement.getAttribute('aria-label')")
        page.keyboard.press(str(mine[t] + 1))
        page.keyboard.press(str((mine[t] + 1) % 5 + 1))  # a second choice changes nothing
        said = live.inner_text()
        assert said.startswith("Wrong" if t == 2 else "Right") and f"it is {answers[t] + 1} (letter {t})" in said
        assert f"always 1 says 1 {'✓' if answers[t] == 0 else '✗'}" in said
        hits = [sum(p == y for p, y in zip(who[:t + 1], answers)) for who in (mine, *(r["picks"] for r in rivals))]
        expected = [f"{who} {n}" for who, n in zip(("you", "nearest pixel", "always 1"), hits, strict=True)]
        assert score.locator("span").all_inner_texts() == [f"right of {t + 1}:", *expected]
        page.keyboard.press("Enter")  # focus is on Next
    table = page.locator("[data-widget=game] table").first.locator("tbody tr").all_inner_texts()
    hits = [N - 1, *(sum(p == y for p, y in zip(r["picks"], answers)) for r in rivals)]
    for row, who, right, predicted in zip(table, ("you", "nearest pixel", "always 1"), hits, (6, 3, 1), strict=True):
        low, high = wilson(right, N)
        assert row.split("\t")[:4] == [who, str(right), str(predicted), f"{100 * low:.0f} to {100 * high:.0f} %"]
    assert "20.0 %" in table[2]
    assert "you: wrong in rounds 3" in page.locator("[data-widget=game] .mg-dots").first.get_attribute("aria-label")


@pytest.mark.browser
def test_the_verdict_is_the_sign_test_of_the_rounds_that_differ(page, game):
    page.get_by_role("button", name="Start").first.click()
    for y in game.answers:
        page.get_by_role("button", name=f"drawing {y + 1}").first.click()
        page.locator(".mg-round .mg-main").first.click()
    verdicts = page.locator("[data-widget=game] li").all_inner_texts()
    for verdict, rival in zip(verdicts, game.data["rivals"], strict=True):
        lost = sum(p != y for p, y in zip(rival["picks"], game.answers))
        assert f"only you were right in {lost}, only it was right in 0" in verdict
        if lost:
            said = re.search(r"with probability (below )?(\d\.\d+)", verdict)
            assert (float(said[2]), said[1]) == (pytest.approx(min(1, 2 * 0.5**lost), abs=0.0051), None)
            assert ("do not tell you apart" in verdict) == (2 * 0.5**lost > 0.05)


@pytest.mark.browser
def test_a_probability_that_rounds_to_nothing_is_called_below_0_005(browser, tmp_path):  # noqa: F811
    rounds = FewShot(glyphs().split("test"), way=5, shot=1, query=1).sample(9, generator=seeded(3))
    wrong = (rounds.query.y[:, 0] + 1) % 5
    game = Game(rounds, {"the one who errs": wrong})
    page = browser.new_page()
    page.set_content(f"<!doctype html><title>t</title>{game.html()}")
    page.get_by_role("button", name="Start").click()
    for y in game.answers:
        page.keyboard.press(str(y + 1))
        page.keyboard.press("Enter")
    verdict = page.locator("li").inner_text()  # 2 / 2^9 = 0.0039
    assert "with probability below 0.005, so chance" in verdict and "0.00," not in verdict
    page.close()


@pytest.mark.browser
def test_enter_goes_to_the_next_empty_field_and_a_wrong_number_does_not_start(page):
    fields = page.locator("[data-widget=game]").first.locator("input")
    where = "document.activeElement.labels?.[0]?.innerText.trim()"
    fields.nth(1).fill("2")
    fields.nth(0).fill("7")  # of 6 rounds
    fields.nth(0).press("Enter")
    assert page.evaluate(where) == "always 1"  # the second has its number
    page.keyboard.press("Enter")
    assert fields.count() == 3 and page.evaluate(where) == "you"  # the browser says what is wrong with it
    fields.nth(0).fill("5")
    fields.nth(2).press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(f"Round 1 of {N}")


@pytest.mark.browser
def test_a_place_further_down_the_page_knows_the_readers_own_numbers(page, game):
    place = page.locator(".metalib-revisit")
    one, other = page.locator("[data-widget=game]").all()
    assert place.inner_text().strip() == "Not played yet."
    right = [sum(p == y for p, y in zip(r["picks"], game.answers)) for r in game.data["rivals"]]

    def play(widget, predicted):
        for field, value in zip(widget.locator("input").all(), predicted, strict=True):
            field.fill(value)
        widget.get_by_role("button", name="Start").click()
        for y in game.answers:
            widget.get_by_role("button", name=f"drawing {y + 1}").click()
            widget.locator(".mg-round .mg-main").click()

    def off(n, predicted):
        return f"({abs(n - predicted)} {'more' if n > predicted else 'fewer'})" if n != predicted else "(exactly that)"

    play(one, ("4", "", "6"))
    told = (f"Of {N} rounds you predicted 4 for yourself, and got {N} (2 more); "
            f"6 for always 1, which got {right[1]} {off(right[1], 6)}.")
    assert place.inner_text().strip() == f"Which? {told}" and told in one.inner_text()
    play(other, ("", "", ""))
    assert place.locator("p").count() == 2
    said = f"Of {N} rounds, right were: you {N}, nearest pixel {right[0]}, always 1 {right[1]}."
    assert said in place.locator("p").nth(1).inner_text()
    one.get_by_role("button", name="Play the same rounds again").click()
    play(one, ("6", "", ""))
    assert place.locator("p").count() == 2
    assert "you predicted 6 for yourself, and got 6 (exactly that)." in place.inner_text()


@pytest.mark.browser
def test_the_drawings_on_the_page_have_the_pixels_of_the_rounds(page, game):
    page.get_by_role("button", name="Start").first.click()
    pixels = page.evaluate("""[...document.querySelector('[data-widget=game]').querySelectorAll('canvas')].map(
        c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0))""")
    expected = [game.query[0], *game.support[0]]
    for got, image in zip(pixels, expected, strict=True):
        assert (1 - torch.tensor(got).reshape(28, 28) / 255 - image).abs().max() <= 0.5 / 15 + 1e-6


@pytest.mark.browser
def test_two_games_on_one_page_do_not_hear_each_other_s_keys(page):
    page.get_by_role("button", name="Start").first.click()
    page.get_by_role("button", name="Start").first.click()  # the second game's: the first one's is gone
    page.keyboard.press("1")
    said = page.locator("[role=status]").all_inner_texts()
    assert said[0].startswith("Choose") and said[1].startswith(("Right", "Wrong"))


@pytest.mark.browser
def test_a_phone_is_told_of_no_keys(page, browser, game):  # noqa: F811
    page.get_by_role("button", name="Start").first.tap()
    live = "[data-widget=game] [role=status]"
    assert page.locator(live).first.inner_text() == "Choose one of the 5 drawings."
    desk = browser.new_page()
    desk.set_content(f"<!doctype html><title>t</title>{game.html()}")
    desk.get_by_role("button", name="Start").click()
    assert desk.locator(live).inner_text() == "Choose one of the 5 drawings, or press 1 to 5."
    desk.close()


@pytest.mark.browser
def test_the_keys_are_the_game_s_while_it_is_in_view_and_nothing_else_has_the_focus(browser, game):  # noqa: F811
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.set_content(f'<!doctype html><title>t</title><input id="other"><button id="beside">x</button>{game.html()}'
                     '<p style="height: 3000px">below</p>')
    page.get_by_role("button", name="Start").click()
    said = page.locator("[data-widget=game] [role=status]")
    for other in ("#other", "#beside"):
        page.locator(other).focus()
        page.keyboard.press("1")
        assert said.inner_text().startswith("Choose")
    assert page.locator("#other").input_value() == "1"
    page.evaluate("document.activeElement.blur(); scrollTo(0, 2500)")
    page.keyboard.press("1")
    assert said.inner_text().startswith("Choose")
    page.evaluate("scrollTo(0, 0)")
    page.keyboard.press("Control+1")
    assert said.inner_text().startswith("Choose")
    page.keyboard.press(str(game.answers[0] + 1))
    assert said.inner_text().startswith("Right")
    page.evaluate("document.querySelector('[data-widget=game]').remove(); document.activeElement.blur()")
    page.keyboard.press("1")  # a game that is gone hears nothing, and no error is thrown
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("landing", [True, False])
def test_the_result_has_an_axis_and_on_the_first_page_a_way_on(browser, game, landing):  # noqa: F811
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_content(f'<!doctype html><meta charset="utf-8"><title>t</title>'
                     f'<div class="{"metalib-landing" if landing else ""}">{game.html()}</div>')
    page.get_by_role("button", name="Start").click()
    for y in game.answers:
        page.keyboard.press(str(y + 1))
        page.keyboard.press("Enter")
    assert page.locator(".mg-axis").inner_text().split("\n") == ["0", "chance", "100 %"]
    bar, chance = page.locator(".mg-strip line[stroke-dasharray]").first, page.locator(".mg-axis div span").nth(1)
    lines, words = bar.bounding_box(), chance.bounding_box()
    assert lines["x"] + lines["width"] / 2 == pytest.approx(words["x"] + words["width"] / 2, abs=2)
    link = page.get_by_role("link", name="Chapter 0")
    assert link.count() == landing and (not landing or link.get_attribute("href") == "00_play.html")
    score = page.locator("[data-widget=game] tbody td:last-child").last
    assert score.inner_text() == "20.0 %" and score.evaluate("e => getComputedStyle(e).whiteSpace") == "nowrap"
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("letters", ["/* */", WIDER], ids=["as they are", "wider"])  # another machine's fonts
def test_the_game_fits_a_phone(page, game, letters):
    page.add_style_tag(content=letters)
    page.locator("input").first.fill("3")
    page.get_by_role("button", name="Start").first.tap()
    for _ in game.answers:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390 and min(page.evaluate(TEXT)) >= 11
        page.locator(".mg-option").first.tap()
        page.locator(".mg-round .mg-main").first.tap()
    assert min(page.evaluate(TEXT)) >= 11
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("[data-widget=game] table").first.is_visible()
