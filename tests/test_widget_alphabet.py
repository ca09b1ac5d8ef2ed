"""Your own alphabet: the page's network is PyTorch's, its drawings are `raster`'s; mouse, finger, pen, keys use it."""

import copy
import importlib
import json
import math
import re

import pytest
import torch
import torch.nn.functional as F

from conftest import ROOT
from metalib import Data, FewShot, ProtoNet, conv4, glyphs, load, meta_test, seeded
from metalib.figures.widgets.alphabet import Alphabet, packed, rounded, samples
from test_browser import SETTLED, WIDER, browser  # noqa: F401  (the fixture)
from tools.pictures import confidence, raster
from widget_page import opened, without_problems


def network(norm="group", channels=16, seed=0):
    """A network whose scales have both signs and whose weights differ in size from filter to filter."""
    torch.manual_seed(seed)
    learner = ProtoNet(conv4(channels=channels, norm=norm))
    with torch.no_grad():
        for block in learner.encoder.blocks:
            block.weight *= torch.logspace(-2, 1, channels)[:, None, None, None]
            block.scale.normal_(1, 0.5)
            block.bias.normal_(0, 0.3)
    return learner


def wobbly(strokes, a):
    return [[((x + 6 * math.sin(y / 17 + a)) / 130 + 0.1, (y + a * x / 9) / 130 + 0.05) for x, y in s] for s in strokes]


DRAWINGS = [*(wobbly(s, a) for a in (0.0, 1.7) for s in samples()), [[(0.5, 0.5)]], [[(0.2, 0.5), (0.21, 0.5)]],
            [[(0.1, 0.1), (0.9, 0.1)], [(0.5, 0.95)]]]


@pytest.fixture(scope="module")
def learner():
    return network()


@pytest.fixture(scope="module")
def widget(learner):
    return Alphabet(learner, scores=["It was tested."], intro="Five signs.")


# --- what is drawn ------------------------------------------------------------------------------------------------

def test_a_drawing_is_centred_and_scaled_wherever_and_however_large_it_was_drawn():
    for strokes in DRAWINGS[:20]:
        image = raster(strokes)
        rows, columns = image.sum(1).nonzero()[:, 0], image.sum(0).nonzero()[:, 0]
        spans = [int(r[-1] - r[0]) + 1 for r in (rows, columns)]
        assert 17 <= max(spans) <= 18  # the longer side, pen included: 17 pixels, which may start within one
        assert all(abs(int(r[0] + r[-1]) - 27) <= 1 for r in (rows, columns))
        moved = [[(0.3 * x + 0.6, 0.3 * y + 0.1) for x, y in s] for s in strokes]
        assert (raster(moved) - image).abs().max() <= 1 / 16  # a point on the pen's edge may round either way


def test_a_tap_is_a_dot_not_a_stroke_across_the_image():
    for dot in DRAWINGS[20:22]:
        image = raster(dot)
        assert 0 < image.sum() < 14 and image[10:18, 10:18].sum() == image.sum()


def test_the_pen_is_two_pixels_wide_at_every_size():
    for length in (0.1, 0.4, 0.9):
        assert raster([[(0.05, 0.5), (0.05 + length, 0.5)]])[:, 14].sum() == pytest.approx(2, abs=0.26)


# --- what is sent -------------------------------------------------------------------------------------------------

def test_rounding_moves_a_weight_by_at_most_half_a_step(learner):
    mine = rounded(learner)
    for a, b in zip(learner.encoder.blocks, mine.encoder.blocks):
        step = a.weight.abs().amax((1, 2, 3), keepdim=True) / 127
        assert ((a.weight - b.weight).abs() <= 0.5001 * step).all()
        assert torch.equal(a.scale, b.scale) and torch.equal(a.bias, b.bias)
        assert not torch.equal(a.weight, b.weight)


def test_a_network_that_needs_a_batch_is_refused_with_the_fix():
    with pytest.raises(ValueError, match="norm='group'"):
        packed(conv4(channels=16))
    with pytest.raises(ValueError, match="without out_dim"):
        Alphabet(ProtoNet(conv4(5, channels=16, norm="group")))
    with pytest.raises(ValueError, match="one-channel"):
        Alphabet(ProtoNet(conv4(channels=16, in_channels=3, norm="group")))


def test_confidence_is_the_softmax_of_protonet_s_logits(widget):
    images = [raster(s) for s in DRAWINGS[:6]]
    z = widget.learner.encoder(torch.stack(images)[:, None]).detach().double()
    expected = (-(z[:5] - z[5]).pow(2).sum(1)).softmax(0)
    torch.testing.assert_close(confidence(widget.learner, images[:5], images[5]).double(), expected, rtol=0, atol=1e-5)


def test_the_html_is_the_same_every_time_and_asks_for_nothing(widget, learner):
    html = widget.html()
    assert html == Alphabet(learner, scores=["It was tested."], intro="Five signs.").html()
    html = re.sub('src="data:image/png;base64,[^"]*', "", html)  # but for its own picture
    assert "src=" not in html and "http" not in html.replace("http://www.w3.org/2000/svg", "")


def test_the_learner_that_was_given_stays_as_it_is(learner):
    before = copy.deepcopy(learner.state_dict())
    Alphabet(learner)
    assert all(torch.equal(v, before[k]) for k, v in learner.state_dict().items())


# --- the network of the page, and its record --------------------------------------------------------------------------

@pytest.fixture(scope="module")
def record():
    return json.loads((ROOT / "results/alphabet.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sent():
    return load(ROOT / "results/checkpoints/alphabet.pt")


def test_the_network_is_sent_in_150_kb_and_the_whole_figure_in_250(sent):
    figure = Alphabet(sent, scores=["a sentence as long as the page's"] * 8)
    assert sum(len(text) for block in figure.data["blocks"] for text in block.values()) < 150_000
    assert len(figure.html()) < 250_000


def test_the_page_s_network_was_tested_on_these_letters_and_scores_what_was_recorded(record, sent):
    test = glyphs().split("test")
    assert test.digest() == record["banks"]["new scripts"], "other letters: run recipes/alphabet.py"
    live = meta_test(rounded(sent), FewShot(test, query=1), 600)  # each image alone: the protocol does not matter
    assert live.mean == pytest.approx(record["page"]["new scripts, 5-way 1-shot"]["mean"], abs=0.003)


def test_one_query_alone_has_the_embedding_that_it_has_among_others(sent):
    x = torch.stack([raster(s) for s in DRAWINGS])[:, None]
    with torch.no_grad():
        together, alone = sent.encoder(x), torch.cat([sent.encoder(image[None]) for image in x])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_the_rule_was_the_best_of_those_tried_on_the_training_alphabets(record):
    tried = {rule: row["Omniglot's training alphabets"]["mean"] for rule, row in record["tried"].items()}
    assert record["rule"] == max(tried, key=tried.get) and len(tried) >= 3


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    return importlib.import_module("alphabet")


def test_redrawing_changes_drawings_never_labels_and_follows_its_generator(recipe):
    tasks = FewShot(glyphs().split("val"), way=3, query=2)
    plain = tasks.sample(2, generator=seeded(0))
    for bend, pen in recipe.RULES.values():
        ours, again = (recipe.Redrawn(tasks, bend, pen).sample(2, generator=seeded(0)) for _ in range(2))
        assert all(torch.equal(a, b) for p, q in zip(ours, again) for a, b in zip(p[:2], q[:2]))
        assert torch.equal(ours.query.y, plain.query.y) and torch.equal(ours.support.y, plain.support.y)
        assert torch.equal(ours.query.x, plain.query.x) == (bend == pen == 0)
        assert 0 <= ours.query.x.min() and ours.query.x.max() <= 1.001


def test_handwriting_is_retraced_as_the_page_draws_it(recipe):
    for strokes in DRAWINGS[2:20]:
        image = raster(strokes)
        corner = torch.zeros(1, 1, 28, 28)  # a little smaller, and elsewhere
        corner[0, 0, 3:24, 7:28] = F.interpolate(image[None, None], (21, 21), mode="area")[0, 0]
        again = recipe.retraced((255 * corner).byte())[0].float() / 255
        near = F.max_pool2d(torch.stack([image, again])[:, None], 3, 1, 1)[:, 0] > 0
        assert again[near[0]].sum() > 0.9 * again.sum() and image[near[1]].sum() > 0.7 * image.sum()


def test_thinning_leaves_lines_and_dots(recipe):
    ink = torch.zeros(1, 20, 20, dtype=torch.bool)
    ink[0, 2:5, 2:18], ink[0, 10:12, 10:12], ink[0, 15, 3] = True, True, True
    lines = recipe.thinned(ink)[0]
    assert lines[:8].any(0).sum() >= 13 and lines[:8].sum() <= 16 and lines[8:14].sum() == 1 and lines[15, 3]


# --- in a browser -------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def address(tmp_path_factory, widget):
    path = tmp_path_factory.mktemp("alphabet") / "page.html"
    path.write_text('<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-'
                    f'width, initial-scale=1"><title>signs</title><body style="margin: 16px; font-family: sans-serif">'
                    f'{widget.html()}<p style="height: 3000px">below</p>', encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address):  # noqa: F811
    with without_problems(browser, address, reduced_motion="no-preference") as page:
        yield page


@pytest.fixture
def desk(browser, address):  # noqa: F811
    large = {"viewport": {"width": 1000, "height": 900}, "has_touch": False, "is_mobile": False}
    with without_problems(browser, address, reduced_motion="no-preference", **large) as page:
        yield page


ASK = """([drawings, supports]) => {
    const net = document.querySelector("[data-widget=alphabet]").alphabet;
    const images = drawings.map(net.raster), z = images.map(image => net.encode(image));
    return {images: images.map(i => [...i]), z: z.map(v => [...v]),
            p: supports.map(([shots, query]) => net.confidence(shots.map(list => list.map(i => z[i])), z[query]))};
}"""
# (the drawings of each sign, the new drawing): one drawing each, several, and as many as ten signs.
SUPPORTS = [([[0], [1], [2], [3], [4]], 12), ([[0, 10], [1, 11], [2], [3, 13, 20], [4]], 14),
            ([[n] for n in range(10)], 17)]


def compare(got, learner):
    images = torch.tensor(got["images"]).reshape(-1, 28, 28)
    for image, strokes in zip(images, DRAWINGS, strict=True):
        assert (image - raster(strokes)).abs().max() < 1e-6
    with torch.no_grad():
        z = learner.encoder(images[:, None])
        torch.testing.assert_close(torch.tensor(got["z"]), z, rtol=0, atol=1e-4)
        for (shots, query), p in zip(SUPPORTS, got["p"], strict=True):
            x, y = [i for s in shots for i in s], [n for n, s in enumerate(shots) for _ in s]
            phi = learner.adapt(Data(images[x][:, None], torch.tensor(y), len(shots)))
            expected = learner.predict(phi, images[query][None, None])[0].softmax(0)
            torch.testing.assert_close(torch.tensor(p), expected, rtol=0, atol=1e-4)


@pytest.mark.browser
def test_the_page_draws_and_computes_as_metalib_does(page, widget):
    compare(page.evaluate(ASK, [DRAWINGS, SUPPORTS]), widget.learner)


@pytest.mark.browser
@pytest.mark.parametrize("norm", ["instance", "layer"])
def test_so_it_does_with_the_other_normalisations_per_image(browser, tmp_path, norm):  # noqa: F811
    other = Alphabet(network(norm, channels=8, seed=1))
    (tmp_path / "page.html").write_text(f'<!doctype html><meta charset="utf-8"><title>t</title>{other.html()}',
                                        encoding="utf-8")
    page = opened(browser, (tmp_path / "page.html").as_uri(), reduced_motion="no-preference")
    compare(page.evaluate(ASK, [DRAWINGS, SUPPORTS]), other.learner)
    page.context.close()


def box(page):
    return page.locator(".ma-pad").bounding_box()


def on_pad(page, strokes):
    b = box(page)
    return [[(b["x"] + x * b["width"], b["y"] + y * b["height"]) for x, y in s] for s in strokes]


def by_mouse(page, strokes):
    for stroke in on_pad(page, strokes):
        page.mouse.move(*stroke[0])
        page.mouse.down()
        for point in stroke[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def by_touch(page, strokes):
    client = page.context.new_cdp_session(page)
    for stroke in on_pad(page, strokes):
        touch(client, stroke)


def touch(client, points):
    for kind, at in (("touchStart", points[0]), *(("touchMove", p) for p in points[1:]), ("touchEnd", None)):
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": at[0], "y": at[1]}] if at else []})


def by_pen(page, strokes):
    client = page.context.new_cdp_session(page)
    for stroke in on_pad(page, strokes):
        steps = [("mousePressed", stroke[0]), *(("mouseMoved", p) for p in stroke[1:]), ("mouseReleased", stroke[-1])]
        for kind, (x, y) in steps:
            client.send("Input.dispatchMouseEvent", {
                "type": kind, "x": x, "y": y, "button": "left", "buttons": int(kind != "mouseReleased"),
                "pointerType": "pen", "clickCount": 1})


def live(page):
    return page.locator("[data-widget=alphabet] [role=status]").inner_text()


def teach(page, draw, n=5):
    for k in range(n):
        assert f"Draw sign {k + 1} of {n if n > 5 else 5}" in live(page)
        draw(page, DRAWINGS[k])
        page.get_by_role("button", name=f"Keep as {k + 1}").click()


def shown(page):
    return [float(t.strip("<> ").split()[0]) / 100 for t in page.locator(".ma-p").all_inner_texts()]


@pytest.mark.browser
@pytest.mark.parametrize("draw", [by_mouse, by_pen])
def test_five_signs_and_one_again_with_a_mouse_or_a_pen(desk, widget, draw):
    a_whole_round(desk, widget, draw)


@pytest.mark.browser
def test_five_signs_and_one_again_with_a_finger(page, widget):
    a_whole_round(page, widget, by_touch)


def a_whole_round(page, widget, draw):
    teach(page, draw)
    assert "Now draw one of the 5 again" in live(page) and not page.locator(".ma-main").is_visible()
    draw(page, DRAWINGS[12])
    expected = confidence(widget.learner, [raster(s) for s in DRAWINGS[:5]], raster(DRAWINGS[12]))
    best = int(expected.argmax())
    assert live(page).startswith(f"It is sign {best + 1} (")
    # a screen has whole pixels, and the page prints whole per cents
    torch.testing.assert_close(torch.tensor(shown(page)), expected, rtol=0, atol=0.1)
    page.locator(".ma-sign").nth(2).click()  # it was the third
    said = live(page)
    assert said.startswith("Right ✓" if best == 2 else "Wrong ✗") and "sign 3, which now has 2" in said
    assert page.locator(".ma-score").inner_text() == f"Right so far: {int(best == 2)} of 1."
    assert "×2" in page.locator(".ma-sign").nth(2).inner_text()


@pytest.mark.browser
def test_another_drawing_of_a_sign_moves_its_prototype_to_the_mean(desk, widget):
    teach(desk, by_mouse)
    desk.locator(".ma-sign").nth(1).click()  # nothing is on the pad: draw sign 2 once more
    assert "Draw sign 2 once more" in live(desk)
    by_mouse(desk, DRAWINGS[11])
    desk.get_by_role("button", name="Keep as 2").click()
    by_mouse(desk, DRAWINGS[14])
    images = torch.stack([raster(DRAWINGS[i]) for i in (0, 1, 2, 3, 4, 11, 14)])[:, None]
    with torch.no_grad():
        phi = widget.learner.adapt(Data(images[:6], torch.tensor([0, 1, 2, 3, 4, 1]), 5))
        expected = widget.learner.predict(phi, images[6:])[0].softmax(0)
    torch.testing.assert_close(torch.tensor(shown(desk)), expected, rtol=0, atol=0.1)


@pytest.mark.browser
def test_ten_signs_with_the_keyboard_alone(desk):
    desk.locator("body").press("Tab")

    def press(name):
        for _ in range(40):
            if name in desk.evaluate("(document.activeElement.closest('button') || {innerText: ''}).innerText"):
                return desk.keyboard.press("Enter")
            desk.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach {name!r}")

    press("Ten signs")
    press("Draw a sample")
    for k in range(10):
        assert desk.evaluate("document.activeElement.innerText") == f"Keep as {k + 1}"
        desk.keyboard.press("Enter")  # which hands the focus back
        desk.keyboard.press("Enter")
    desk.get_by_role("button", name="Clear").press("Enter")
    assert "Now draw one of the 10 again" in live(desk)
    press("Draw a sample")
    assert live(desk).startswith("It is sign") and len(shown(desk)) == 10
    assert sum(shown(desk)) == pytest.approx(1, abs=0.1)  # rounded one by one
    desk.keyboard.press("0")  # it was the tenth
    assert desk.locator(".ma-score").inner_text().endswith("of 1.")
    assert "×2" in desk.locator(".ma-sign").nth(9).inner_text()


@pytest.mark.browser
def test_a_finger_on_the_pad_draws_and_beside_it_scrolls(page):
    client, b = page.context.new_cdp_session(page), box(page)
    x, y = b["x"] + b["width"] / 2, b["y"] + b["height"] / 2
    touch(client, [(x, y + 60 - 10 * i) for i in range(13)])
    page.evaluate(SETTLED)
    assert page.evaluate("scrollY") == 0 and page.locator(".ma-main").get_attribute("aria-disabled") == "false"
    seen = page.evaluate("[...document.querySelector('.ma-seen').getContext('2d').getImageData(0, 0, 28, 28).data]")
    dark = [i for i, v in enumerate(seen[::4]) if v < 128]
    assert len(dark) >= 30 and len({i // 28 for i in dark}) >= 16  # the whole stroke, not its first two moves
    touch(client, [(b["x"] + b["width"] + 25, y + 60 - 10 * i) for i in range(13)])
    page.wait_for_function("scrollY > 20")


@pytest.mark.browser
def test_a_resting_palm_does_not_draw(page):
    client, b = page.context.new_cdp_session(page), box(page)
    at = [{"x": b["x"] + 40, "y": b["y"] + 40, "id": 0}, {"x": b["x"] + 120, "y": b["y"] + 120, "id": 1}]
    client.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": at[:1]})
    client.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": at})
    at[0] = {**at[0], "x": b["x"] + 160}
    client.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": at})
    client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    seen = page.evaluate("[...document.querySelector('.ma-seen').getContext('2d').getImageData(0, 0, 28, 28).data]")
    assert len({i // 28 for i, v in enumerate(seen[::4]) if v < 128}) == 2  # one level stroke, two pixels wide


@pytest.mark.browser
def test_undo_clear_and_starting_over(desk):
    by_mouse(desk, [[(0.2, 0.2), (0.8, 0.2)], [(0.5, 0.2), (0.5, 0.9)]])
    two = desk.locator(".ma-seen").screenshot()
    desk.get_by_role("button", name="Undo stroke").click()
    assert desk.locator(".ma-seen").screenshot() != two
    desk.get_by_role("button", name="Clear").click()
    desk.get_by_role("button", name="Keep as 1").click(force=True)  # an empty pad is not kept
    assert "Draw sign 1 of 5" in live(desk)
    teach(desk, by_mouse)
    desk.get_by_role("button", name="Start over").click()
    assert "Draw sign 1 of 5" in live(desk)


@pytest.mark.browser
@pytest.mark.parametrize("letters", ["/* */", WIDER], ids=["as they are", "wider"])  # another machine's fonts
def test_it_fits_a_phone_and_can_be_read_there(page, letters):
    page.add_style_tag(content=letters)
    page.get_by_role("button", name="Ten signs").click()
    for k in range(10):
        page.get_by_role("button", name="Draw a sample").click()
        page.get_by_role("button", name=f"Keep as {k + 1}").click()
    page.get_by_role("button", name="Draw a sample").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    sizes = page.evaluate("""[...document.querySelectorAll("[data-widget=alphabet] *")].filter(
        e => e.innerText && e.tagName !== "STYLE").map(e => parseFloat(getComputedStyle(e).fontSize))""")
    assert min(sizes) >= 11
    assert page.evaluate("""[...document.querySelectorAll(".ma-sign span, button")].every(
        e => e.scrollWidth <= e.clientWidth + 1)"""), "something is cut off"


@pytest.mark.parametrize("n", [5, 10])
def test_the_samples_are_ten_signs_that_differ(n):
    images = torch.stack([raster(s) for s in samples()[:n]]).flatten(1)
    assert len(images) == n
    cosine = F.normalize(images) @ F.normalize(images).T
    assert (cosine - 2 * torch.eye(n)).max() < 0.8
