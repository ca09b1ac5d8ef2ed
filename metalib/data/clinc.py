"""clinc150(): 22,500 requests to an assistant, 150 intents in 10 domains, and 1,200 that are none of them."""

import hashlib
import json

from metalib.arguments import check_choice
from metalib.data.classes import SPLIT_NAMES
from metalib.data.root import fetch, reading
from metalib.data.texts import ClassTexts

URL = "https://raw.githubusercontent.com/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data/"
MD5 = {"data_full.json": "30c29dc6ab78edf3b5dfa640be204cde", "domains.json": "9beee9d0f36e07e914c1e3a626bdcb4a"}
CONTENT = ("1a618726fedb9459",)  # of what is in the files, however they are packed
SOURCE = "CLINC150, Larson et al. (2019), EMNLP, doi 10.18653/v1/D19-1131, licence CC BY 3.0"
FOLDS = ({"banking": "test", "credit_cards": "test", "travel": "test", "work": "val"},  # the other six train
         {"kitchen_and_dining": "test", "home": "test", "auto_and_commute": "test", "utility": "val"},
         {"utility": "test", "work": "test", "small_talk": "test", "travel": "val"})


def clinc150(split: str = "domains", *, fold: int = 0) -> ClassTexts:
    """The intents: 150 classes of 150 English texts (one of 149), groups are the 10 domains.

    `split` says which intents are train / val / test, 90 / 15 / 45 either way:

    - "domains": whole domains. Three of them test and one validates: `fold` 0 tests banking, credit cards and travel, 1
      kitchen, home and car, 2 utility, work and small talk. What a new bot looks like to an old one.
    - "intents": intents at random, `fold` is the seed, so that the three test sets overlap. Test intents then have
      siblings of their own domain in training; `audit(tasks, trained_on=bank)` names the domains on both sides.

    The published train, val and test examples of an intent are merged, because here whole intents are held out. A text
    that stands twice under one intent is kept once; four texts stand under two intents, and are kept under both. What
    belongs to no intent is in `out_of_scope()`.

    Reads the official files, data_full.json and domains.json, from `<data root>/clinc150/`, or downloads them there
    once (MD5 verified). Examples are in alphabetical order, so that nothing depends on how a copy is packed. Raises
    FileNotFoundError (no file and no network), or ValueError (a damaged file, another version of the data, or an
    unknown option), naming the fix.
    """
    check_choice(split, "split", "domains", "intents")
    check_choice(fold, "fold", 0, 1, 2)
    pairs, domains = _read()
    domain = {intent: d for d, intents in domains.items() for intent in intents}
    texts, intents = zip(*sorted({pair for pair in pairs if pair[1] != "oos"}))
    groups = [domain[name] for name in sorted(set(intents))]  # the order that the bank gives them
    splits = {s: [c for c, d in enumerate(groups) if FOLDS[fold].get(d, "train") == s] for s in SPLIT_NAMES}
    bank = ClassTexts.from_arrays(texts, intents, groups=groups, splits=splits, source=SOURCE)
    return bank if split == "domains" else bank.split_classes((0.6, 0.1, 0.3), seed=fold)


def out_of_scope() -> tuple[str, ...]:
    """CLINC150's 1,200 requests that belong to none of the 150 intents, in alphabetical order. See `clinc150`."""
    return tuple(sorted({text for text, intent in _read()[0] if intent == "oos"}))


def _read() -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
    """(all (text, intent), the intents of each domain), sorted, and known to be what was published."""
    paths = [fetch(f"clinc150/{name}", URL + name, md5) for name, md5 in MD5.items()]
    with reading(URL, *paths):  # a file may end early, be no text, or JSON of another shape
        data, domains = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
        pairs = sorted((text, intent) for part in data.values() for text, intent in part)
        domains = {domain: sorted(intents) for domain, intents in sorted(domains.items())}
        digest = hashlib.sha256(json.dumps([pairs, domains]).encode()).hexdigest()[:16]
        if digest not in CONTENT:
            raise ValueError(f"another version of the data, {len(pairs)} texts and {len(domains)} domains, content "
                             f"{digest}; expected {' or '.join(CONTENT)}")
    return pairs, domains
