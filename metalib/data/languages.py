"""languages(): how over a hundred languages write the names of countries and of languages, from Babel's locale data."""

import unicodedata
from collections import Counter

from metalib.data.texts import ClassTexts

EACH = 60


def languages() -> ClassTexts:
    """Classes are languages ("de German"), texts the names that they have for territories and languages.

    Groups are scripts (of most of a language's letters: "latin", "cyrillic"), and the script is a leak: among all
    languages it often says which one a text is, and within one script it says nothing. `FewShot(..., within="group")`
    draws tasks within a script, if each script in the bank has as many languages as a task.

    A name that two languages write alike is left out, so that every text has one answer. Of what then remains each
    language gives 60, and one that has fewer is left out, and with it those that copy one another. Splits are by
    language, at random, 64 / 16 / 20 %. Needs no file and no network, but Babel, and follows its version.

    Raises ModuleNotFoundError if Babel is missing.
    """
    try:
        import babel
        from babel import localedata
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('languages() reads Babel\'s locale data: pip install "metalib[language]"') from error
    english, written = localedata.load("en")["languages"], {}
    for code in sorted(localedata.locale_identifiers()):
        if "_" not in code:  # without those of one country or script, which repeat the language's own
            data = localedata.load(code, merge_inherited=False)  # what it says itself, not what it inherits
            names = {**data.get("territories", {}), **data.get("languages", {})}.values()
            written[f"{code} {english.get(code, '')}".strip()] = {n for n in names if any(map(str.isalpha, n))}
    times = Counter(name for names in written.values() for name in names)
    own = {language: sorted(n for n in names if times[n] == 1) for language, names in written.items()}
    own = {language: [names[i * len(names) // EACH] for i in range(EACH)]  # spread over the alphabet
           for language, names in own.items() if len(names) >= EACH}
    bank = ClassTexts.from_arrays([n for names in own.values() for n in names],
                                  [language for language, names in own.items() for _ in names],
                                  groups=[_script("".join(own[language])) for language in sorted(own)],
                                  source=f"Unicode CLDR, as in Babel {babel.__version__}, licences Unicode v3 and BSD")
    return bank.split_classes(seed=0)


def _script(text: str) -> str:
    """The script of most of the first letters: the first word of a letter's name in Unicode."""
    letters = [unicodedata.name(c, "?").split()[0].lower() for c in text[:1000] if c.isalpha()]
    return Counter(letters).most_common(1)[0][0]
