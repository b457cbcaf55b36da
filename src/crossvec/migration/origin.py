"""origin — tell whether rows come from the one model that a translator was fitted on.

In    rows (n, d) of a store, the translator's source Frame
Out   Doubts: what speaks against it, and whether that is too much to go on
Uses  translator; scipy

Two models may share a dimension, and nothing else then stops their rows from being translated to nowhere. What a frame knows of
a model is its mean and the length of its rows: means of one model on other texts point the same way, those of two models do
not. A mixture shows in who is near whom: rows of two models are hardly ever neighbours, so that a graph of neighbours falls
into two parts (measured on three encoders: the best cut of one model's rows has a conductance of .14 and more, that of two
mixed models mostly below .06). Two languages can do the same, so a mixture is never more than a doubt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32

from crossvec.errors import TranslatorError
from crossvec.translator import Frame, Translator

__all__ = ["Doubts", "check_dim", "conductance", "look"]

OTHER_MODEL, OTHER_TEXTS = 0.3, 0.8
"""Below these cosines of the means the rows are of another model, or at least of very different texts."""

SAME_LENGTH = 0.05
SPREAD = 1.5
NOISE = 5.0  # a mean below this many standard errors has no direction
MIXED = 0.06
SMALLEST = 0.05  # share of the rows that the smaller part of a cut has at least
GRAPH_ROWS, NEIGHBOURS = 2000, 10


@dataclass(frozen=True)
class Doubts:
    """What speaks against the rows being those of the translator's source model; `foreign` when it is too much to go on."""

    notes: tuple[str, ...] = ()
    foreign: bool = False


def check_dim(translator: Translator, rows: Float32[np.ndarray, "n d"], name: str) -> None:
    """Raise TranslatorError when the translator reads rows of another dimension."""
    frame = translator.source
    if rows.shape[1] != frame.dim:
        turned = rows.shape[1] == translator.target.dim
        raise TranslatorError(
            f"{name} holds {rows.shape[1]:,} dimensions; this translator reads {frame.dim:,}",
            "it reads the other way: save translator.inverse() and use that"
            if turned
            else "use one fitted on this model's rows",
        )


def look(translator: Translator, rows: Float32[np.ndarray, "n d"], name: str) -> Doubts:
    """Compare rows with the frame of the translator's source.

    Raises TranslatorError when the dimensions differ.
    """
    check_dim(translator, rows, name)
    frame = translator.source.to("cpu")
    doubts = [*_length(frame, rows), *_direction(frame, rows)]
    foreign = any(strong for _, strong in doubts)
    notes = [note for note, _ in doubts]
    if (cut := conductance(rows)) is not None and cut < MIXED:
        notes.append(
            f"the rows fall into two groups that are hardly ever neighbours (conductance {cut:.3f}): two models in one"
            " collection, or two languages"
        )
    return Doubts(tuple(notes), foreign)


def _length(frame: Frame, rows: Float32[np.ndarray, "n d"]) -> list[tuple[str, bool]]:
    middle = float(np.median(np.linalg.norm(rows, axis=1)))
    if frame.norm is not None and abs(middle - frame.norm) > SAME_LENGTH * frame.norm:
        why = "; the store may scale its rows to unit length" if abs(middle - 1) < 1e-3 else ""
        return [
            (f"the rows have length {middle:.3g}, and the translator was fitted on rows of length {frame.norm:.3g}{why}", True)
        ]
    spread = float(np.linalg.norm(rows - rows.mean(0), axis=1).mean()) / frame.radius
    if not 1 / SPREAD < spread < SPREAD and len(rows) >= GRAPH_ROWS // 20:
        return [(f"the rows lie {spread:.2g} times as far apart as those the translator was fitted on", spread > SPREAD)]
    return []


def _direction(frame: Frame, rows: Float32[np.ndarray, "n d"]) -> list[tuple[str, bool]]:
    here, there = rows.mean(0).astype(np.float64), frame.mean.numpy().astype(np.float64)
    sizes = float(np.linalg.norm(here)), float(np.linalg.norm(there))
    if max(sizes) < NOISE * frame.radius / len(rows) ** 0.5 or min(sizes) == 0:
        return []  # both means are noise, and tell nothing
    cosine = float(here @ there) / (sizes[0] * sizes[1])
    if cosine >= OTHER_TEXTS:
        return []
    what = "another model's" if cosine < OTHER_MODEL else "of very different texts, or another model's"
    told = f"the rows look {what}: their mean has cosine {cosine:.2f} with that of the rows the translator was fitted on"
    return [(told, cosine < OTHER_MODEL)]


def conductance(rows: Float[np.ndarray, "n d"], seed: int = 0) -> float | None:
    """Return the conductance of the best cut of the graph of nearest neighbours, 0 where it falls apart; None for few rows.

    The cut is swept along the second eigenvector of the normalised graph (Shi and Malik 2000), and leaves each side at least
    SMALLEST of the rows. Conductance: edges cut over edges that begin on the smaller side.
    """
    if len(rows) < GRAPH_ROWS // 10:
        return None
    import scipy.sparse as sparse
    from scipy.sparse.linalg import eigsh

    rng = np.random.default_rng(seed)
    if len(rows) > GRAPH_ROWS:
        rows = rows[rng.choice(len(rows), GRAPH_ROWS, replace=False)]
    n = len(rows)
    unit = torch.nn.functional.normalize(torch.from_numpy(np.asarray(rows, np.float32)), dim=1)
    cosines = unit @ unit.T
    cosines.fill_diagonal_(-2)
    near = cosines.topk(NEIGHBOURS, dim=1).indices.numpy()
    graph = sparse.csr_matrix((np.ones(near.size), (np.repeat(np.arange(n), NEIGHBOURS), near.ravel())), shape=(n, n))
    graph = graph.maximum(graph.T)
    degree = np.asarray(graph.sum(1)).ravel()
    scale = sparse.diags(degree**-0.5)
    values, vectors = eigsh(scale @ graph @ scale, k=2, which="LA", v0=rng.random(n))
    order = np.argsort(vectors[:, np.argmin(values)] / np.sqrt(degree), kind="stable")
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    edges = graph.tocoo()
    ends = np.sort(np.stack([place[edges.row], place[edges.col]]), axis=0)
    change = np.bincount(ends[0], minlength=n) - np.bincount(ends[1], minlength=n)
    crossing = np.cumsum(change) / 2  # every edge is in the matrix twice
    volume = np.cumsum(degree[order])
    inner = slice(int(SMALLEST * n), n - int(SMALLEST * n) - 1)
    return float((crossing / np.minimum(volume, volume[-1] - volume).clip(1))[inner].min())
