"""static — for models that average their tokens' vectors: which words add up to a row? Sparse recovery over a table of words.

In    targets (s, d), Known with an encoder that shows its table
Out   words and punctuation, the surest first: a bag without order
Uses  audit.inversion.words; scipy
Paper words of a sum of word vectors by sparse recovery: Arora et al. 2018, A compressed sensing view of unsupervised text
      embeddings; by pursuit: Mallat and Zhang 1993

Two ways, by how well the targets are believed to be where the texts are. Each word is judged by the log-likelihood ratio of
texts that have it: their mean direction in the reference, and for rare words what the table says they add; and by how often it
is expected, among all texts and among those nearest to the target. Where most of a target is noise, that is all. Where it is
not, words are pursued: the one is added that, so judged, also leaves least of the row unexplained, on whole numbers of words,
with a second look at each. A pursuit of what is mostly noise would fit the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from crossvec.audit.inversion import Budget, Known, Targets
from crossvec.audit.inversion.words import Vocabulary, join, split
from crossvec.encoders import Step, silent
from crossvec.geometry import TINY

__all__ = ["Averaging", "Static"]

TRUSTED = 0.8
"""Targets believed to have at least this cosine to the true directions are explained word by word; measured on real rows."""

WORTH_IT = -1.0
"""Log odds from which on a word is named: at a token F1 near one half, one that is right in more than a quarter of cases."""

DOUBT = 0.5
"""What evidence counts for where most of a target is noise: less than it says, as that noise is not that of rows at large."""

OWN_WEIGHT = 10  # texts that what the table says of a word counts for
FLOOR = 0.05  # directions that rows hardly vary in count as varying by this part of the average
REGULAR = 200  # texts that tell how long a sum of tokens' vectors usually is
UNHEARD = 1e-9  # how often a word is expected that no near text has
BEGINS = ("▁", "Ġ")  # how tokenizers write that a token begins a word
USUAL_TOKENS = 30  # of a text, where no texts are known


@runtime_checkable
class Averaging(Protocol):
    """An encoder whose row of a text is, up to its length, the sum of its tokens' vectors."""

    def table(self) -> Float32[np.ndarray, "v d"]:
        """Return the vector of each token."""
        ...

    def pieces(self) -> list[str]:
        """Return how each token is written, in the order of the table."""
        ...

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens that each text's row is made of, those counted that the model adds itself."""
        ...


@dataclass(frozen=True)
class Static:
    """Words from rows. `shortlist` words are pursued for each target, and looked at `looks` times again after the first."""

    name: ClassVar[str] = "static"

    shortlist: int = 1000
    looks: int = 2

    def lacks(self, known: Known) -> str:
        return "" if isinstance(known.encoder, Averaging) else "a static encoder, one that averages its tokens' vectors"

    def invert(self, targets: Targets, known: Known, *, budget: Budget, seed: int = 0, progress: Step = silent) -> list[str]:
        if not isinstance(known.encoder, Averaging):
            raise ValueError("the engine lacks a static encoder")  # `lacks` says so first
        table = _table(known)
        if not len(targets) or budget.left <= 0:
            return [""] * len(targets)
        believed = known.fidelity(targets, seed)
        values, axes = np.linalg.eigh(np.cov((known.near if known.texts else targets).T))
        sharpness = float(values.sum() ** 2 / (values**2).sum()) * believed / (1 - believed**2)
        whitening = (axes / np.sqrt(np.maximum(values, max(values.mean() * FLOOR, TINY)))).astype(np.float32)
        means, white = table.means @ whitening * np.float32(believed), targets @ whitening
        fixed = -0.5 * (means * means).sum(1)
        found = []
        for row, expected in enumerate(table.vocabulary.expected(targets)):
            if budget.spent:
                break
            prior, evidence = np.log(expected + UNHEARD), means @ white[row] + fixed
            # Without texts it is not known how rows vary, nor what goes with a word.
            odds = prior + evidence if known.texts else prior
            if believed < TRUSTED:
                chosen = np.argsort(-(prior + DOUBT * evidence), kind="stable")[: table.vocabulary.usual_length].tolist()
            else:
                chosen = self._pursue(targets[row], table, odds, sharpness)
            found.append(join([table.vocabulary.words[word] for word in chosen]))
            progress(f"{row + 1:,} of {len(targets):,} rows", (row + 1) / len(targets))
        return found + [""] * (len(targets) - len(found))

    def _pursue(
        self, target: Float32[np.ndarray, " d"], table: _Table, prior: Float[np.ndarray, " v"], sharpness: float
    ) -> list[int]:
        """Return the numbers of the words that add up to the target, those first that explain most of it.

        `sharpness` is the concentration of directions around the true one (von Mises-Fisher): what a cosine is worth in nats.
        """
        known = table.known
        wanted = known.mean + known.spread * target
        rest = (table.norm * wanted / np.linalg.norm(wanted) - table.own).astype(np.float32)
        scale = sharpness / (table.norm * known.spread) ** 2
        k = min(self.shortlist, len(prior))
        short = np.sort(np.argpartition(-(scale * (table.sums @ rest) + prior), k - 1)[:k])
        atoms = table.sums[short]
        fixed = prior[short] - 0.5 * scale * (atoms * atoms).sum(1)
        counts, chosen = np.zeros(k), list[int]()

        def best(rest: Float32[np.ndarray, " d"]) -> int | None:
            # The Poisson odds of one more of a word that is there already fall with how often it is.
            odds = scale * (atoms @ rest) + fixed - np.log(counts + 1)
            word = int(odds.argmax())
            return word if odds[word] > WORTH_IT else None

        while len(chosen) < table.vocabulary.usual_length and (word := best(rest)) is not None:
            chosen.append(word)
            counts[word] += 1
            rest = rest - atoms[word]
        for _ in range(self.looks):
            for word in list(chosen):
                chosen.remove(word)
                counts[word] -= 1
                rest = rest + atoms[word]
                if (better := best(rest)) is not None:
                    chosen.append(better)
                    counts[better] += 1
                    rest = rest - atoms[better]
        explains = {word: float(scale * atoms[word] @ (rest + 0.5 * atoms[word])) for word in chosen}
        return [int(short[word]) for word in sorted(chosen, key=lambda one: (-explains[one], one))]


@dataclass(frozen=True, eq=False)
class _Table:
    """The words that are looked for.

    `sums` (v, d) is what each adds to the sum of a text's token vectors, `own` (d) what the model adds to every text's, and
    `norm` how long such a sum usually is. `means` (v, d): the mean direction of texts with the word.
    """

    known: Known
    vocabulary: Vocabulary
    sums: Float32[np.ndarray, "v d"]
    own: Float32[np.ndarray, " d"]
    norm: float
    means: Float32[np.ndarray, "v d"]


@lru_cache(maxsize=1)
def _table(known: Known) -> _Table:
    """Return what is known of the words, which is the same for all rows."""
    encoder = cast(Averaging, known.encoder)
    vocabulary = Vocabulary.of(known) if known.texts else _of_table(known, encoder)
    sums, norm = _sums(encoder, vocabulary.words), _usual_norm(known, encoder)
    # A word moves a row by its vector, and the row is scaled to unit length again: what lies along the mean is lost.
    along = known.mean / np.linalg.norm(known.mean)
    means = (sums - np.outer(sums @ along, along)) / np.float32(norm * known.spread)
    if known.texts:
        means = _in_context(vocabulary, means)
    return _Table(known, vocabulary, sums, _added(encoder, [""])[0], norm, means.astype(np.float32))


def _in_context(vocabulary: Vocabulary, moves: Float32[np.ndarray, "v d"]) -> Float32[np.ndarray, "v d"]:
    """Return the mean direction of the reference's texts with each word; the fewer those are, the more its own move counts."""
    from scipy.sparse import csr_matrix

    numbers = vocabulary.numbers
    held = [sorted({numbers[atom] for atom in split(text) if atom in numbers}) for text in vocabulary.known.texts]
    ends = np.cumsum([0, *map(len, held)])
    columns = np.array([number for own in held for number in own], np.int64)
    has = csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape=(len(held), len(numbers)))
    texts = np.asarray(has.sum(0)).reshape(-1, 1)
    means: np.ndarray = (has.T @ vocabulary.known.near + OWN_WEIGHT * moves) / (texts + OWN_WEIGHT)
    return means.astype(np.float32)


def _sums(encoder: Averaging, words: Sequence[str]) -> Float32[np.ndarray, "k d"]:
    """Return what each word, or mark, adds to the sum of a text's token vectors where it stands inside one."""
    inside = [f"a {word}" if word[0].isalnum() else f"a{word}" for word in words]
    sums: np.ndarray = _added(encoder, inside) - _added(encoder, ["a"])
    return sums


def _added(encoder: Averaging, texts: Sequence[str]) -> Float32[np.ndarray, "k d"]:
    """Return the sum of each text's token vectors."""
    table, tokens = encoder.table(), encoder.tokens(texts)
    sizes = np.array([len(one) for one in tokens])
    sums = np.zeros((len(texts), table.shape[1]), np.float32)
    if sizes.any():
        flat = table[np.concatenate([np.asarray(one, np.int64) for one in tokens])]
        full = sizes > 0  # reduceat gives an empty stretch its next row
        sums[full] = np.add.reduceat(flat, (np.cumsum(sizes) - sizes)[full], axis=0)
    return sums


def _usual_norm(known: Known, encoder: Averaging) -> float:
    """Return how long the sum of a text's token vectors usually is."""
    if known.texts:
        return float(np.median(np.linalg.norm(_added(encoder, known.texts[:REGULAR]), axis=1)))
    return float(np.linalg.norm(encoder.table().mean(0)) * USUAL_TOKENS + np.linalg.norm(_added(encoder, [""])))


def _of_table(known: Known, encoder: Averaging) -> Vocabulary:
    """Return the words that are one token, for an attacker without texts: tokens are listed, roughly, commonest first."""
    pieces = encoder.pieces()
    begins = [piece for piece in pieces if piece.startswith(BEGINS)] or [one for one in pieces if not one.startswith("##")]
    words = list(dict.fromkeys(piece.lstrip("".join(BEGINS)) for piece in begins))
    words = [word for word in words if word.isalpha() and (len(word) > 1 or word in "aIi")]
    return Vocabulary(known, words, (1_000_000 // (np.arange(len(words)) + 10) + 1).astype(np.int64))
