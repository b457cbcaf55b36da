"""learning — the translator of a migration, where none is given: from the new model's rows, from texts, or from both.

In    a Sample of the source, rows of the new model (m, dy), an Encoder of the new model and the texts of some rows
Out   Translator; Truth: rows as the new model itself makes them; what how many pairs are worth
Uses  fitting, encoders, texts, migration.gate
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from crossvec.encoders import Encoder, Step
from crossvec.errors import SpaceError, TranslatorError, UsageError
from crossvec.fitting import fit
from crossvec.migration.gate import Retention, neighbours, retention
from crossvec.migration.journal import id_hash
from crossvec.migration.reading import Sample
from crossvec.space import Space
from crossvec.texts import Texts
from crossvec.translator import Translator

__all__ = ["FEWEST", "MEASURED", "SEEN", "Truth", "check_encoder", "embedded", "learned", "measured", "worth"]

FEWEST = 24
"""Rows that a search for the best ten needs to be told from chance."""

MEASURED = Path(__file__).with_name("measured.json")
"""What benchmarks/migrate.py measured on real encoders, for those who have no texts to measure with."""

SEEN = "learned_from_ids"
"""Where a card keeps the hashes of the ids of the rows that were learned from, so that none of them is scored on."""

WORD = "dimension"

COUNTS = (30, 100, 300, 1000, 3000)
"""Numbers of pairs whose worth is measured, as far as there are that many."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Rows of a Sample as the new model makes them: `at` (p,) are positions in the sample, `vectors` (p, dy)."""

    at: Int[np.ndarray, " p"]
    vectors: Float32[np.ndarray, "p dy"]

    def __len__(self) -> int:
        """Return p."""
        return len(self.at)

    def take(self, index: Int[np.ndarray, " q"]) -> Truth:
        """Return some of them."""
        return Truth(self.at[index], self.vectors[index])


def check_encoder(encoder: Encoder, translator: Translator | None, target: Space | None) -> None:
    """Raise TranslatorError, or SpaceError, when the encoder's rows are not of the dimension that the new model has here.

    One that does not tell its dimension embeds one word, as one behind an endpoint does when it is opened.
    """
    dim = encoder.dim or encoder.encode([WORD]).shape[1]
    if translator is not None and dim != translator.target.dim:
        raise TranslatorError(
            f"{encoder.name} gives {dim:,} dimensions; this translator writes {translator.target.dim:,}",
            "use the model that its target was made with",
        )
    if target is not None and dim != target.dim:
        raise SpaceError(
            f"{target.name} has {target.dim:,} dimensions, and {encoder.name} gives {dim:,}",
            "the target store and the encoder are to be the same model",
        )


def embedded(
    sample: Sample,
    texts: Texts | None,
    encoder: Encoder,
    most: int,
    seen: Sequence[int] | tuple[()],
    seed: int,
    progress: Step,
) -> Truth:
    """Embed the texts of up to `most` rows: those of the sample's payload field, or those that a file has for its ids.

    A file with ids is matched by id; one without by row number. Rows whose id's hash is in `seen` are left out: a translator
    learned from them. Raises UsageError when no row has a text.
    """
    given = sample.texts if texts is None else _matched(sample, texts)
    at = np.array([i for i, text in enumerate(given) if text], np.int64)
    if not len(at):
        where, hint = "the payload field", "name a field of text, or a file of texts: --texts FILE"
        if texts is not None:
            where = str(texts.path)
            hint = "texts are matched with rows by id, or by row number where the file has no ids: ?id=COLUMN names the ids"
        raise UsageError(f"{where} has no text for any of the {len(sample):,} rows looked at", hint)
    known_ids = set(seen)
    at = at[[id_hash(sample.ids[i]) not in known_ids for i in at]]
    if len(at) > most:
        at = np.sort(np.random.default_rng(seed).choice(at, most, replace=False))
    rows = encoder.encode([str(given[i]) for i in at], progress=lambda _doing, part: progress("embedding texts", part))
    known = np.linalg.norm(rows, axis=1) > 0  # a model may know nothing in a text
    return Truth(at[known], np.asarray(rows[known], np.float32))


def _matched(sample: Sample, texts: Texts) -> list[str | None]:
    found: list[str | None] = [None] * len(sample)
    by_id = {str(i): place for place, i in enumerate(sample.ids)}
    by_number = {number: place for place, number in enumerate(sample.numbers)}
    for batch in texts.read():
        for row, text in enumerate(batch.texts):
            if row in batch.bad:
                continue
            number = batch.numbers[row]
            place = by_number.get(number) if batch.ids is None else by_id.get(str(batch.ids[row]))
            if place is not None:
                found[place] = text
    return found


def learned(sample: Sample, target: Space | None, truth: Truth | None, name: str, progress: Step, **how: Any) -> Translator:
    """Fit from the sample to the target's rows, and to the truth's where there is one, whose rows are pairs.

    Raises what `fitting.fit` raises.
    """
    source = Space.of(sample.vectors, name=name)
    if truth is None:
        assert target is not None
        return fit(source, target, progress=progress, carries="rows", **how)
    if target is None:
        whole, first = Space.of(truth.vectors, name="the new model"), 0
    else:
        whole, first = Space.of(np.concatenate([target.array(), truth.vectors]), name=target.name), len(target)
    pairs = np.stack([truth.at, first + np.arange(len(truth))], axis=1)
    translator = fit(source, whole, pairs=pairs, progress=progress, carries="rows", **how)
    return replace(translator, card={**translator.card, SEEN: [id_hash(sample.ids[i]) for i in truth.at]})


def worth(sample: Sample, learn: Truth, held_out: Truth, metric: str | None, seed: int) -> list[tuple[int, Retention]]:
    """Measure what retention a paired fit reaches with how many pairs, against true re-embedding of rows held out."""
    if len(held_out) < FEWEST:
        return []
    reference = neighbours(held_out.vectors, held_out.vectors, metric, own=True)
    order = np.random.default_rng(seed).permutation(len(learn))
    told = []
    for count in [count for count in COUNTS if count < len(learn)] + [len(learn)]:
        if count < 2:
            continue
        some = learn.take(order[:count])
        pairs = np.stack([np.arange(count)] * 2, axis=1)
        # Queries of the new model find more among rows that ridge has translated (see aligners.heldout).
        paired = fit(Space.of(sample.vectors[some.at]), Space.of(some.vectors), "ridge", pairs=pairs, seed=seed, device="cpu")
        rows = paired.translate(sample.vectors[held_out.at])
        found = neighbours(held_out.vectors, rows, metric, own=True)
        told.append((count, retention("re-embedding", reference, found, len(held_out), seed=seed)))
    return told


def measured() -> dict[str, Any] | None:
    """Return the benchmark's `source`, `target`, and `results`: aligner, pairs, recall_at_10, low, high; None before it ran."""
    try:
        told: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return told
