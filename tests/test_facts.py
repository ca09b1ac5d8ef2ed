"""Facts that a learner must not use: a bank keeps them, tasks part by them, the audit says what each gives away."""

import numpy as np
import pytest
import torch

from metalib import ClassData, ClassImages, FewShot, audit, seeded
from metalib.data.phantoms import phantoms
from metalib.tasks.few_shot import Parted
from metalib.tasks.sham import Sham


def bank(classes=6, smears=10, per=6, seed=0, cls=ClassData, **about):
    """Every smear holds `per` examples of every class; `about` are functions of (class, smear, position)."""
    label, smear, _ = (i.ravel() for i in np.indices((classes, smears, per)))
    order = np.random.default_rng(seed).permutation(len(label))
    label, smear = label[order], smear[order]
    x = torch.randint(0, 256, (len(label), 1, 4, 4), generator=seeded(seed), dtype=torch.uint8)
    facts = {"smear": [f"smear {s}" for s in smear], **{k: f(label, smear, order) for k, f in about.items()}}
    return cls.from_arrays(x if cls is ClassImages else x.flatten(1).float(), label, about=facts)


def drawn(tasks, n=200, seed=0):
    return tasks.sample_rows(n, generator=seeded(seed))


# what a bank keeps ---------------------------------------------------------------------------------------------------


def test_facts_follow_their_examples_wherever_these_go():
    x = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1)
    b = ClassImages.from_arrays(np.tile(x, (1, 1, 2, 2)), [2, 0, 1] * 4,
                                about={"id": np.arange(12), "odd": x[:, 0, 0, 0] % 2 == 1})
    for one in (b, b.subset([2, 0]), b.with_rotations(), b.to("cpu"), b.where(id=[0, 1, 2, 3]), b.where(odd="True"),
                b.by("odd"), b.split_classes((0.3, 0.4, 0.3)).split("train")):
        assert one.about["id"].tolist() == one.images[:, 0, 0, 0].tolist()
        assert [str(i % 2 == 1) for i in one.about["id"]] == one.about["odd"].tolist()
    assert b.digest() == ClassImages.from_arrays(b.images, b.labels).digest()  # the examples are the same ones


def test_a_fact_can_choose_examples_and_make_classes():
    b = bank(3, 4, 2)
    part = b.where(smear=["smear 1", "smear 3"])
    assert part.names == b.names and part.counts.tolist() == [4] * 3 and part.starts.tolist() == [0, 4, 8]
    by = b.by("smear")
    assert by.names == tuple(f"smear {i}" for i in range(4)) and set(by.about["class"]) == {"0", "1", "2"}
    assert b.by("smear", least=6).counts.tolist() == [6] * 4
    with pytest.raises(ValueError, match="the commonest has 6"):
        b.by("smear", least=7)
    with pytest.raises(ValueError, match="no example of class '0' has"):
        b.where(smear="smear 9")
    with pytest.raises(ValueError, match="no fact 'patient'; this bank has 'smear'"):
        b.by("patient")


@pytest.mark.parametrize("values", [[1, 2], [[1], [2], [3]], [1.0, float("nan"), 2.0], ["a", None, "b"], [1j, 2, 3]])
def test_a_fact_is_one_number_or_string_an_example_and_none_is_missing(values):
    with pytest.raises(ValueError, match="one an example and none missing"):
        ClassData.from_arrays(torch.zeros(3, 2), [0, 0, 1], about={"age": values})


# apart= and queries= -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shot, query", [(1, 5), (5, 5), (3, 20)])
def test_no_smear_is_on_both_sides_and_no_example_twice(shot, query):
    b = bank()
    support, y, asked, target = drawn(FewShot(b, 3, shot, query, apart="smear"))
    smear = np.unique(b.about["smear"], return_inverse=True)[1]
    assert all(not set(smear[s]) & set(smear[q]) for s, q in zip(support, asked))
    assert all(len(set(r.tolist())) == 3 * (shot + query) for r in torch.cat([support, asked], 1))
    for rows, labels, size in ((support, y, shot), (asked, target, query)):
        assert (torch.stack([(labels == n).sum(1) for n in range(3)], 1) == size).all()
        first = b.labels[rows].view(-1, 3, size)  # every label is one class
        assert (first == first[..., :1]).all()


def test_every_example_and_every_smear_is_drawn_equally_often_on_both_sides():
    b, T = bank(2, 8, 5), 4000
    support, _, asked, _ = drawn(FewShot(b, 2, 4, 8, apart="smear"), T)
    for rows, size in ((support, 8), (asked, 16)):
        times = torch.bincount(rows.flatten(), minlength=80)
        expected = T * size / 80
        assert (times - expected).abs().max() < 6 * expected**0.5  # no example is favoured
    smear = torch.from_numpy(np.unique(b.about["smear"], return_inverse=True)[1])
    here = torch.stack([(smear[support] == s).any(1) for s in range(8)], 1).double()
    chi = here.mean(0).std() / (here.mean() * (1 - here.mean()) / T).sqrt()
    assert chi < 2.5
    pairs = torch.corrcoef(here.T)[~torch.eye(8, dtype=torch.bool)]
    assert (pairs - pairs.mean()).abs().max() < 0.08  # nor do two smears go together more than any other two


def test_lopsided_smears_are_parted_and_impossible_ones_refused():
    label = torch.arange(120) % 2
    smear = np.where(np.arange(120) < 100, "big", np.array([f"s{i % 5}" for i in range(120)]))
    b = ClassData.from_arrays(torch.rand(120, 3), label, about={"smear": smear})
    support, _, asked, _ = drawn(FewShot(b, 2, 2, 20, apart="smear"), 50)  # only the big one can be asked
    assert "big" in b.about["smear"][asked] and "big" not in b.about["smear"][support]
    with pytest.raises(ValueError, match=r"apart='smear' cannot part '0'.*Lower shot= or query="):
        FewShot(b, 2, 20, 20, apart="smear")
    with pytest.raises(ValueError, match="cannot part"):
        FewShot(ClassData.from_arrays(torch.rand(40, 3), torch.arange(40) % 2, about={"s": ["a"] * 40}), 2, 1, 1,
                apart="s")
    with pytest.raises(ValueError, match="no fact 'patient'"):
        FewShot(b, 2, 1, 1, apart="patient")


def test_classes_that_cannot_be_parted_together_are_named_when_they_are_drawn():
    # Class 0 needs "a" as support, class 1 as query.
    label = np.repeat([0, 0, 1, 1], [2, 9, 2, 9])
    b = ClassData.from_arrays(torch.rand(22, 3), label, about={"s": np.repeat(["a", "b", "b", "a"], [2, 9, 2, 9])})
    with pytest.raises(ValueError, match="cannot part '[01]' and '[01]': in 100 random orders"):
        FewShot(b, 2, 2, 9, apart="s").sample(3, generator=seeded(0))


def test_queries_come_from_their_own_bank():
    b = bank(part=lambda c, s, i: np.where(s < 6, "train", "test"))
    train, test = b.where(part="train"), b.where(part="test")
    tasks = FewShot(train, 4, 5, 6, queries=test)
    support, _, asked, target = drawn(tasks)
    assert set(tasks.images.about["part"][support].ravel()) == {"train"}
    assert set(tasks.images.about["part"][asked].ravel()) == {"test"}
    episode = tasks.sample(20, generator=seeded(1))
    known = {tuple(row) for row in test.x.tolist()}
    assert all(tuple(row) in known for row in episode.query.x.flatten(0, 1).tolist())
    both = FewShot(b.where(part="train"), 2, 3, 4, queries=b, apart="smear")  # two rules at once
    support, _, asked, _ = drawn(both, 60)
    smear, side = both.images.about["smear"], both.images.about["side"]
    assert all(not set(smear[s]) & set(smear[q]) for s, q in zip(support, asked))
    assert set(side[support].ravel()) == {"support"} and set(side[asked].ravel()) == {"query"}
    with pytest.raises(ValueError, match="a bank of the same classes in the same order"):
        FewShot(train, 4, 5, 6, queries=test.subset(range(5)))
    with pytest.raises(ValueError, match="queries= cannot part"):
        FewShot(train, 4, 5, 25, queries=test)
    with pytest.raises(ValueError, match="expected a bank"):
        FewShot(train, 4, 5, 6, queries=[1])


def test_without_apart_and_queries_not_a_bit_changes():
    b = bank(cls=ClassImages)
    episode = FewShot(b, 3, 2, 4).sample(3, generator=seeded(5))
    again = FewShot(ClassImages.from_arrays(b.images, b.labels), 3, 2, 4).sample(3, generator=seeded(5))
    assert torch.equal(episode.query.x, again.query.x) and torch.equal(episode.support.x, again.support.x)
    assert type(FewShot(b, 3, 2, 4)) is FewShot and type(FewShot(b, 3, 2, 4, apart="smear")) is Parted

    class Mine(FewShot):
        pass

    with pytest.raises(TypeError, match="a subclass of metalib.tasks.few_shot.Parted"):
        Mine(b, 3, 2, 4, apart="smear")


# the audit -----------------------------------------------------------------------------------------------------------


def found(tasks, **how):
    report = audit(tasks, **{"episodes": 60} | how)
    return report, {fact.name: fact for fact in report.facts}


PLANTED = {  # a fact that gives the class away, as it stands in a file of its kind
    "file order": lambda c, s, i: i,  # sorted by class
    "domain": lambda c, s, i: np.where(np.random.default_rng(0).random(len(c)) < 0.5, c % 2, s % 2).astype(str),
    "script": lambda c, s, i: np.array([f"script {k // 2}" for k in c]),
    "patient": lambda c, s, i: np.array([f"patient {k}/{m}" for k, m in zip(c, s)]),  # each has one diagnosis
    "brightness": lambda c, s, i: c + np.random.default_rng(0).normal(0, 1.5, len(c)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fact_is_caught(name):
    report, facts = found(FewShot(bank(**{name: PLANTED[name]}), 3, 5, 8))
    assert facts[name].leaks and not report.passed and not facts["smear"].leaks
    assert f"{name} alone predicts" in str(report) and "LEAKS" in str(report) and "AUDIT FAILED" in str(report)


def test_a_patient_with_one_diagnosis_does_not_leak_once_patients_are_apart():
    report, facts = found(FewShot(bank(patient=PLANTED["patient"]), 3, 5, 8, apart="patient"))
    assert report.passed and facts["patient"].shared == 0 and facts["patient"].score.mean == pytest.approx(1 / 3)
    shared = found(FewShot(bank(patient=PLANTED["patient"]), 3, 5, 8))[1]["patient"]
    assert 0 < shared.shared < shared.queries == 60 * 24


def test_what_the_fact_predicts_is_computed_as_said():
    from metalib.judging.facts import by_fact

    y, target = torch.tensor([[0, 0, 1, 1]]), torch.tensor([[0, 1, 1]])
    value, asked = torch.tensor([[1.0, 2.0, 2.0, 9.0]]), torch.tensor([[1.2, 2.0, 7.0]])
    assert float(by_fact(value, y, asked, target, 2, True)) == pytest.approx((1 + 0.5 + 1) / 3)
    assert float(by_fact(value, y, asked, target, 2, False)) == pytest.approx((0.5 + 0.5 + 0.5) / 3)


CLEAN = {
    "number": lambda g, n: g.random(n), "ties": lambda g, n: g.integers(0, 4, n), "constant": lambda g, n: ["x"] * n,
    "category": lambda g, n: g.choice(list("abc"), n), "unique": lambda g, n: [f"p{i}" for i in range(n)],
    "identifier": lambda g, n: [f"p{i}" for i in g.integers(0, n // 3, n)],
    "rare": lambda g, n: ["yes" if r < 0.03 else "no" for r in g.random(n)],
}


def test_facts_that_say_nothing_raise_no_alarm_in_banks_large_and_small():
    worst = []
    for seed in range(8):
        for classes, per in ((2, 24), (8, 30)):
            g, n = np.random.default_rng(seed), classes * per
            b = ClassData.from_arrays(torch.rand(n, 3), np.arange(n) % classes,
                                      about={name: f(g, n) for name, f in CLEAN.items()})
            worst += [fact.excess for fact in found(FewShot(b, 2, 5, 10), seed=seed, episodes=100)[0].facts]
    assert max(worst) < 5 and len(worst) == 8 * 2 * len(CLEAN)
    assert np.mean(np.array(worst) > 2) < 0.1  # they are standard errors


def test_what_training_and_test_share_is_said_and_not_judged():
    groups = ["Greek", "Greek", "Gurmukhi", "Gurmukhi", "Tibetan", "Tibetan"]
    b = bank()
    b = ClassData.from_arrays(b.x, b.labels, groups=groups, about=b.about)
    report = audit(FewShot(b.subset([0, 1, 2]), 2, 1, 3), episodes=20, trained_on=b.subset([3, 4, 5]))
    assert report.both_sides == ("Gurmukhi", "10 of 10 values of smear") and report.passed
    assert "in training as well: Gurmukhi, 10 of 10 values of smear" in str(report)
    plain = ClassData.from_arrays(b.x, b.labels)
    assert "in training as well: no group" in str(audit(FewShot(plain, 2, 1, 3), episodes=20, trained_on=plain))
    with pytest.raises(TypeError, match="compares two banks"):
        audit(FewShot(b, 2, 1, 3), episodes=20, trained_on=FewShot(b, 2, 1, 3))


def test_a_bank_without_facts_is_audited_as_before():
    b = bank()
    report = audit(FewShot(ClassData.from_arrays(b.x, b.labels), 3, 1, 3), episodes=20)
    assert report.facts == () and report.both_sides is None and "alone predicts" not in str(report)


# the sham diagnosis --------------------------------------------------------------------------------------------------


def test_a_sham_is_a_fair_coin_per_slide_afresh_in_each_episode():
    slides = bank(2, 14, 6).by("smear")
    for apart in (False, True):
        tasks = Sham(slides, sources=3, shot=2, query=4, apart=apart)
        support, y, asked, target = tasks.sample_rows(500, generator=seeded(0))
        slide_s, slide_q = slides.labels[support], slides.labels[asked]
        assert y[0].tolist() == [0] * 6 + [1] * 6 and (target.double().mean(1) == 0.5).all()
        for s, ys, q, yq in zip(slide_s, y, slide_q, target):
            here = {(int(a), int(b)) for a, b in zip(torch.cat([s, q]), torch.cat([ys, yq]))}
            assert len(here) == len({a for a, _ in here}) == (12 if apart else 6)  # one label a slide
            assert (set(s.tolist()) == set(q.tolist())) != apart
        heads = torch.zeros(14, 2).index_put_((slide_s.flatten(), y.flatten()), torch.ones(()), accumulate=True)
        assert (heads[:, 0] / heads.sum(1) - 0.5).abs().max() < 0.15
        assert (target.double().mean(0) - 0.5).abs().max() < 0.13  # the order of the query says nothing
        episode = tasks.sample(3, generator=seeded(0))
        assert episode.support.way == 2 and episode.support.x.shape == (3, 12, 16)
        rows = tasks.sample_rows(3, generator=seeded(0))
        assert torch.equal(episode.query.x, slides.x[rows[2]]) and torch.equal(episode.query.y, rows[3])


def test_the_audit_fails_a_sham_by_image_and_passes_it_by_slide():
    slides = phantoms(slides=30, per_slide=10, size=8).by("slide")
    report, facts = found(Sham(slides, apart=False))
    assert facts["slide"].leaks and facts["slide"].score.mean == 1 and facts["slide"].shared == facts["slide"].queries
    assert facts["brightness"].leaks and not facts["class"].leaks and not report.passed
    report, facts = found(Sham(slides, apart=True))
    assert report.passed and facts["slide"].shared == 0
