"""test_aligner — what every aligner promises, built in or installed; a new one is held to this by being in the table.

Settings here are small, for speed; what an aligner finds is its own test's matter.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from conftest import make_world
from torch import Tensor

from crossvec.aligners import Aligner, Alignment, aligner_class, create, maps, names, settings
from crossvec.aligners.limits import meant
from crossvec.errors import CrossvecError, SettingError
from crossvec.geometry import unit

SMALL: dict[str, dict[str, Any]] = {
    "moments": {"effort": "quick", "starts": 128, "keep": 2, "kicks": 1, "rounds": 1},
    "anchors": {"effort": "quick", "runs": 3, "rows": 200, "clusters": 5, "neighbours": 10, "correction_clusters": 20},
    "gromov": {"rows": 60},
    "sinkhorn": {"rows": 60},
    "emd": {"rows": 60},
    "vec2vec": {"preset": "scratch", "width": 16, "batch": 64, "steps": 6, "looks": 2},
    "mlp": {"hidden": 16, "epochs": 2},
}
DIMS = [(12, 8), (8, 12), (10, 10)]

every_aligner = pytest.mark.parametrize("name", names())


def make(name: str, **options: Any) -> Aligner:
    """The aligner in its small settings; an optional dependency that is not there skips the test."""
    if name in ("gromov", "sinkhorn", "emd"):
        pytest.importorskip("ot")
    return create(name, {**SMALL.get(name, {}), **options})


@functools.cache
def rows(dx: int, dy: int, n: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    """Centred unit rows of two encoders of the toy world, and their pairs."""
    drawn = make_world(n=n, m=n, pool=2, dx=dx, dy=dy, latent=min(dx, dy), clusters=12, paired=True)
    x, y = (unit(side - side.mean(dim=0)) for side in map(torch.from_numpy, (drawn.x, drawn.y)))
    numbers = torch.arange(n)
    return x, y, torch.stack([numbers, numbers], dim=1)


@functools.cache
def trained() -> str:
    """A file with a universal space for the aligner that takes two of its spaces; they are named by their dimensions."""
    from crossvec.aligners.vec2vec import Vec2Vec
    from crossvec.aligners.vec2vec.universal import Universal

    spaces = {str(d): rows(d, d)[0] for d in sorted({d for pair in DIMS for d in pair})}
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return str(Universal.fit(spaces, Vec2Vec(**SMALL["vec2vec"])).save(folder / "space.safetensors"))


def made_for(name: str, x: Tensor, y: Tensor, **options: Any) -> Aligner:
    """The aligner in its small settings, for these two clouds."""
    if name == "universal":
        options |= {"space": trained(), "source": str(x.shape[1]), "target": str(y.shape[1])}
    return make(name, **options)


def fit(name: str, dx: int, dy: int, seed: int = 0) -> tuple[Alignment, Tensor, Tensor]:
    x, y, pairs = rows(dx, dy)
    return made_for(name, x, y, seed=seed).fit(x, y, pairs=pairs), x, y


@every_aligner
def test_it_is_a_frozen_dataclass_under_its_own_name(name: str) -> None:
    made = make(name)
    assert dataclasses.is_dataclass(made)
    assert made.name == name
    assert isinstance(made.needs_pairs, bool)
    assert made == make(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.seed = 1  # type: ignore[misc]


@every_aligner
def test_its_class_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    make(name)
    assert len((aligner_class(name).__doc__ or "").splitlines()[0]) > 20
    assert "seed" in settings(name)


@every_aligner
def test_every_setting_can_be_given_as_text_and_as_a_card_has_it(name: str) -> None:
    make(name)
    for key, default in settings(name).items():
        assert default is None or getattr(create(name, {key: str(default)}), key) == default, key
    assert settings(name) == vars(create(name, json.loads(json.dumps(settings(name)))))


@every_aligner
def test_an_unknown_setting_is_refused_with_the_nearest_right_one(name: str) -> None:
    make(name)
    with pytest.raises(SettingError, match="sed") as refused:
        create(name, {"sed": 1})
    assert "seed" in refused.value.hint


@every_aligner
def test_a_seed_that_is_none_is_refused(name: str) -> None:
    make(name)
    for wrong in ("many", None, 2**32):
        with pytest.raises(SettingError, match="seed") as refused:
            create(name, {"seed": wrong})
        assert refused.value.hint


WRONG: dict[Any, list[Any]] = {
    int: [-1, float("nan"), 2.5, "many", True, None],
    bool: ["maybe", 2, None],
    str: [1, None],
    float: [-1.0, float("nan"), float("inf"), "much", None],
}


@every_aligner
@pytest.mark.usefixtures("unchecked")
def test_a_wrong_value_is_refused_when_it_is_made_by_name_and_with_the_way_out(name: str) -> None:
    make(name)
    kind = aligner_class(name)
    hints = get_type_hints(kind)
    for key in settings(name):
        wanted = meant(hints[key])
        for value in WRONG.get(wanted, ["heroic", 1, None]):
            if value is None and wanted is not hints[key]:
                continue  # it leaves the setting to a preset
            with pytest.raises(SettingError, match=key) as refused:
                kind(**{key: value})
            assert refused.value.hint, (key, value)


@every_aligner
@pytest.mark.parametrize(("dx", "dy"), DIMS)
def test_it_maps_both_ways_between_any_dims(name: str, dx: int, dy: int) -> None:
    learned, x, y = fit(name, dx, dy)
    there, back = learned.map(x), learned.inverse(y)
    assert there.shape == (len(x), dy) and back.shape == (len(y), dx)
    assert there.dtype == back.dtype == torch.float32
    assert there.isfinite().all() and back.isfinite().all()


@every_aligner
@pytest.mark.parametrize(("dx", "dy"), DIMS)
def test_both_maps_are_rebuilt_from_their_tensors(name: str, dx: int, dy: int) -> None:
    learned, x, y = fit(name, dx, dy)
    for made, u in ((learned.map, x), (learned.inverse, y)):
        assert torch.equal(maps.rebuild(made.kind, made.tensors())(u), made(u))
        assert not any(tensor.requires_grad for tensor in made.tensors().values())


@every_aligner
def test_same_seed_same_map(name: str) -> None:
    (first, *_), (second, *_) = fit(name, 12, 8, seed=3), fit(name, 12, 8, seed=3)
    for one, other in ((first.map, second.map), (first.inverse, second.inverse)):
        for key, tensor in one.tensors().items():
            assert torch.equal(tensor, other.tensors()[key]), key
    assert dict(first.evidence) == dict(second.evidence)


@every_aligner
def test_it_leaves_rows_pairs_and_the_random_state_as_they_were(name: str) -> None:
    x, y, pairs = rows(8, 12)
    made = made_for(name, x, y)
    given, state = [side.clone() for side in (x, y, pairs)], torch.get_rng_state()
    made.fit(x, y, pairs=pairs)
    assert all(torch.equal(now, before) for now, before in zip((x, y, pairs), given, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


@every_aligner
def test_progress_only_grows_and_ends_at_one(name: str) -> None:
    x, y, pairs = rows(12, 8)
    told: list[tuple[str, float]] = []
    made_for(name, x, y).fit(x, y, pairs=pairs, progress=lambda doing, fraction: told.append((doing, fraction)))
    fractions = [fraction for _, fraction in told]
    assert all(doing for doing, _ in told)
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] and fractions[-1] == 1


@every_aligner
def test_its_evidence_and_trace_can_be_written_as_json(name: str) -> None:
    learned, *_ = fit(name, 10, 10)
    assert all(type(value) is float for value in learned.evidence.values())
    json.dumps([dict(learned.evidence), [dict(step) for step in learned.trace]], allow_nan=False)


@every_aligner
def test_it_asks_for_pairs_when_it_needs_them_and_only_then(name: str) -> None:
    x, y, _ = rows(10, 10)
    made = made_for(name, x, y)
    if made.needs_pairs:
        with pytest.raises(SettingError, match="pairs") as refused:
            made.fit(x, y)
        assert refused.value.hint
    else:
        assert made.fit(x, y).map(x).isfinite().all()


@every_aligner
@pytest.mark.parametrize(("n", "dx", "dy"), [(3, 6, 6), (40, 1, 1), (40, 1, 5), (40, 5, 1)])
def test_rows_too_few_or_too_thin_are_mapped_or_refused_in_words(name: str, n: int, dx: int, dy: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (unit(torch.randn(n, d, generator=generator)) for d in (dx, dy))
    try:
        learned = made_for(name, x, y).fit(x, y, pairs=torch.arange(n)[:, None].repeat(1, 2))
    except CrossvecError as refused:
        assert refused.hint
    else:
        assert learned.map(x).isfinite().all() and learned.inverse(y).isfinite().all()


@every_aligner
def test_rows_that_are_all_the_same_are_mapped_or_refused_in_words(name: str) -> None:
    """Such a space centres to zeros."""
    x, y, pairs = rows(10, 10)
    try:
        learned = made_for(name, x, y).fit(torch.zeros_like(x), y, pairs=pairs)
    except CrossvecError as refused:
        assert refused.hint
    else:
        assert learned.map(x).isfinite().all() and learned.inverse(y).isfinite().all()
