"""Chapter 1's figure: its gradients are PyTorch's, in node and in a browser; mouse, touch and keys move it."""

import json
import math
import re
import shutil
import subprocess
from importlib.resources import files

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from metalib import MAML, Data, Sinusoids, meta_gradient, meta_test_path, seeded
from metalib.figures.widgets import sine
from test_browser import SETTLED, WIDER, browser  # noqa: F401  (the fixture)

SCRIPT = (files("metalib.figures.widgets") / "sine_network.js").read_text(encoding="utf-8")
NAMES = ("scratch", "joint", "maml")
# The first task of the page, a wave outside the family, and five points that no sine goes through.
TASKS = [sine.POINTS, [(x, -y) for x, y in sine.POINTS], [(-5, 6), (-4.9, -6), (0, 0.1), (0, -3), (5, 2)]]
GRID = torch.linspace(-5, 5, 41, dtype=torch.float64)[:, None]


def by_torch(name, points, steps):
    """(the weights after `steps` steps as one vector, the predictions on GRID)."""
    xy = torch.tensor(points, dtype=torch.float64)
    learner = sine.learners()[name]
    with torch.no_grad():
        phi = learner.adapt(Data(xy[:, :1], xy[:, 1:]), steps)
        return torch.cat([v.flatten() for v in phi.values()]), learner.predict(phi, GRID)[:, 0]


def test_the_three_starts_are_what_the_file_says():
    starts, again = sine.weights()["starts"], sine.learners()
    assert tuple(starts) == NAMES
    for name, learner in again.items():
        vector = parameters_to_vector(learner.net.parameters())
        assert len(vector) == 1761 and vector.dtype == torch.float64 and torch.isfinite(vector).all()
        assert sine.encode(learner.net) == starts[name]  # float32 numbers: encoding loses nothing


def test_the_figure_is_small_and_always_the_same():
    html = sine.figure().html()
    assert html == sine.figure().html()
    html = re.sub('base64,[^"]*', "", html)  # without its own picture
    assert len(html) < 64_000
    assert "http:" not in html.replace("http://www.w3.org/2000/svg", "") and "https:" not in html


def test_the_floor_of_the_trace_is_the_error_of_the_average_task():
    tasks = Sinusoids(shot=1, query=20)
    query = tasks.sample(20_000, generator=seeded(3)).query
    average = 2.55 * 2 / math.pi * query.x.cos()  # chapter 1 derives it
    assert sine.floor() == pytest.approx(float((query.y - average).pow(2).mean()), abs=0.05)
    assert sine.TRAINING["steps"] == 1 and sine.TRAINING["alpha"] in sine.RATES


def test_only_the_meta_trained_start_learns_from_five_points():
    scores = {name: meta_test_path(learner, Sinusoids(shot=5, query=50), 10, 100, seed=7)
              for name, learner in sine.learners().items()}
    floor = scores["joint"][0].mean  # the average task
    assert scores["maml"][5].mean < floor / 4 and scores["maml"][10].mean < scores["maml"][5].mean
    assert min(s.mean for name in ("scratch", "joint") for s in scores[name]) > 0.9 * floor


def test_the_page_s_arithmetic_is_pytorch_s_in_node(tmp_path):
    node = shutil.which("node")
    if not node:
        pytest.skip("node is not installed; the browser test compares the same numbers")
    ask = [{"text": sine.weights()["starts"][name], "points": points, "steps": steps, "name": name}
           for name in NAMES for points in TASKS for steps in (0, 1, 5, 10)]
    program = SCRIPT + """
const network = sineNetwork(HIDDEN), ask = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(ask.map(({text, points, steps}) => {
  const phi = network.path(network.decode(text), points.map(p => p[0]), points.map(p => p[1]), steps, ALPHA)[steps];
  return {phi: Array.from(phi), y: GRID.map(x => network.predict(phi, x))};
})));""".replace("HIDDEN", str(sine.HIDDEN)).replace("ALPHA", str(sine.weights()["alpha"])).replace(
        "GRID", json.dumps(GRID[:, 0].tolist()))
    (tmp_path / "program.js").write_text(program, encoding="utf-8")
    run = subprocess.run([node, tmp_path / "program.js"], input=json.dumps(ask), capture_output=True, encoding="utf-8",
                         check=True)
    for asked, got in zip(ask, json.loads(run.stdout), strict=True):
        compare(asked["name"], asked["points"], asked["steps"], got["phi"], got["y"])


def compare(name, points, steps, weights, predictions):
    phi, y = by_torch(name, points, steps)
    torch.testing.assert_close(torch.tensor(weights, dtype=torch.float64), phi, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.tensor(predictions, dtype=torch.float64), y, rtol=1e-5, atol=1e-5)


# --- In a browser -------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Two of the figure on one page: they must not disturb each other."""
    path = tmp_path_factory.mktemp("sine") / "page.html"
    path.write_text('<!doctype html><html data-theme="light"><meta charset="utf-8"><title>sine</title>'
                    f"<body style='font-family:sans-serif'>{sine.figure(5).html()}<hr>{sine.figure().html()}",
                    encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address):  # noqa: F811
    context = browser.new_context(viewport={"width": 1000, "height": 1600}, has_touch=True)
    page, problems = context.new_page(), []
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("request", lambda r: None if r.url == address else problems.append(r.url))
    page.goto(address)
    yield page
    context.close()
    assert not problems


def error_of(points, name, steps, rate):
    """The number in the page's table, computed here: the mean squared distance to the least-squares sine."""
    xy = torch.tensor(points, dtype=torch.float64)
    grid = torch.linspace(-5, 5, 121, dtype=torch.float64)[:, None]
    basis = torch.cat([xy[:, :1].sin(), xy[:, :1].cos()], 1)
    wave = torch.cat([grid.sin(), grid.cos()], 1) @ torch.linalg.lstsq(basis, xy[:, 1:]).solution
    learner = sine.learners(rate)[name]
    with torch.no_grad():
        return float((learner.predict(learner.adapt(Data(xy[:, :1], xy[:, 1:]), steps), grid) - wave).pow(2).mean())


def shown(page, which=0):
    return page.locator(".metalib-sine").nth(which).locator("tr:not([hidden]) td.error").all_inner_texts()


@pytest.mark.browser
def test_the_page_s_arithmetic_is_pytorch_s_in_a_browser(page):
    for name in NAMES:
        for points in TASKS:
            for steps in (0, 5, 10):
                got = page.evaluate("""([name, xs, ys, J, grid]) => {
                    const figure = document.querySelector("[data-widget=sine]").sine;
                    const phi = figure.adapt(name, xs, ys, J);
                    return {phi, y: figure.predict(phi, grid)};
                }""", [name, *(list(v) for v in zip(*points, strict=True)), steps, GRID[:, 0].tolist()])
                compare(name, points, steps, got["phi"], got["y"])


@pytest.mark.browser
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_page_s_meta_gradient_is_metalib_s(page, steps):
    episodes = Sinusoids(shot=5, query=10).sample(4, generator=seeded(5))
    tasks = [{part: {"x": data.x[t, :, 0].tolist(), "y": data.y[t, :, 0].tolist()}
              for part, data in (("support", episodes.support), ("query", episodes.query))} for t in range(4)]
    for name in NAMES:
        net = sine.learners()[name].net
        loss = meta_gradient(MAML(net, 0.03, steps), episodes)
        expected = torch.cat([p.grad.flatten() for p in net.parameters()])
        got = page.evaluate("asked => document.querySelector('[data-widget=sine]').sine.metaGradient(...asked)",
                            [name, tasks, steps, 0.03])
        assert got["loss"] == pytest.approx(float(loss), abs=1e-6, rel=1e-6)
        torch.testing.assert_close(torch.tensor(got["gradient"], dtype=torch.float64), expected, rtol=1e-6, atol=1e-6)


def tell(page):
    for button in page.get_by_role("button", name="show the errors").all()[::-1]:
        button.click()


@pytest.mark.browser
def test_it_begins_before_the_answer(page):
    assert shown(page, 1) == ["?"] * 3 and shown(page) == ["?"] * 3
    figure = page.locator(".metalib-sine").nth(1)
    assert figure.get_by_role("slider", name="number of inner steps J").input_value() == "0"
    button = figure.get_by_role("button", name="show the errors")
    button.focus()
    button.press("Enter")
    assert "?" not in shown(page, 1) and shown(page) == ["?"] * 3
    page.get_by_role("button", name="hide the errors").click()
    assert shown(page, 1) == ["?"] * 3


@pytest.mark.browser
def test_the_slider_and_the_step_size_change_the_errors_shown(page):
    tell(page)
    assert shown(page) == [f"{error_of(sine.POINTS, name, 5, 0.01):.2f}" for name in NAMES]
    slider, other = page.get_by_role("slider", name="number of inner steps J").first, shown(page, 1)
    for _ in range(3):
        slider.press("ArrowRight")
    page.get_by_label("step size alpha").first.select_option("0.003")
    assert shown(page) == [f"{error_of(sine.POINTS, name, 8, 0.003):.2f}" for name in NAMES]
    assert shown(page, 1) == other == [f"{error_of(sine.POINTS, name, 0, 0.01):.2f}" for name in NAMES]


@pytest.mark.browser
def test_a_point_moves_with_the_keys_the_mouse_and_a_finger(page):
    def value():
        handle = page.locator(".metalib-sine").first.get_by_role("slider", name="support point 3")
        return handle, float(handle.get_attribute("aria-valuenow"))

    tell(page)
    handle, before = value()
    handle.focus()
    for key in ("ArrowUp", "ArrowUp", "PageUp", "Shift+ArrowUp"):
        handle.press(key)
    assert value()[1] == pytest.approx(before + 2.2, abs=0.06)
    assert handle.get_attribute("aria-valuetext").startswith("x -0.6, y")
    moved = [(x, y + 2.2 if i == 2 else y) for i, (x, y) in enumerate(sine.POINTS)]
    assert [float(t) for t in shown(page)] == pytest.approx([error_of(moved, n, 5, 0.01) for n in NAMES], abs=0.006)

    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y - 50, steps=4)
    page.mouse.up()
    assert value()[1] > before + 3 and not handle.get_attribute("aria-valuetext").startswith("x -0.6")
    high = value()[1]
    client = page.context.new_cdp_session(page)
    for kind, dy in (("touchStart", 0), ("touchMove", 30), ("touchMove", 60), ("touchEnd", 0)):
        at = [] if kind == "touchEnd" else [{"x": x + 40, "y": y - 50 + dy}]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
    assert value()[1] < high - 1


# A phone: the page scrolls, and a finger on the figure must not always mean that.

@pytest.fixture
def phone(browser, address):  # noqa: F811
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    page.evaluate("""document.head.insertAdjacentHTML("beforeend", '<meta name=viewport content="width=device-width">');
        document.body.insertAdjacentHTML("beforeend", "<div style='height:3000px'></div>"); scrollTo(0, 50)""")
    page.wait_for_function("scrollY === 50")
    yield page
    context.close()


def finger(page, x, y, moves):
    """A finger goes down at (x, y), then to every place of `moves`; yields after each move, and lifts at the end."""
    client = page.context.new_cdp_session(page)

    def touch(kind, *at):
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in at]})
        page.evaluate(SETTLED)

    touch("touchStart", (x, y))
    for to in moves:
        touch("touchMove", to)
        yield to
    touch("touchEnd")


def middle(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.browser
def test_a_point_follows_a_finger_as_far_as_it_goes_and_the_page_stays(phone):
    handle = phone.locator(".metalib-sine").first.get_by_role("slider", name="support point 3")
    x, y = middle(handle)
    way = [(x + 3 * i, y + 5 * i) for i in range(1, 8)] + [(x + 21 - 2 * i, y + 35 - 12 * i) for i in range(1, 10)]
    for to in finger(phone, x, y, way):
        assert middle(handle) == pytest.approx(to, abs=1.5)
        assert phone.evaluate("scrollY") == 50


@pytest.mark.browser
def test_a_swipe_beside_the_points_scrolls_the_page(phone):
    plot = phone.locator(".metalib-sine [role=group]").first.bounding_box()
    x, y = plot["x"] + 0.75 * plot["width"], plot["y"] + 0.45 * plot["height"]  # between points 4 and 5
    values = [h.get_attribute("aria-valuetext") for h in phone.locator(".handle").all()]
    for _ in finger(phone, x, y, [(x, y - 12 * i) for i in range(1, 9)]):
        pass
    phone.wait_for_function("scrollY > 50")  # it follows the finger
    phone.evaluate(SETTLED)
    assert values == [h.get_attribute("aria-valuetext") for h in phone.locator(".handle").all()]


# Counts whatever changes in a figure, for a moment too.
CHANGES = """figure => { figure.changes = 0; new MutationObserver(all => { figure.changes += all.length; }).observe(
    figure, { childList: true, characterData: true, subtree: true }); }"""


@pytest.mark.browser
def test_a_finger_draws_the_slider_along_and_scrolls_across_it(phone):
    figure = phone.locator(".metalib-sine").first  # J = 5
    slider = figure.get_by_role("slider", name="number of inner steps J")
    tell(phone)
    before = shown(phone)
    box = slider.bounding_box()
    at, y = lambda J: box["x"] + 8 + (box["width"] - 16) * J / 10, box["y"] + box["height"] / 2
    figure.evaluate(CHANGES)
    for _ in finger(phone, at(9), y, [(at(9), y - 12 * i) for i in range(1, 9)]):
        pass
    phone.wait_for_function("scrollY > 50")  # it follows the finger
    phone.evaluate(SETTLED)
    assert steps_of(figure) == 5 and shown(phone) == before and figure.evaluate("figure => figure.changes") == 0
    slider.press("ArrowRight")  # it still works
    assert steps_of(figure) == 6 and shown(phone) != before
    scrolled, box, seen = phone.evaluate("scrollY"), slider.bounding_box(), []
    y = box["y"] + box["height"] / 2
    for _ in finger(phone, at(6), y, [(at(6 - 0.5 * i), y) for i in range(1, 11)]):
        seen.append(shown(phone)[-1])
    assert phone.evaluate("scrollY") == scrolled and len(set(seen)) > 3  # the errors follow the finger
    assert steps_of(figure) == 1 and figure.locator("output").inner_text() == "1"
    phone.touchscreen.tap(at(5), y)
    wait_for_steps(phone, 0, 5)
    phone.evaluate(SETTLED)
    assert shown(phone) == before and figure.locator("output").inner_text() == "5"


@pytest.mark.browser
def test_play_and_train_answer_a_finger(phone):
    figure = phone.locator(".metalib-sine").nth(1)
    figure.get_by_role("button", name="play", exact=True).tap()
    wait_for_steps(phone, 1, 2)
    figure.get_by_role("button", name="train", exact=True).tap()
    assert steps_of(figure) == 1 and figure.get_by_role("button", name="play", exact=True).is_visible()
    phone.wait_for_function("document.querySelectorAll('[data-widget=sine]')[1].sine.training.iteration > 2")
    figure.get_by_role("button", name="pause").tap()
    assert figure.get_by_text("trained in this page").is_visible()


# Play and train.

def steps_of(figure):
    return int(figure.get_by_role("slider", name="number of inner steps J").input_value())


def wait_for_steps(page, which, J):
    page.wait_for_function("([which, J]) => document.querySelectorAll('.metalib-sine')[which]"
                           ".querySelector('input[type=range]').value === String(J)", arg=[which, J])


@pytest.mark.browser
def test_play_goes_through_all_steps_and_every_step_leaves_a_ghost(page):
    page.clock.install()
    figure = page.locator(".metalib-sine").nth(1)
    play = figure.get_by_role("button", name="play", exact=True)
    ghosts = figure.locator(".ghosts").nth(2).locator("path")
    assert ghosts.count() == 0
    play.click()
    for J in range(1, 11):
        assert steps_of(figure) == J == ghosts.count()
        page.clock.run_for(600)
    assert steps_of(figure) == 10 and play.is_visible()  # it ends there, and offers to begin again
    looks = [page.evaluate("p => [p.getAttribute('stroke'), p.getAttribute('stroke-dasharray')]", p.element_handle())
             for p in (figure.locator(".ghosts").nth(1).locator("path").first, figure.locator(".curve").nth(1))]
    assert looks[0] == looks[1]
    play.press("Enter")
    assert steps_of(figure) == 0 and ghosts.count() == 0
    page.clock.run_for(1200)
    assert steps_of(figure) == 2 and steps_of(page.locator(".metalib-sine").first) == 5


@pytest.mark.browser
@pytest.mark.parametrize("touch", ["the plot", "a key on a point", "the slider", "the button"])
def test_play_stops_when_the_figure_is_touched(page, touch):
    page.clock.install()
    figure = page.locator(".metalib-sine").nth(1)
    figure.get_by_role("button", name="play", exact=True).click()
    page.clock.run_for(600)
    assert steps_of(figure) == 2
    if touch == "the plot":
        figure.locator("[role=group]").first.click(position={"x": 200, "y": 20})
    elif touch == "a key on a point":
        figure.get_by_role("slider", name="support point 1").press("ArrowUp")
    elif touch == "the slider":
        figure.get_by_role("slider", name="number of inner steps J").press("ArrowRight")
    else:
        figure.get_by_role("button", name="stop").click()
    page.clock.run_for(3000)
    assert steps_of(figure) == (3 if touch == "the slider" else 2)


@pytest.mark.browser
def test_who_asks_for_reduced_motion_takes_each_step_alone(page):
    page.emulate_media(reduced_motion="reduce")
    page.reload()
    page.clock.install()
    figure = page.locator(".metalib-sine").nth(1)
    figure.get_by_role("button", name="next step").click()
    page.clock.run_for(3000)
    assert steps_of(figure) == 1


@pytest.mark.browser
def test_training_moves_the_start_can_be_paused_and_forgotten(page):
    figure = page.locator(".metalib-sine").nth(1)
    row, chart = figure.get_by_text("trained in this page"), figure.get_by_role("img", name="query error against")
    iteration = "document.querySelectorAll('[data-widget=sine]')[1].sine.training.iteration"
    assert not row.is_visible() and not chart.is_visible()
    figure.get_by_role("button", name="train", exact=True).click()
    page.wait_for_function(f"{iteration} >= 3")
    assert row.is_visible() and chart.is_visible() and steps_of(figure) == 1
    assert figure.get_by_label("step size alpha").input_value() == "0.03"
    figure.get_by_role("button", name="pause").press("Enter")
    paused, curve = page.evaluate(iteration), figure.locator(".curve").nth(3)
    assert f"Meta-iteration {paused} of {sine.TRAINING['iterations']}" in figure.locator(".status").first.inner_text()
    before = curve.get_attribute("d")
    page.evaluate(SETTLED)
    assert page.evaluate(iteration) == paused and curve.get_attribute("d") == before
    figure.get_by_role("button", name="go on").click()
    page.wait_for_function(f"{iteration} >= {paused + 3}")
    figure.get_by_role("button", name="pause").click()
    assert curve.get_attribute("d") != before
    figure.get_by_role("button", name="reset the training").click()
    assert page.evaluate(iteration) == 0 and not row.is_visible() and not chart.is_visible()
    assert curve.get_attribute("d") == ""


@pytest.mark.browser
def test_the_training_s_step_size_is_given_back(page):
    figure = page.locator(".metalib-sine").nth(1)
    rate, slider = figure.get_by_label("step size alpha"), figure.get_by_role("slider", name="number of inner steps J")

    def train():
        figure.get_by_role("button", name="train", exact=True).click()
        page.wait_for_function("document.querySelectorAll('[data-widget=sine]')[1].sine.training.iteration > 0")
        figure.get_by_role("button", name="pause").click()
        assert rate.input_value() == "0.03" and steps_of(figure) == 1

    train()
    figure.get_by_role("button", name="upside down").click()
    assert rate.input_value() == "0.03"  # with as many steps as it was trained for
    slider.press("End")
    assert rate.input_value() == "0.01" and steps_of(figure) == 10
    figure.get_by_role("button", name="reset the training").click()
    train()
    figure.get_by_role("button", name="reset the training").click()
    assert rate.input_value() == "0.01"
    train()
    rate.select_option("0.003")  # the reader's own choice stays
    slider.press("End")
    assert rate.input_value() == "0.003"


@pytest.mark.browser
def test_after_the_training_one_step_is_enough(page):
    """All meta-iterations but two without the animation, at once; then it ends, and offers to begin again."""
    training, all_of_them = "document.querySelector('[data-widget=sine]').sine.training", sine.TRAINING["iterations"]
    page.evaluate(f"() => {{ for (let i = 2; i < {all_of_them}; i++) {training}.step(); }}")
    figure = page.locator(".metalib-sine").first
    figure.get_by_role("button", name="train", exact=True).click()
    again = figure.get_by_role("button", name="train again")
    again.wait_for()
    before, after = page.evaluate(f"[{training}.before, {training}.after]")
    assert before > 0.9 * sine.floor() and after < sine.floor() / 4
    said = f"Meta-iteration {all_of_them} of {all_of_them}. Error on new waves: {before:.2f} before the step"
    assert figure.locator(".status").first.inner_text().startswith(said)
    assert figure.locator("[role=status]").last.inner_text().startswith(said)  # what a screen reader says
    again.click()
    figure.get_by_role("button", name="pause").click()
    assert page.evaluate(f"{training}.iteration") < all_of_them


@pytest.mark.browser
def test_new_tasks_lie_in_the_family_and_upside_down_leaves_it(page):
    figure = page.locator(".metalib-sine").first
    where, handles = figure.locator(".where"), figure.locator("[role=slider].handle")
    for _ in range(5):
        figure.get_by_role("button", name="new task").click()
        assert "one of the training tasks" in where.inner_text()
        assert handles.count() == 5
    figure.get_by_role("button", name="upside down").click()
    assert "outside the training tasks" in where.inner_text()
    figure.get_by_role("button", name="first task").click()
    assert [float(h.get_attribute("aria-valuenow")) for h in handles.all()] == pytest.approx(
        [y for _, y in sine.POINTS], abs=0.051)


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(page, theme):
    page.set_viewport_size({"width": 390, "height": 900})
    page.get_by_role("button", name="train", exact=True).first.click()
    page.wait_for_function("document.querySelector('[data-widget=sine]').sine.training.iteration > 2")
    page.get_by_role("button", name="pause").click()
    page.evaluate("""theme => { document.documentElement.dataset.theme = theme;
      document.body.style.cssText += theme === "dark" ? "background:#121212;color:#ddd" : ""; }""", theme)
    page.evaluate(SETTLED)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    sizes = page.evaluate("""[...document.querySelectorAll(".metalib-sine svg text")].map(
        t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().d)""")  # whatever font is drawn at that size
    assert min(sizes) >= 11
    colours = page.evaluate("""[...document.querySelectorAll(".metalib-sine .curve")].slice(0, 4).map(
        c => getComputedStyle(c).stroke)""")
    background = (255, 255, 255) if theme == "light" else (18, 18, 18)
    for colour in colours:
        assert contrast(tuple(int(v) for v in colour[4:-1].split(",")), background) >= 4.5, colour
    page.add_style_tag(content=WIDER)
    page.evaluate(SETTLED)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "with another machine's fonts"


def contrast(a, b):
    """WCAG contrast ratio of two sRGB colours."""
    def luminance(c):
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in (x / 255 for x in c)]
        return math.fsum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)
