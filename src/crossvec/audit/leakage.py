"""leakage — how much of a text is in what an attack recovered of it, in words, names, numbers, meaning and bits.

In    truths, guesses      n texts each; guess i was recovered from the vector of truth i, "" where nothing was
Out   Scores               the headline first, which alone gates; each beside its `shuffled` control
Uses  metrics, encoders; sacrebleu, scipy
Paper token F1: Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1; BLEU: Post 2018, arXiv:1804.08771
      bits: Fano's inequality, Cover and Thomas 2006, theorem 2.10.1

The control scores the texts against guesses of other documents. What all texts share, function words, a house's phrases, the
taste of a language model, is in the control too, and what remains is the lift. A measure speaks about the rows in whose truth
it has something to find: a truth without numbers says nothing about numbers, and `n` tells how many have some.

Names and numbers are found by rule and not by a model, so that nothing is fetched and nothing is guessed: see `entities`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import log2
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crossvec import metrics
from crossvec.audit.scores import FEWEST, LEVEL, RESAMPLES, Score, share
from crossvec.encoders import Encoder
from crossvec.errors import UsageError

__all__ = ["bits", "checked", "entities", "in_order", "measures", "numbers", "others", "words"]

SHIFTS = 4
"""Other documents that a guess is scored against; their mean is the control."""

K = 32
"""Candidates of the identification: five bits at most."""

ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # Chinese and Japanese, which put no blanks between words
WORD = re.compile(f"[{ALONE}]|[^\\W_{ALONE}]+")
NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
GROUPING = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?:https?://|www\.)[^\s<>\"')]+|(?<!\w)@\w{2,}")
"""E-mail addresses, addresses of pages, handles."""

BEGINS = re.compile(r"(?:^|[.!?…\n•]|[,:]\s*[\"“„«])[\s\"'“”‘’«»(\[*_-]*$")
TITLE = re.compile(r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Lt|Gen|Sen|Gov|Rev|Hon|Capt|Sgt)\.\s*$")

Rows = Float[np.ndarray, " n"]


def measures(
    truths: Sequence[str], guesses: Sequence[str], *, encoder: Encoder | None = None, seed: int = 0
) -> tuple[Score, ...]:
    """Score what was recovered of each text. The same seed gives the same scores.

    Token F1 (the headline, which gates), BLEU (of sentences, 0 to 1), recall of the distinct words, of `entities` and of
    `numbers`, the cosine under `encoder` where one is given, the share of guesses that are nearer to their own truth than to
    the truths of K - 1 other documents, by words weighted by their rarity, and how many bits about which document it was that
    share proves. A measure with something to find in fewer than FEWEST truths is left out.

    Raises UsageError for texts that are not pairs, for fewer than FEWEST of them, or truths without words.
    """
    truths, guesses = checked(truths, guesses)
    found = [_overlap("token F1", words, _f1, truths, guesses, seed, gates=True), _bleu(truths, guesses, seed)]
    for name, parts, among in (
        ("word recall", words, words),
        ("entity recall", entities, _candidates),
        ("number recall", numbers, numbers),
    ):
        found.append(_overlap(name, parts, _recall, truths, guesses, seed, among))
    if encoder is not None:
        found.append(_cosine(encoder, truths, guesses, seed))
    found += _identified(truths, guesses, seed)
    return tuple(one for one in found if one is not None)


def checked(truths: Sequence[str], guesses: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return both as lists; raises UsageError when they are not pairs of texts that anything can be said about."""
    if len(truths) != len(guesses):
        raise UsageError(f"{len(guesses):,} guesses for {len(truths):,} texts", 'give one guess a text, "" for none')
    if len(truths) < FEWEST:
        raise UsageError(
            f"{len(truths)} recovered text{'' if len(truths) == 1 else 's'} say nothing about leakage",
            f"give {FEWEST} or more, better 200",
        )
    if sum(bool(words(text)) for text in truths) < FEWEST:
        raise UsageError(f"fewer than {FEWEST} of {len(truths):,} texts hold a word", "give the texts of the rows themselves")
    return list(truths), list(guesses)


def in_order(text: str) -> list[str]:
    """Return the words of a text as they follow each other, without case, accents kept, possessive s cut off."""
    plain = re.sub(r"(?<=\w)['’]s\b", "", unicodedata.normalize("NFKC", text).casefold())
    return WORD.findall(plain)


def words(text: str) -> Counter[str]:
    """Return the words of a text and how often each stands in it."""
    return Counter(in_order(text))


def numbers(text: str) -> Counter[str]:
    """Return the numbers of a text: dates, times and amounts whole, without the commas that group thousands."""
    return Counter(NUMBER.findall(GROUPING.sub("", unicodedata.normalize("NFKC", text))))


def entities(text: str) -> Counter[str]:
    """Return what looks like a name, without case: capitalised words inside sentences, acronyms, and addresses whole.

    A capitalised word that begins a sentence counts when it has a second capital letter or a digit (NASA, McCartney, A380).
    Found by rule: it takes German nouns and titles in capitals for names, and finds none in scripts without capitals.
    """
    text = unicodedata.normalize("NFKC", text)
    found = _addresses(text)
    plain = ADDRESS.sub(lambda one: "x" * len(one[0]), text)
    for one in WORD.finditer(plain):
        word = one[0]
        if len(word) < 2 or not word[0].isupper():
            continue
        before = plain[max(0, one.start() - 24) : one.start()]
        odd = any(letter.isupper() or letter.isdigit() for letter in word[1:])
        if odd or TITLE.search(before) or not BEGINS.search(before if one.start() <= 24 else "x" + before):
            found[word.casefold()] += 1
    return found


def bits(right: float, k: int) -> float:
    """Return the bits about which of k equally likely documents it was that a share `right` of right answers proves.

    Fano's inequality, log2 k - H(e) - e log2(k - 1) with the error e = 1 - right; 0 at chance and below it.
    """
    wrong = 1 - max(right, 1 / k)
    doubt = -sum(p * log2(p) for p in (wrong, 1 - wrong) if p > 0)
    return max(0.0, log2(k) - doubt - wrong * log2(k - 1)) if k > 1 else 0.0


def others(n: int, count: int, seed: int) -> Int[np.ndarray, "c n"]:
    """Return `count` lists that give each of n rows another row, no row the same one twice: deals without fixed points."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    dealt = np.empty((count, n), np.int64)
    for row, shift in enumerate(rng.permutation(n - 1)[:count] + 1):
        dealt[row, order] = np.roll(order, -shift)
    return dealt


def _addresses(text: str) -> Counter[str]:
    return Counter(one.casefold().rstrip(".,;:!?/") for one in ADDRESS.findall(text))


def _candidates(text: str) -> Counter[str]:
    """Return everything in a guess that an entity may be found as: an attack's text need not have capitals."""
    return words(text) + _addresses(unicodedata.normalize("NFKC", text))


def _f1(truth: Counter[str], guess: Counter[str]) -> float:
    return 2 * (truth & guess).total() / (truth.total() + guess.total())


def _recall(truth: Counter[str], guess: Counter[str]) -> float:
    return sum(part in guess for part in truth) / len(truth)


def _overlap(
    name: str,
    parts: Callable[[str], Counter[str]],
    agree: Callable[[Counter[str], Counter[str]], float],
    truths: list[str],
    guesses: list[str],
    seed: int,
    among: Callable[[str], Counter[str]] = words,
    *,
    gates: bool = False,
) -> Score | None:
    """Score how well the parts of each truth agree with those of its guess; None with too few truths that have parts."""
    pairs = [(wanted, among(guess)) for truth, guess in zip(truths, guesses, strict=True) if (wanted := parts(truth))]
    if len(pairs) < FEWEST:
        return None
    return _compared(name, lambda i, j: agree(pairs[i][0], pairs[j][1]), len(pairs), seed, gates=gates)


def _compared(name: str, agree: Callable[[int, int], float], n: int, seed: int, *, gates: bool = False) -> Score:
    """Score `agree(truth, guess)` of each row's own guess over the guesses of other rows."""
    own = np.array([agree(i, i) for i in range(n)])
    shuffled = np.mean([[agree(i, j) for i, j in enumerate(deal)] for deal in others(n, min(SHIFTS, n - 1), seed)], axis=0)
    return share(name, own, {"shuffled": shuffled}, seed=seed, gates=gates)


def _bleu(truths: list[str], guesses: list[str], seed: int) -> Score:
    from sacrebleu.metrics.bleu import BLEU

    # The sentence's own longest n-gram counts where it has fewer than four words; else short texts could not reach 1.
    scorer = BLEU(effective_order=True)
    return _compared("BLEU", lambda i, j: _unit(scorer.sentence_score(guesses[j], [truths[i]]).score), len(truths), seed)


def _unit(percent: float) -> float:
    return min(1.0, percent / 100)  # sacrebleu gives 100.00000000000004 for equal texts


def _cosine(encoder: Encoder, truths: list[str], guesses: list[str], seed: int) -> Score | None:
    """Score the cosine of guess and truth under a model; a guess of nothing has cosine 0."""
    kept = [row for row, text in enumerate(truths) if text.strip()]
    if len(kept) < FEWEST:
        return None
    true, told = np.zeros((2, len(kept), encoder.dim), np.float32)
    true[:] = encoder.encode([truths[row] for row in kept])
    if said := [i for i, row in enumerate(kept) if guesses[row].strip()]:
        told[said] = encoder.encode([guesses[kept[i]] for i in said])
    true, told = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (true, told))
    own = np.einsum("nd,nd->n", true, told).astype(np.float64)
    deals = others(len(kept), min(SHIFTS, len(kept) - 1), seed)
    shuffled = np.mean([np.einsum("nd,nd->n", true, told[deal]) for deal in deals], axis=0).astype(np.float64)
    (low, high), (lift_low, lift_high) = metrics.bootstrap(np.stack([own, own - shuffled], 1), RESAMPLES, LEVEL, seed)
    chance, lift = float(shuffled.mean()), float((own - shuffled).mean())
    told_by = {"shuffled": chance}
    bounds = (float(own.mean()), float(low), float(high), chance, "shuffled", lift, float(lift_low), float(lift_high))
    return Score("cosine", *bounds, len(kept), told_by, gates=False)


def _identified(truths: list[str], guesses: list[str], seed: int) -> list[Score]:
    """Score which of k documents a guess is nearest to, by words, as a share and in bits.

    By words and not under an encoder: an attack that looked for a text with the right vector has found one, whatever it says.
    """
    counted = [words(text) for text in truths]
    rarity = _rarity(counted)
    true, told = (_weighted(texts, rarity) for texts in (counted, [words(text) for text in guesses]))
    n = len(truths)
    k = min(K, n)
    decoys = others(n, k - 1, seed)
    hits = _nearest(told, true, decoys)
    # The guess of another document, asked for a document that it was not recovered from; it need not be among the candidates.
    stranger = _nearest(told[others(n, 1, seed + 1)[0]], true, decoys)
    name = f"identified of {k}"
    found = share(name, hits, {"chance": np.full(n, 1 / k), "shuffled": stranger}, seed=seed, gates=False)
    controls: Mapping[str, float] = {over: bits(value, k) for over, value in found.controls.items()}
    over = max(controls, key=lambda one: controls[one])
    value, low, high = (bits(one, k) for one in (found.value, found.low, found.high))
    return [found, Score.against(over, controls[over], "bits", value, low, high, n, controls=controls, gates=False)]


def _rarity(counted: Sequence[Counter[str]]) -> dict[str, tuple[int, float]]:
    """Return each word's column, and how much it tells: the logarithm of one over the share of texts that have it."""
    held = Counter(word for text in counted for word in text)
    return {word: (column, float(np.log(len(counted) / times))) for column, (word, times) in enumerate(sorted(held.items()))}


def _weighted(counted: Sequence[Counter[str]], rarity: dict[str, tuple[int, float]]) -> Any:
    """Return texts as unit rows of a sparse matrix over the words of the truths; a text without any is a zero row."""
    from scipy.sparse import csr_matrix

    cells = [(row, *rarity[word]) for row, text in enumerate(counted) for word in text if word in rarity]
    rows, columns, weights = zip(*cells, strict=True) if cells else ((), (), ())
    matrix = csr_matrix((np.array(weights, np.float64), (rows, columns)), shape=(len(counted), len(rarity)))
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    return csr_matrix(matrix.multiply(1 / np.where(lengths > 0, lengths, 1.0)[:, None]))


def _nearest(told: Any, true: Any, decoys: Int[np.ndarray, "c n"]) -> Rows:
    """Return 1 where a guess is nearer to its own truth than to its decoys, parts of 1 where it is level with some."""

    def near(rows: Any) -> Rows:
        return np.asarray(told.multiply(rows).sum(1)).ravel()

    own = near(true)
    rest = np.stack([near(true[deal]) for deal in decoys])
    level: Rows = (np.abs(rest - own) <= metrics.TIE).sum(0).astype(np.float64)
    return np.where((rest > own + metrics.TIE).any(0), 0.0, 1 / (1 + level))
