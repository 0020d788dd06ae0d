"""Puts descriptions into words, in many manners, and says which words of a foil are the changed ones."""

from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Literal, TypeAlias

from numpy.random import Generator

from plumbline_training.descriptions import Description, Mention

Span: TypeAlias = tuple[int, int]
Case: TypeAlias = Literal["lower", "sentence", "upper"]

COUNT_WORDS = {1: "one", 2: "two", 3: "three", 4: "four"}
LEADS = ("", "a photo of", "image of", "an image of", "picture of", "a picture of", "there is", "A photo depicts")
LEAD_WEIGHTS = (0.30, 0.08, 0.06, 0.04, 0.06, 0.04, 0.12, 0.30)
CASES: tuple[Case, ...] = ("lower", "sentence", "upper")
CASE_WEIGHTS = (0.65, 0.25, 0.10)
WITH_ARTICLES, SAYING_ONE, SAYING_IS, SAYING_TO_THE, WITH_STOP, COLOUR_FIRST = 0.8, 0.1, 0.25, 0.2, 0.3, 0.08
GRAMMAR = frozenset({"a", "an", "is", "are", "and"})  # words that follow from others and claim nothing
VOWELS = "aeiou"


@dataclass(frozen=True, slots=True)
class Manner:
    """How a description is worded; a caption and its foil share one."""

    lead: str
    has_articles: bool
    says_one: bool
    says_is: bool
    says_to_the: bool
    is_colour_first: bool
    has_stop: bool
    case: Case


@dataclass(frozen=True, slots=True)
class Caption:
    """A text and the spans of its words, as `[start, end)` character offsets without punctuation."""

    text: str
    words: tuple[Span, ...]


def sample_manner(rng: Generator) -> Manner:
    """Draw a manner of wording."""
    lead = LEADS[int(rng.choice(len(LEADS), p=LEAD_WEIGHTS))]
    return Manner(
        lead=lead,
        has_articles=bool(rng.random() < WITH_ARTICLES),
        says_one=bool(rng.random() < SAYING_ONE),
        says_is=lead == "" and bool(rng.random() < SAYING_IS),
        says_to_the=bool(rng.random() < SAYING_TO_THE),
        is_colour_first=bool(rng.random() < COLOUR_FIRST),
        has_stop=bool(rng.random() < WITH_STOP),
        case=CASES[int(rng.choice(len(CASES), p=CASE_WEIGHTS))],
    )


def plain_manner(manner: Manner) -> Manner:
    """The same manner without any lead, as a caller's caption is before a scorer's template."""
    return replace(manner, lead="")


def word(description: Description, manner: Manner) -> Caption:
    """Put a description into words."""
    tokens = _lead(description, manner) + _body(description, manner)
    if description.background is not None:
        tokens += ["on", *_article(description.background, manner), description.background, "background"]
    if manner.has_stop:
        tokens[-1] += "."
    return _join(tokens, manner.case)


def changed_words(truth: Caption, foil: Caption) -> tuple[Span, ...]:
    """Spans of the foil's words that the true caption does not have there; grammar words never count."""
    old = [truth.text[start:end].lower() for start, end in truth.words]
    new = [foil.text[start:end].lower() for start, end in foil.words]
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    places = [k for tag, _, _, start, end in matcher.get_opcodes() if tag != "equal" for k in range(start, end)]
    return tuple(foil.words[k] for k in places if new[k] not in GRAMMAR)


def _lead(description: Description, manner: Manner) -> list[str]:
    if manner.lead == "there is" and description.mentions[0].count > 1:
        return ["there", "are"]
    return manner.lead.split()


def _body(description: Description, manner: Manner) -> list[str]:
    parts = [_noun(mention, manner) for mention in description.mentions]
    if description.relation is not None:
        return [*parts[0], *_relation(description.relation, manner), *parts[1]]
    tokens = parts[0]
    for part in parts[1:-1]:
        tokens = [*tokens[:-1], tokens[-1] + ",", *part]
    if len(parts) > 1:
        tokens = [*tokens, "and", *parts[-1]]
    return tokens


def _relation(relation: str, manner: Manner) -> list[str]:
    tokens = relation.split()
    if manner.says_to_the and tokens[-1] == "of":
        tokens = ["to", "the", *tokens]
    return ["is", *tokens] if manner.says_is else tokens


def _noun(mention: Mention, manner: Manner) -> list[str]:
    parts: tuple[str | None, ...] = (mention.size, mention.fill, mention.colour)
    if manner.is_colour_first:
        parts = (mention.size, mention.colour, mention.fill)
    adjectives = [str(part) for part in parts if part is not None]
    if mention.count > 1:
        plural = mention.shape + ("es" if mention.shape.endswith("s") else "s")
        return [COUNT_WORDS[mention.count], *adjectives, plural]
    tokens = [*adjectives, mention.shape]
    if manner.says_one:
        return ["one", *tokens]
    return [*_article(tokens[0], manner), *tokens]


def _article(following: str, manner: Manner) -> list[str]:
    if not manner.has_articles:
        return []
    return ["an" if following[0] in VOWELS else "a"]


def _join(tokens: list[str], case: Case) -> Caption:
    text = " ".join(tokens)
    if case == "upper":
        text = text.upper()
    elif case == "sentence":
        text = text[0].upper() + text[1:]
    spans, start = [], 0
    for token in tokens:
        spans.append((start, start + len(token.rstrip(",."))))
        start += len(token) + 1
    return Caption(text, tuple(spans))
