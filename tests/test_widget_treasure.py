"""Chapter 12's figure: it shows the walks that it was given, step by step, for whichever place hides the treasure."""

import gzip
import re

import pytest
import torch

from metalib.figures.widgets import treasure
from test_browser import WIDER, axe, browser  # noqa: F401  (fixtures)
from widget_page import fits_a_phone, two_of, without_problems

PLACES = [(1, 1), (0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
ROUND = [2, 3, 4, 5, 6, 7, 8, 1, 2, 2]


def walks():
    """Once around until the treasure, then stay; the second time straight to a side, or around a corner."""
    rows = []
    for goal in range(1, 9):
        stop = ROUND.index(goal)
        first = [*ROUND[:stop], *[goal] * (10 - stop)]
        second = [goal] * 10 if goal % 2 == 0 else [goal + 1 if goal < 8 else 8, *[goal] * 9]
        rows.append([*first, *second])
    return torch.tensor(rows)


@pytest.fixture(scope="module")
def html():
    return treasure.figure(PLACES, walks()).html()


def test_rewards_are_steps_that_end_at_the_treasure():
    assert treasure.rewards(walks()[0].tolist(), 1, 10) == (3, 9)
    assert treasure.rewards(walks()[1].tolist(), 2, 10) == (10, 10)


def test_it_is_small_always_the_same_and_differs_from_another_agent_s_in_the_walks_alone(html):
    other = treasure.figure(PLACES, walks().flip(0)).html()
    assert html == treasure.figure(PLACES, walks()).html() != other
    html, other = (re.sub('base64,[^"]*', "", h) for h in (html, other))
    assert html == other and len(gzip.compress(html.encode())) < 4_000
    assert "https:" not in html and "http:" not in html.replace("http://www.w3.org/2000/svg", "")
    assert treasure.figure(PLACES, walks()).png.startswith(b"\x89PNG")


@pytest.mark.parametrize("wrong", [walks()[:7], walks()[:, :19], walks() + 1, walks() - 5])
def test_walks_that_fit_no_board_are_refused(wrong):
    with pytest.raises(ValueError, match=r"expected \(8, 20\), a walk for each treasure"):
        treasure.figure(PLACES, wrong)


# --- In a browser -------------------------------------------------------------------------------------------------

@pytest.fixture(params=["light", "dark"])
def address(request, html, tmp_path):
    return two_of("treasure", html, tmp_path, request.param)


def read(page):
    return page.evaluate("""() => {
        const box = document.querySelector('.metalib-treasure');
        return {status: box.querySelector('.status').textContent,
                earned: [...box.querySelectorAll('td')].map(td => td.textContent),
                agent: [...box.querySelectorAll('.agent')].findIndex(s => s.textContent),
                treasure: [...box.querySelectorAll('.star')].findIndex(s => s.textContent)}
    }""")


@pytest.mark.browser
def test_it_starts_before_the_answer_and_every_step_is_the_walk_s(browser, address):  # noqa: F811
    with without_problems(browser, address) as page:
        begin = read(page)
        assert begin["agent"] == 0 and begin["earned"] == ["0", "–"] and "Nothing has happened" in begin["status"]
        page.locator(".metalib-treasure .board button").nth(5).tap()
        walk, step = walks()[4].tolist(), page.locator(".metalib-treasure").first.get_by_role("button", name="step")
        for t in range(20):
            step.tap()
            seen = read(page)
            assert seen["agent"] == walk[t] and seen["treasure"] == 5
            first, second = treasure.rewards(walk[:t + 1], 5, 10)
            assert seen["earned"] == [str(first), str(second) if t >= 10 else "–"]
        assert "Episode 1: found after 4 steps. Episode 2: found after 2 steps" in read(page)["status"]
        assert step.is_disabled()


@pytest.mark.browser
def test_keys_do_what_fingers_do(browser, address):  # noqa: F811
    with without_problems(browser, address) as page:
        page.locator(".metalib-treasure .board button").nth(1).focus()
        page.keyboard.press("Enter")
        assert read(page)["treasure"] == 1
        page.locator(".metalib-treasure").first.get_by_role("button", name="step").focus()
        page.keyboard.press("Space")
        page.keyboard.press("Space")
        assert read(page)["agent"] == 3
        page.locator(".metalib-treasure").first.get_by_role("button", name="back").press("Enter")
        assert read(page)["agent"] == 2
        play = page.locator(".metalib-treasure").first.get_by_role("button", name="play")
        play.press("Enter")
        page.wait_for_function("document.querySelector('.metalib-treasure .status').textContent.includes('step 3')")


@pytest.mark.browser
@pytest.mark.parametrize("letters", ["/* */", WIDER], ids=["as they are", "wider"])  # another machine's fonts
def test_it_fits_a_phone_and_axe_finds_nothing(browser, axe, address, letters):  # noqa: F811
    with without_problems(browser, address) as page:
        page.add_style_tag(content=letters)
        step = page.locator(".metalib-treasure").first.get_by_role("button", name="step")
        for _ in range(14):
            step.tap()
        fits_a_phone(page, "treasure", "button, p, table, .board")
        page.evaluate(axe)
        assert page.evaluate("axe.run(document).then(found => found.violations.map(v => v.id))") == []
