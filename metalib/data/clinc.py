"""clinc150(): 22,500 requests to an assistant, 150 intents in 10 domains, and 1,200 that are none of them."""

import hashlib
import json
from typing import Any

from metalib.arguments import check_choice
from metalib.data.root import fetch
from metalib.data.texts import ClassTexts

COMMIT = "828f8093932c8fe6ca7936c3d2e52903b1c523de"
URL = f"https://raw.githubusercontent.com/clinc/oos-eval/{COMMIT}/data/"
MD5 = {"data_full.json": "30c29dc6ab78edf3b5dfa640be204cde", "domains.json": "9beee9d0f36e07e914c1e3a626bdcb4a"}
CONTENT = ("1a618726fedb9459",)  # of what is in the files, however they are packed
SOURCE = "CLINC150, Larson et al. (2019), EMNLP, doi 10.18653/v1/D19-1131, licence CC BY 3.0"
FOLDS = {  # the domains that test, and the one that validates
    0: (("banking", "credit_cards", "travel"), "work"),
    1: (("kitchen_and_dining", "home", "auto_and_commute"), "utility"),
    2: (("utility", "work", "small_talk"), "travel"),
}


def clinc150(split: str = "domains", *, fold: int = 0) -> ClassTexts:
    """The intents: 150 classes of 150 English texts (one of 149), groups are the 10 domains.

    `split` says which intents are train / val / test, 90 / 15 / 45 either way:

    - "domains": whole domains. Three of them test and one validates: `fold` 0 tests banking, credit cards and travel, 1
      kitchen, home and car, 2 utility, work and small talk. What a new bot looks like to an old one.
    - "intents": intents at random, `fold` is the seed. Most test intents then have siblings of their own domain in
      training, which is easier, and what many published splits do.

    The published train, val and test examples of an intent are merged, because here whole intents are held out. A text
    that stands twice under one intent is kept once; four texts stand under two intents, and are kept under both. What
    belongs to no intent is in `out_of_scope()`.

    Reads the official files, data_full.json and domains.json, from `<data root>/clinc150/`, or downloads them there
    once (MD5 verified). Examples are in alphabetical order, so that nothing depends on how a copy is packed. Raises
    FileNotFoundError (no file and no network), or ValueError (a damaged file, another version of the data, or an
    unknown option), naming the fix.
    """
    check_choice(split, "split", "domains", "intents")
    if fold not in FOLDS or isinstance(fold, bool):
        raise ValueError(f"fold={fold!r}: expected {', '.join(map(str, FOLDS))}")
    pairs, domains = _read()
    domain = {intent: d for d, intents in domains.items() for intent in intents}
    inside = sorted({(intent, text) for text, intent in pairs if intent != "oos"})
    names = sorted({intent for intent, _ in inside})  # the order that the bank gives them
    test, val = FOLDS[fold]
    part = {d: "test" if d in test else "val" if d == val else "train" for d in domains}
    splits = {s: [c for c, name in enumerate(names) if part[domain[name]] == s] for s in ("train", "val", "test")}
    bank = ClassTexts.from_arrays([text for _, text in inside], [intent for intent, _ in inside], splits=splits,
                                  groups=[domain[name] for name in names], source=SOURCE)
    return bank if split == "domains" else bank.split_classes((0.6, 0.1, 0.3), seed=fold)


def out_of_scope() -> tuple[str, ...]:
    """CLINC150's 1,200 requests that belong to none of the 150 intents, in alphabetical order. See `clinc150`."""
    return tuple(sorted({text for text, intent in _read()[0] if intent == "oos"}))


def _read() -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """(all (text, intent), the intents of each domain), sorted, and known to be what was published."""
    paths = [fetch(f"clinc150/{name}", URL + name, md5) for name, md5 in MD5.items()]
    fix = f"delete it, and it is downloaded again from {URL}; without a network, copy the official file there"
    found: list[Any] = []
    for path in paths:
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:  # JSON that ends early, bytes that are no text
            raise ValueError(f"{path} is damaged ({error}): {fix}") from error
    try:
        pairs = sorted((text, intent) for part in found[0].values() for text, intent in part)
        domains = {domain: sorted(intents) for domain, intents in sorted(found[1].items())}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{paths[0]} or {paths[1]} is JSON of another shape ({error}); expected lists of [text, "
                         f"intent] and of intents by domain: {fix}") from error
    digest = hashlib.sha256(json.dumps([pairs, domains]).encode()).hexdigest()[:16]
    if digest not in CONTENT:
        raise ValueError(f"{paths[0]} or {paths[1]} is another version of the data: {len(pairs)} texts, {len(domains)} "
                         f"domains, content {digest}; expected {' or '.join(CONTENT)}: {fix}")
    return pairs, domains
