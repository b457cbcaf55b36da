"""test_migration_kill — a migration killed with -9 anywhere goes on, and every row arrives once, with its payload."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import servers
from conftest import make_world

from crossvec import stores
from crossvec.fitting import fit
from crossvec.migration.journal import Journal
from crossvec.migration.reading import digest
from crossvec.space import Space, python_values
from crossvec.stores.documents import documents
from crossvec.translator import Translator

SOURCES = Path(__file__).parents[1] / "src"
ROWS, BATCH, KILLS = 3000, 20, 20

CHILD = """
import sys
from pathlib import Path
from crossvec import stores
from crossvec.migration import Evidence, migrate, plan
from crossvec.migration.journal import Journal
from crossvec.translator import Translator
source, dest, folder, journal, batch = sys.argv[1:]
places = stores.open(source), stores.open(dest)
planned = plan(*places, Evidence(Translator.load(folder)), rows=24, journal=Journal.load(Path(journal)))
print("planned", flush=True)
migrate(*places, planned, Path(journal), batch=int(batch))
print("done", flush=True)
"""


def child(*words: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, *map(str, words), str(BATCH)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def rows_in(journal: Path) -> int:
    held = Journal.load(journal)
    return held.rows_written if held else 0


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), [("pgvector", "pgvector"), ("pgvector", "qdrant-edge")])
def test_killed_at_twenty_random_points_no_row_is_lost_or_doubled(one: str, other: str, tmp_path: Path) -> None:
    """Twenty kills of one migration, each at a random row and a random moment after it; then it is left to finish."""
    world = make_world(n=ROWS, m=ROWS, paired=True, clusters=1, seed=3)
    pairs = np.stack([np.arange(500)] * 2, axis=1)
    translator = fit(Space.of(world.x), Space.of(world.y), "ridge", pairs=pairs)
    translator.save(tmp_path / "t")
    translator = Translator.load(tmp_path / "t")
    payload = [{"title": f"é {i} 😀", "n": i, "deep": {"list": [i, None, i / 3]}} for i in range(ROWS)]
    space = Space.of(world.x, [f"id {i}" for i in range(ROWS)], payload)
    journal, rng, points = tmp_path / "j.json", random.Random(0), []
    with servers.running(one) as here, servers.running(other) as there:
        source, dest = here.url.format(name="old"), there.url.format(name="new")
        stores.open(source).write([space])
        at = sorted(rng.sample(range(0, ROWS - 3 * BATCH, BATCH), KILLS))
        for point in at:
            running = child(source, dest, tmp_path / "t", journal)
            assert running.stdout and running.stdout.readline() == "planned\n", running.communicate()
            while rows_in(journal) < point:
                assert running.poll() is None, running.communicate()
            time.sleep(rng.random() * 0.02)
            running.send_signal(signal.SIGKILL)
            running.communicate()
            assert running.returncode == -signal.SIGKILL, "it was killed before it was done"
            points.append(rows_in(journal))
        assert points == sorted(points) and points[-1] < ROWS, "each run went on, and none had finished"
        finishing = child(source, dest, tmp_path / "t", journal)
        out, err = finishing.communicate()
        assert (out, finishing.returncode) == ("planned\ndone\n", 0), err
        held = json.loads(journal.read_text())
        assert (held["rows_read"], held["rows_written"], held["skipped_rows"]) == (ROWS, ROWS, 0)
        moved = stores.open(dest).load()
        ids = python_values(moved.ids_or_numbers())
        assert len(ids) == ROWS and set(ids) == {f"id {i}" for i in range(ROWS)}
        place = [int(str(i).removeprefix("id ")) for i in ids]
        assert np.allclose(moved.array(), translator.translate(world.x[place]), atol=1e-4)
        assert [digest(row) for row in documents(moved)] == [digest(payload[i]) for i in place]
