"""Texts as examples: the bank and its bridge to numbers, token ids, CLINC150 with its faults, and names by language."""

import builtins
import functools
import hashlib
import http.server
import json
import os
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from metalib import ClassData, FewShot, audit, meta_test, seeded
from metalib.data import clinc, root
from metalib.data.clinc import FOLDS, clinc150, out_of_scope
from metalib.data.languages import languages
from metalib.data.texts import ClassTexts, Vocabulary, words
from metalib.learners.head import RidgeHead

COLOURS = ["red", "dark red", "blue", "light blue", "sky blue", "green", "red"]
LABELS = ["r", "r", "b", "b", "b", "g", "r"]


def bank(**kwargs):
    return ClassTexts.from_arrays(COLOURS, LABELS, **kwargs)


# the bank and its bridge --------------------------------------------------------------------------------------------


def test_its_numbers_stand_for_distinct_texts_so_a_text_twice_is_one_number():
    texts = bank(source="somebody, some licence")
    assert texts.names == ("b", "g", "r") and texts.counts.tolist() == [3, 1, 3]
    assert texts.read(texts.x) == ["blue", "light blue", "sky blue", "green", "red", "dark red", "red"]
    assert len(texts.texts) == 6 and int(texts.x[4]) == int(texts.x[6])
    assert "somebody, some licence" in repr(texts) and "3 classes x 1-3 texts" in repr(texts)


def test_encoded_is_one_row_a_text_with_the_same_classes_groups_and_splits():
    texts = bank(groups=["cold", "", "warm"], splits={"train": [0], "val": [1], "test": [2]})
    vectors = texts.encoded(lambda ts: [[len(t), t.count("e")] for t in ts])
    assert type(vectors) is ClassData and vectors.x.tolist() == [[len(t), t.count("e")] for t in texts.read(texts.x)]
    assert (vectors.names, vectors.groups, vectors.splits) == (texts.names, texts.groups, texts.splits)
    assert vectors.split("test").x.tolist() == texts.split("test").encoded(lambda ts: [[len(t), t.count("e")]
                                                                                         for t in ts]).x.tolist()


def test_encode_is_called_once_with_the_distinct_texts_of_this_bank_alone():
    asked = []
    bank().subset([2]).encoded(lambda ts: asked.append(ts) or np.ones((len(ts), 1)))
    assert asked == [["dark red", "red"]]


def test_an_encoder_of_any_library_will_do():
    sparse = pytest.importorskip("sklearn.feature_extraction.text").TfidfVectorizer(dtype=np.float32).fit(COLOURS)
    for encode in (sparse.transform, lambda ts: sparse.transform(ts).toarray(), lambda ts: torch.rand(len(ts), 4),
                   lambda ts: nn.Linear(1, 3)(torch.ones(len(ts), 1)), lambda ts: [[1, 2]] * len(ts)):
        vectors = bank().encoded(encode)
        assert len(vectors.x) == 7 and not vectors.x.requires_grad
    assert bank().encoded(sparse.transform).x.dtype == torch.float32


@pytest.mark.parametrize("encode, error, says", [
    (lambda ts: torch.ones(1, 8), ValueError, r"given 6 texts and returned 1 rows, \(1, 8\).*one row a text"),
    (lambda ts: ts, TypeError, "expected numbers"),
    (lambda ts: np.full((len(ts), 2), np.nan), ValueError, "NaN"),
    (lambda ts: [[1] * len(t) for t in ts], ValueError, "pad them"),
])
def test_what_is_no_encoding_is_refused(encode, error, says):
    with pytest.raises(error, match=says):
        bank().encoded(encode)


@pytest.mark.parametrize("texts, error, says", [
    (["a", 3], TypeError, "text 1 is 3: expected strings"), (["a", None], TypeError, "text 1 is None"),
    ([" ", "a"], TypeError, "text 0 is ' ': expected strings, none empty"), (["a"], ValueError, "1 texts but labels"),
])
def test_what_is_no_text_is_refused(texts, error, says):
    with pytest.raises(error, match=says):
        ClassTexts.from_arrays(texts, ["x", "y"])


def test_its_digest_is_of_the_texts_and_survives_a_subset_of_all():
    assert bank().subset([0, 1, 2]).digest() == bank().digest() == bank(source="x").digest()
    assert ClassTexts.from_arrays([*COLOURS[:-1], "rot"], LABELS).digest() != bank().digest()


def spoken(classes=8, each=12):
    """Eight classes that repeat two words of their own among words of all."""
    g = np.random.default_rng(0)
    return ClassTexts.from_arrays([f"w{c}a {g.integers(99)} w{c}b {g.integers(99)}" for c in range(classes)
                                   for _ in range(each)], np.repeat(np.arange(classes), each))


def test_tasks_can_be_read_and_are_those_of_the_encoded_bank():
    texts = spoken()
    ids = texts.encoded(Vocabulary(texts.texts, length=6))
    read = FewShot(texts, 3, 2, 4).sample(1, generator=seeded(0))
    drawn = FewShot(ids, 3, 2, 4).sample(1, generator=seeded(0))
    assert torch.equal(Vocabulary(texts.texts, length=6)(texts.read(read.query.x[0])), drawn.query.x[0])


def test_tf_idf_and_ridge_solve_tasks_whose_classes_have_their_own_words():
    text = pytest.importorskip("sklearn.feature_extraction.text")
    texts = spoken()
    encode = text.TfidfVectorizer(dtype=np.float32).fit(texts.texts)
    assert meta_test(RidgeHead(nn.Identity(), regularisation=0.1),
                     FewShot(texts.encoded(encode.transform), 5, 1, 5), 20).mean > 0.95


def test_the_audit_sees_a_text_that_stands_in_support_and_query():
    copies = ClassTexts.from_arrays([f"text {c} {i // 2}" for c in range(6) for i in range(8)],
                                    np.repeat(np.arange(6), 8))
    assert audit(FewShot(copies, 5, 1, 5), episodes=20).twin_images > 0
    encoded = copies.encoded(lambda ts: torch.rand(len(ts), 20, generator=seeded(0)))
    assert audit(FewShot(encoded, 5, 1, 5), episodes=20).twin_images > 0


# token ids ----------------------------------------------------------------------------------------------------------


def test_token_ids_are_padded_with_0_and_1_is_what_training_did_not_have():
    v = Vocabulary(["Pay my bill!", "pay it"], length=5)
    assert words("Don't pay.") == ["don", "'", "t", "pay", "."]
    assert v(["my cat's bill", "PAY", "pay pay pay pay pay pay"]).tolist() == [
        [v.ids["my"], 1, 1, 1, v.ids["bill"]], [v.ids["pay"], 0, 0, 0, 0], [v.ids["pay"]] * 5]
    assert v.ids["pay"] == 2 and sorted(v.ids.values()) == list(range(2, 7)) and v.size == 7


def test_the_commonest_tokens_are_kept_and_ties_do_not_depend_on_the_order_of_texts():
    texts = ["b a", "a c", "d"]
    assert list(Vocabulary(texts, size=2).ids) == list(Vocabulary(texts[::-1], size=2).ids) == ["a", "b"]


def test_characters_keep_their_case():
    v = Vocabulary(["Ab"], split=list, length=3)
    assert v(["aAb", "b"]).tolist() == [[1, v.ids["A"], v.ids["b"]], [v.ids["b"], 0, 0]]
    assert v([]).numel() == 0


@pytest.mark.parametrize("kwargs", [{"size": 0}, {"length": 0}, {"size": 2.5}])
def test_a_vocabulary_names_what_it_cannot_do(kwargs):
    with pytest.raises(ValueError, match="expected"):
        Vocabulary(["a"], **kwargs)


# CLINC150, in miniature ---------------------------------------------------------------------------------------------

DOMAINS = {d: [f"{d} {i}" for i in range(2)] for d in ("work", "home", "banking", "credit_cards", "travel")}


def pack(domains=DOMAINS, each=4):
    rows = [[f"text {i} of {intent}", intent] for intents in domains.values() for intent in intents
            for i in range(each)]
    return {"train": rows[::2], "test": rows[1::2], "oos_val": [["what is love", "oos"], ["a", "oos"]]}


def put(folder, data=None, domains=DOMAINS):
    (folder / "clinc150").mkdir(parents=True, exist_ok=True)
    (folder / "clinc150" / "data_full.json").write_text(json.dumps(pack() if data is None else data), "utf-8")
    (folder / "clinc150" / "domains.json").write_text(json.dumps(domains), "utf-8")
    return folder / "clinc150"


@pytest.fixture
def mini(tmp_path, monkeypatch):
    """The loader set up for the miniature, with an empty data root and no network."""
    monkeypatch.setenv("METALIB_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(root, "user_folder", lambda: tmp_path / "user")
    pairs = sorted(tuple(row) for part in pack().values() for row in part)
    content = json.dumps([pairs, {d: DOMAINS[d] for d in sorted(DOMAINS)}])
    monkeypatch.setattr(clinc, "CONTENT", ("other", hashlib.sha256(content.encode()).hexdigest()[:16]))
    monkeypatch.setattr(clinc, "URL", "http://127.0.0.1:9/")  # the discard port: nothing answers
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "data"


@pytest.fixture
def server(tmp_path, mini, monkeypatch):
    """A local copy of the official source, with the checksums of the miniature; lists what was asked for."""
    asked, www = [], put(tmp_path / "www")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    monkeypatch.setattr(clinc, "MD5", {n: hashlib.md5((www / n).read_bytes()).hexdigest() for n in clinc.MD5})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(www))) as running:
        monkeypatch.setattr(clinc, "URL", f"http://127.0.0.1:{running.server_port}/")
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield asked
        running.shutdown()
        thread.join()


def test_whole_domains_test_and_validate_or_intents_at_random(mini):
    put(mini)
    texts = clinc150()
    assert texts.splits == {"train": (4, 5), "val": (8, 9), "test": (0, 1, 2, 3, 6, 7)}
    assert set(texts.split("test").groups) == {"banking", "credit_cards", "travel"}
    assert texts.read(texts.x[:2]) == ["text 0 of banking 0", "text 1 of banking 0"] and out_of_scope()[0] == "a"
    sizes = [len(clinc150("intents", fold=1).splits[s]) for s in ("train", "val", "test")]
    assert sizes == [6, 1, 3] and clinc150("intents").splits != clinc150("intents", fold=1).splits
    assert "CC BY 3.0" in repr(texts) and "Larson" in repr(texts)


def test_an_audit_names_the_domains_that_training_and_test_share(mini):
    put(mini)
    for split, leaks in (("domains", False), ("intents", True)):
        bank = clinc150(split)
        test, train = (bank.split(part).encoded(lambda texts: torch.randn(len(texts), 4)) for part in ("test", "train"))
        report = audit(FewShot(test, 2, 1, 1), episodes=5, trained_on=train)
        assert list(report.both_sides) == sorted(set(test.groups) & set(train.groups))
        assert bool(report.both_sides) == leaks
        assert f"in training as well: {', '.join(report.both_sides) if leaks else 'no group'}\n" in str(report)


def test_the_packing_of_a_copy_does_not_matter(mini):
    put(mini)
    one = clinc150()
    rows = [row for part in pack().values() for row in part]
    put(mini, {"everything": rows[::-1]}, dict(reversed(DOMAINS.items())))
    assert clinc150().digest() == one.digest() and clinc150().splits == one.splits
    assert clinc150("intents").splits["test"] == clinc150("intents").splits["test"]


@pytest.mark.parametrize("options", [{"split": "domain"}, {"fold": 3}, {"fold": "0"}])
def test_unknown_options_are_named(mini, options):
    with pytest.raises(ValueError, match="expected"):
        clinc150(**options)


def test_missing_files_are_downloaded_once_and_verified(mini, server):
    assert len(clinc150()) == 10
    assert sorted(server) == ["/data_full.json", "/domains.json"]
    out_of_scope()
    assert len(server) == 2


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(mini, server, monkeypatch):
    monkeypatch.setattr(clinc, "MD5", dict.fromkeys(clinc.MD5, "0" * 32))
    with pytest.raises(FileNotFoundError, match="checksum is wrong.*try again"):
        clinc150()
    assert not list((mini / "clinc150").iterdir())


def test_no_network_says_what_is_missing_where_it_looked_and_how_to_get_it(mini):
    with pytest.raises(FileNotFoundError) as error:
        clinc150()
    message = str(error.value)
    for part in ("data_full.json is missing", str(mini / "clinc150"), "http://127.0.0.1:9/data_full.json", "put it at"):
        assert part in message


def test_a_read_only_root_is_read_and_a_download_goes_to_the_user_folder(mini, server):
    mini.chmod(0o555)
    try:
        assert len(clinc150()) == 10
    finally:
        mini.chmod(0o755)
    assert not list(mini.iterdir()) and len(list((root.user_folder() / "clinc150").iterdir())) == 2


@pytest.mark.parametrize("keep", [0.5, 0.0])
@pytest.mark.parametrize("name", ["data_full.json", "domains.json"])
def test_a_truncated_file_says_to_delete_it(mini, keep, name):
    path = put(mini) / name
    path.write_bytes(path.read_bytes()[:int(keep * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"{name}.*damaged.*delete both"):
        clinc150()
    put(mini)
    assert len(clinc150()) == 10  # nothing of the failure was kept


def test_bytes_that_are_no_text_are_found(mini):
    (put(mini) / "data_full.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ValueError, match="damaged.*codec"):
        clinc150()


@pytest.mark.parametrize("data", [[1, 2], {"train": [["a", "b", "c"]]}, {"train": 3}, {"train": [{"text": "a"}]}, "x",
                                  {"train": [[1, "a"], ["b", "a"]]}, {"train": [None]}, {}])
def test_json_of_another_shape_is_refused(mini, data):
    put(mini, data)
    with pytest.raises(ValueError, match="damaged or not the official file"):
        clinc150()


@pytest.mark.parametrize("fault", ["a row less", "another intent", "another domain", "the domains' order of intents"])
def test_another_version_is_refused_by_its_content(mini, fault):
    data, domains = pack(), {d: list(i) for d, i in DOMAINS.items()}
    if fault == "a row less":
        data["train"] = data["train"][1:]
    elif fault == "another intent":
        data["test"][0][1] = "banking 1"
    elif fault == "another domain":
        domains["home"], domains["work"] = domains["work"], domains["home"]
    else:
        domains["home"] = domains["home"][::-1]  # the same content
    put(mini, data, domains)
    if fault.startswith("the"):
        assert len(clinc150()) == 10
        return
    with pytest.raises(ValueError, match="another version of the data, .* content .*; expected .*delete both"):
        clinc150()


def has_real_data():
    folders = [Path(os.environ.get("METALIB_DATA") or root.user_folder()), root.user_folder()]
    return all(any((f / "clinc150" / n).is_file() for f in folders) for n in clinc.MD5)


@pytest.mark.skipif(not has_real_data(), reason="CLINC150 is not in the data root (METALIB_DATA)")
def test_all_of_clinc150_is_read_and_every_split_has_90_15_and_45_intents():
    texts = clinc150()
    assert len(texts) == 150 and texts.counts.sum() == 22499 and set(Counter(texts.groups).values()) == {15}
    repeated = [t for t, n in Counter(texts.read(texts.x)).items() if n > 1]
    assert len(repeated) == 4 and len(out_of_scope()) == 1200 and not set(out_of_scope()) & set(texts.texts)
    for fold, part_of in enumerate(FOLDS):
        for split in ("domains", "intents"):
            parts = {s: texts.subset(clinc150(split, fold=fold).splits[s]) for s in ("train", "val", "test")}
            assert [len(p) for p in parts.values()] == [90, 15, 45]
            assert len(set().union(*(p.names for p in parts.values()))) == 150
            shared = set(parts["train"].groups) & set(parts["test"].groups)
            domains = {d: s for s in ("val", "test") for d in parts[s].groups}
            assert (not shared and domains == part_of) if split == "domains" else len(shared) >= 8


# names by language --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def names():
    pytest.importorskip("babel")
    return languages()


def test_over_a_hundred_languages_write_names_that_no_other_writes(names):
    assert len(names) > 100 and set(names.counts.tolist()) == {60}
    assert len(names.texts) == len(names.x)  # no text stands under two languages
    german = names.names.index("de German")
    assert any("ö" in text for text in names.read(names.x[names.labels == german])) and names.groups[german] == "latin"
    assert [len(names.split(s)) > 20 for s in ("train", "val", "test")] == [True] * 3
    assert "Unicode" in repr(names) and "BSD" in repr(names)


def test_they_do_not_depend_on_the_order_in_which_babel_lists_them(names, monkeypatch):
    from babel import localedata

    listed = localedata.locale_identifiers()
    monkeypatch.setattr(localedata, "locale_identifiers", lambda: listed[::-1])
    assert languages().digest() == names.digest() and languages().splits == names.splits


def test_the_script_alone_tells_many_languages_and_within_one_script_none(names):
    scripts = sorted(set(names.groups))
    told = names.encoded(lambda texts: torch.zeros(len(texts), len(scripts)))  # what a reader of scripts alone sees
    told = ClassData.from_arrays(nn.functional.one_hot(torch.tensor([scripts.index(g) for g in names.groups]))
                                 .float()[told.labels], names.labels, groups=names.groups)
    reader = RidgeHead(nn.Identity(), regularisation=0.1)
    one = meta_test(reader, FewShot(told.subset(names.groups.index(s) for s in scripts), 5, 1, 5), 20)
    latin = told.subset(c for c, s in enumerate(told.groups) if s == "latin")
    assert one.mean == 1 and meta_test(reader, FewShot(told, 5, 1, 5), 100).mean > 0.3
    assert abs(meta_test(reader, FewShot(latin, 5, 1, 5, within="group"), 100).mean - 0.2) < 1e-6


def test_without_babel_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_babel(name, *args, **kwargs):
        if name == "babel":
            raise ModuleNotFoundError("No module named 'babel'", name="babel")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_babel)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "metalib\[language\]"'):
        languages()
