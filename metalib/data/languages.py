"""languages(): how over a hundred languages write the names of countries and of languages, from Babel's locale data."""

import unicodedata
from collections import Counter

from metalib.arguments import check_whole
from metalib.data.texts import ClassTexts

KINDS = ("territories", "languages")


def languages(minimum: int = 60) -> ClassTexts:
    """Classes are languages ("de German"), texts the names that they have for territories and languages.

    Groups are scripts (of most of a language's letters: "latin", "cyrillic"), and the script is a leak: among all
    languages it often says which one a text is, and within one script it says nothing. `FewShot(..., within="group")`
    draws tasks within a script, if each script in the bank has as many languages as a task.

    A name that two languages write alike is left out, so that every text has one answer; a language of which then fewer
    than `minimum` texts remain is left out as well, and with it those that copy one another. Splits are by language, at
    random, 64 / 16 / 20 %. Needs no file and no network, but Babel, and follows its version.

    Raises ModuleNotFoundError (no Babel) or ValueError (so large a `minimum` that no language is left).
    """
    check_whole(1, minimum=minimum)
    try:
        import babel
        from babel import localedata
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('languages() reads Babel\'s locale data: pip install "metalib[language]"') from error
    written = {}
    for code in sorted(localedata.locale_identifiers()):
        if "_" not in code:  # without those of one country or script, which repeat the language's own
            data = localedata.load(code, merge_inherited=False)  # what it says itself, not what it inherits
            written[code] = {n for kind in KINDS for n in data.get(kind, {}).values() if any(map(str.isalpha, n))}
    times = Counter(name for names in written.values() for name in names)
    own = {code: sorted(n for n in names if times[n] == 1) for code, names in written.items()}
    kept = {code: names for code, names in own.items() if len(names) >= minimum}
    if not kept:
        raise ValueError(f"minimum={minimum}: a language has at most {max(map(len, own.values()))} names of its own")
    english = localedata.load("en")["languages"]
    labels = {code: f"{code} {english.get(code, '')}".strip() for code in kept}
    scripts = {labels[code]: _script("".join(names)) for code, names in kept.items()}
    bank = ClassTexts.from_arrays([n for names in kept.values() for n in names],
                                  [labels[code] for code, names in kept.items() for _ in names],
                                  groups=[scripts[label] for label in sorted(scripts)],
                                  source=f"Unicode CLDR, as in Babel {babel.__version__}, licences Unicode v3 and BSD")
    return bank.split_classes(seed=0)


def _script(text: str) -> str:
    """The script of most letters: the first word of a letter's name in Unicode."""
    scripts: Counter[str] = Counter()
    for letter, n in Counter(text).items():
        if letter.isalpha():
            scripts[unicodedata.name(letter, "?").split()[0].lower()] += n
    return scripts.most_common(1)[0][0]
