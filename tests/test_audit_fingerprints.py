"""test_audit_fingerprints — the registry of models says where each of its entries comes from, and reads what it has written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from crossvec import Space
from crossvec.audit.fingerprints import Fingerprint, built_in, read, write


def test_every_model_was_measured_or_names_the_page_that_tells_its_dimension() -> None:
    models = built_in()
    assert [one.name for one in models if one.spread is not None] != []
    for one in models:
        assert one.spread is not None or one.source.startswith("https://"), one.name
        assert one.spread is None or len(one.spread) == one.dim, one.name
    assert len({one.name for one in models}) == len(models)


def test_what_is_written_is_read_back_with_its_source_and_registries_without_sources_are_read_too(tmp_path: Path) -> None:
    measured = Fingerprint.of(Space.of(np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)), "ours")
    models = [measured, Fingerprint("theirs", 16, True, None, "https://example.org/theirs")]
    write(tmp_path / "models.json", models)
    assert read(tmp_path / "models.json") == models
    told = json.loads((tmp_path / "models.json").read_text())
    for one in told["models"]:
        del one["source"]
    (tmp_path / "old.json").write_text(json.dumps(told))
    assert [one.source for one in read(tmp_path / "old.json")] == ["", ""]
