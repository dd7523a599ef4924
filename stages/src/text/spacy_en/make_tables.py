#!/usr/bin/env python3
"""Writes tables.txt: the language data behind spaCy's English tokenizer, as facts. usage: make_tables.py > tables.txt   (needs spacy 3.8)

Fails when the data holds a rule of a form that ../spacy_en.rs does not know, so that another version is not taken over half.
"""
import re
import sys
import textwrap
import unicodedata

import spacy
from spacy.lang import char_classes as classes
from spacy.lang.en import English
from spacy.lang.en.punctuation import TOKENIZER_INFIXES as INFIXES
from spacy.lang.punctuation import TOKENIZER_PREFIXES as PREFIXES
from spacy.lang.punctuation import TOKENIZER_SUFFIXES as SUFFIXES
from spacy.symbols import ORTH

CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def members(inside):
    """The characters of a regular expression's class."""
    return {code for code in CODES if re.fullmatch(f"[{inside}]", chr(code))} if inside else set()


def unescaped(rule):
    return re.sub(r"\\(\W)", r"\1", rule)


def ranges(codes, steps=(1, 2)):
    """`41-5A`, `B5`, and `100-136/2` for every second one."""
    codes, written, at = sorted(codes), [], 0
    while at < len(codes):
        best = (1, 1)
        for step in steps:
            n = 1
            while at + n < len(codes) and codes[at + n] == codes[at] + n * step:
                n += 1
            if n > best[0] + (step == 2):
                best = (n, step)
        n, step = best
        first, last = codes[at], codes[at] + (n - 1) * step
        written.append(f"{first:X}" if n == 1 else f"{first:X}-{last:X}" + ("" if step == 1 else "/2"))
        at += n
    return written


def check(condition, what):
    if not condition:
        sys.exit(f"{what}: not the rules that spacy_en.rs was written for")


def singles(rules, known):
    """The rules that are one character; all others must be `known`."""
    plain = [unescaped(rule) for rule in rules if rule.strip()]
    check({rule for rule in plain if len(rule) != 1} == known, sorted(rule for rule in plain if len(rule) != 1))
    return {ord(rule) for rule in plain if len(rule) == 1}


def is_circled(code):
    return unicodedata.category(chr(code)) == "So" and "LETTER" in unicodedata.name(chr(code))


icons = f"[{classes.CONCAT_ICONS}]"
lookarounds = [rule for rule in SUFFIXES + INFIXES if rule.startswith("(?<=")]
prefixes = singles([rule for rule in PREFIXES if rule not in (icons, r"\.\.+", r"\+(?![0-9])")], {"……", "US$", "C$", "A$"})
check(all(rule in PREFIXES for rule in (icons, r"\.\.+", r"\+(?![0-9])")), "prefixes")
suffixes = singles([rule for rule in SUFFIXES if rule not in (icons, r"\.\.+") and rule not in lookarounds], {"……", "'s", "'S", "’s", "’S"})
check(icons in SUFFIXES and r"\.\.+" in SUFFIXES, "suffixes")
check(INFIXES[:3] == [r"\.\.+", "…", icons] and len(lookarounds) == 6 + 5, "lookarounds")
a, al, au, q = classes.ALPHA, classes.ALPHA_LOWER, classes.ALPHA_UPPER, classes.CONCAT_QUOTES
check(lookarounds[:3] == [r"(?<=[0-9])\+", r"(?<=°[FfCcKk])\.", rf"(?<=[0-9])(?:{classes.CURRENCY})"], lookarounds[:3])
check(lookarounds[3] == rf"(?<=[0-9])(?:{classes.UNITS})", lookarounds[3])
before_dot = re.fullmatch(r"\(\?<=\[(.*)\]\)\\\.", lookarounds[4])
check(before_dot and lookarounds[5] == rf"(?<=[{au}][{au}])\.", lookarounds[5])
check(lookarounds[6:] == [
    r"(?<=[0-9])[+\-\*^](?=[0-9-])",
    rf"(?<=[{al}{q}])\.(?=[{au}{q}])",
    rf"(?<=[{a}]),(?=[{a}])",
    rf"(?<=[{a}0-9])(?:{classes.HYPHENS})(?=[{a}])",
    rf"(?<=[{a}0-9])[:<>=/](?=[{a}])",
] and classes.HYPHENS == "-|–|—|--|---|——|~", "infixes")

lower, upper = members(al), members(au)
rules = English().tokenizer.rules
parts = {text: [token[ORTH] for token in tokens] for text, tokens in rules.items() if not text.isspace()}
check(not any(set(text) & set("~ \t\n") for text in parts), "exceptions")
# Those with a typographic apostrophe are made of those with a plain one.
curly = {text.replace("'", "’"): [part.replace("'", "’") for part in tokens] for text, tokens in parts.items() if "'" in text}
check(all(parts.get(text) == tokens for text, tokens in curly.items()), "apostrophes")

tables = {
    "lower": ranges(lower),
    "upper": ranges(upper),
    "other_alpha": ranges(members(a) - lower - upper),
    "quote": ranges(members(q)),
    "icon": ranges(members(classes.CONCAT_ICONS)),
    "prefix": ranges(prefixes),
    "suffix": ranges(suffixes),
    "before_dot": ranges(members(before_dot[1]) - lower - {ord(digit) for digit in "0123456789"}),
    "zero": ranges(code for code in CODES if unicodedata.category(chr(code)) == "Nd" and unicodedata.digit(chr(code)) == 0),
    "not_word": ranges((code for code in CODES if unicodedata.category(chr(code))[0] == "M" or is_circled(code)), steps=(1,)),
    "currency": [unescaped(unit) for unit in classes.LIST_CURRENCY],
    "unit": classes.LIST_UNITS,
    "exception": sorted("~".join(tokens) for text, tokens in parts.items() if text not in curly),
}
check(members(a) >= lower | upper, "alpha")
print(f"""# Written by make_tables.py from spaCy {spacy.__version__} (https://github.com/explosion/spaCy, spacy/lang; MIT licence, Copyright (C) 2016-2024
# ExplosionAI GmbH, 2016 spaCy GmbH, 2015 Matthew Honnibal). From Unicode {unicodedata.unidata_version}: `zero`, the first digits of its tens; `not_word`, marks
# and circled letters, which Python has not for parts of words.
# Sets of characters are in hexadecimal, `/2` is every second one. An exception is cut at `~`.""")
for name, items in tables.items():
    print(f"\n[{name}]")
    print(textwrap.fill(" ".join(items), 150, break_long_words=False, break_on_hyphens=False))
