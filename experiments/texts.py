"""texts — the rows an experiment fits and is scored on: texts of datasets under encoders, or a folder of ready vectors.

In    a Plan; datasets and encoders of the Hugging Face hub, its cache on this machine, or folders; or FOLDER/NAME.npy
Out   Texts, Folder         train (n, d), paired, pools: all float32, as the encoder gives them
Uses  datasets, crossvec.encoders

Everything that a plan needs is opened before the first fit, so that a machine without the hub says so at once. A text is in one
part only: source, target or held; repeated texts are taken once. Texts are cut as the published code cuts them: 5 characters
for each of 64 tokens, then 64 tokens (`?tokens=64` in paper.toml). Rows are kept by crossvec's cache of encoders.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from crossvec import encoders
from crossvec.encoders import Encoder, Step, silent
from crossvec.encoders.cache import Cached
from crossvec.errors import MissingExtraError, UsageError
from experiments.plan import Plan, Pool

Array = np.ndarray
TOKENS = 64
CHARACTERS = 5 * TOKENS
AT_ONCE = 16_384
"""Texts that are encoded between two looks at how far it is; their rows are in memory twice."""


class Clouds(Protocol):
    """Rows by encoder and by part."""

    def spaces(self, plan: Plan) -> Plan:
        """Return the plan for the spaces that are here, after opening all that it needs."""

    def train(self, part: str, name: str, rows: int) -> Array:
        """Return `rows` rows (n, d) of the part `source` or `target` in one encoder."""

    def pool(self, pool: Pool, source: str, target: str) -> tuple[Array, Array]:
        """Return pairs (k, dx), (k, dy) that nothing is trained on."""

    def origin(self, name: str) -> str:
        """Return what tells an encoder's rows from others of the same short name."""

    def drawn(self, pool: Pool) -> str:
        """Return what tells a pool's texts from others of the same name; empty where the origin does."""


@dataclass(eq=False)
class Folder:
    """Ready vectors: FOLDER/NAME.npy (n, d), row i one text in every file, and FOLDER/splits.json: source, target, eval."""

    folder: Path
    held: int = 0
    _origins: dict[str, str] = field(default_factory=dict)

    def spaces(self, plan: Plan) -> Plan:
        try:
            self.splits: dict[str, list[int]] = json.loads((self.folder / "splits.json").read_text(encoding="utf-8"))
            most = {part: stop - start for part, (start, stop) in self.splits.items()}
            rows, held = min(most["source"], most["target"]), most["eval"]
        except (OSError, ValueError, KeyError, TypeError) as problem:
            hint = 'it holds row ranges: {"source": [0, 36000], "target": [36000, 72000], "eval": [72000, 76096]}'
            raise UsageError(f"{self.folder}/splits.json cannot be used: {problem}", hint) from None
        names = sorted(path.stem for path in self.folder.glob("*.npy"))
        if len(names) < 2:
            raise UsageError(f"{self.folder} has fewer than two files NAME.npy", "put in one for each encoder")
        for name in names:
            self._opened(name)
        pool = Pool("eval", "", min(held, self.held or held), min(held, self.held or held))
        smaller = plan.changed(rows, 0, {})
        return replace(smaller, dataset="", pools=(pool,), pairs=tuple(combinations(names, 2)))

    def train(self, part: str, name: str, rows: int) -> Array:
        start = self.splits[part][0]
        return self._rows(name, start, start + rows)

    def pool(self, pool: Pool, source: str, target: str) -> tuple[Array, Array]:
        start = self.splits["eval"][0]
        return self._rows(source, start, start + pool.held), self._rows(target, start, start + pool.held)

    def origin(self, name: str) -> str:
        if name not in self._origins:
            told = hashlib.blake2b(json.dumps(self.splits, sort_keys=True).encode(), digest_size=8)
            rows = self._opened(name)
            for start in range(0, len(rows), AT_ONCE):
                told.update(rows[start : start + AT_ONCE].tobytes())
            self._origins[name] = f"{name}.npy, {rows.shape}, rows and splits {told.hexdigest()}"
        return self._origins[name]

    def drawn(self, pool: Pool) -> str:
        return ""

    def _rows(self, name: str, start: int, stop: int) -> Array:
        return np.asarray(self._opened(name)[start:stop], dtype=np.float32)

    def _opened(self, name: str) -> Array:
        path, last = self.folder / f"{name}.npy", max(stop for _, stop in self.splits.values())
        try:
            rows: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as problem:
            raise UsageError(f"{path} cannot be read: {problem}", "write it with numpy.save, without objects") from None
        if rows.ndim != 2 or len(rows) < last:
            hint = f"give each text of splits.json a row, {last:,} in all, or name fewer there"
            raise UsageError(f"{path} is of shape {rows.shape}", hint)
        return rows


@dataclass(eq=False)
class Texts:
    """Datasets under encoders. `download` allows the network; `*_places` name folders in place of the hub."""

    known: Mapping[str, Any]
    cache: Path
    download: bool = False
    device: str = "auto"
    dataset_places: Mapping[str, str] = field(default_factory=dict)
    encoder_places: Mapping[str, str] = field(default_factory=dict)
    progress: Step = silent
    _opened: dict[str, Encoder] = field(default_factory=dict)
    _tables: dict[str, Any] = field(default_factory=dict)
    _parts: dict[str, Any] = field(default_factory=dict)
    _drawn: str = ""

    def spaces(self, plan: Plan) -> Plan:
        for kind, given in (("datasets", self.dataset_places), ("encoders", self.encoder_places)):
            wrong = [name for name in given if name not in self.known[kind]]
            if wrong:
                raise UsageError(f"there are no {kind} {wrong[0]!r}", f"known: {', '.join(self.known[kind])}")
        lacking = self._open(plan)
        if lacking:
            raise UsageError("not on this machine: " + "; ".join(lacking), self._next_words(plan))
        self._cut(plan)
        return plan

    def train(self, part: str, name: str, rows: int) -> Array:
        return self._encoded(name, self._parts[part][:rows])

    def pool(self, pool: Pool, source: str, target: str) -> tuple[Array, Array]:
        texts = self._parts[f"held {pool.name}"]
        if not pool.images:
            return self._encoded(source, texts), self._encoded(target, texts)
        encoder = self._opened[target]
        if not isinstance(encoder, encoders.ImageEncoder):
            raise UsageError(f"{target} reads no images", "score images against an encoder such as CLIP")
        images = self._parts[f"images {pool.name}"]
        return self._encoded(source, texts), encoder.images(images, progress=self.progress)

    def origin(self, name: str) -> str:
        encoder = self._opened[name]
        return f"{encoder.name} {encoder.version} {self._drawn}"

    def drawn(self, pool: Pool) -> str:
        return _digest(self._parts[f"held {pool.name}"])

    def _open(self, plan: Plan) -> list[str]:
        """Open every dataset and encoder; return what is lacking."""
        try:
            import datasets  # noqa: F401
        except ImportError:
            raise MissingExtraError(
                "experiments read texts through datasets, which is not installed", "pip install datasets"
            ) from None
        remote = [f"{kind} {name}" for kind, name, place in self._places(plan) if "/" in place and not _here(place)]
        if remote and self.download and not reachable():
            return [f"{', '.join(remote)}, and the Hugging Face hub cannot be reached"]
        lacking = []
        for kind, name, place in self._places(plan):
            try:
                if kind == "dataset":
                    self._tables[name] = table(self.known["datasets"][name], place, self.download)
                else:
                    self._opened[name] = encoders.open(place, download=self.download, device=self.device)
            except UsageError as problem:
                if isinstance(problem, MissingExtraError) or (place and _here(place)):
                    raise  # it is here, and something else is wrong
                lacking.append(f"{kind} {name} ({place or 'not public'})")
        return lacking

    def _places(self, plan: Plan) -> Iterator[tuple[str, str, str]]:
        for name in plan.datasets:
            yield "dataset", name, self.dataset_places.get(name, self.known["datasets"][name].get("hub", ""))
        for name in plan.encoders:
            known = self.known["encoders"][name]
            given = self.encoder_places.get(name, known)
            # A copy of a model on this machine reads as many tokens as the model that it stands for.
            copied = "?" not in given and (Path(given).is_dir() or given.startswith("sentence-transformers:"))
            yield "encoder", name, given + ("?" + known.partition("?")[2]) * (copied and "?" in known)

    def _next_words(self, plan: Plan) -> str:
        folders = f"--dataset {plan.datasets[0]}=FOLDER --encoder {plan.encoders[0]}=FOLDER, one for each"
        ready = "or run on ready vectors, FOLDER/NAME.npy and FOLDER/splits.json: --data FOLDER"
        closed = [name for name in plan.datasets if not self.known["datasets"][name].get("hub") and name not in self._tables]
        others = " ".join(f"--pool {pool.name}" for pool in plan.pools if pool.dataset not in closed)
        told = f"{closed[0]}: {self.known['datasets'][closed[0]]['about']}; or leave it out with {others}. " if closed else ""
        fetch = "" if self.download else "fetch from the hub with --download, or "
        return f"{told}{fetch}name folders: {folders}; {ready}"

    def _cut(self, plan: Plan) -> None:
        """Draw the texts of every part; raises UsageError for a dataset that is too small."""
        own = [pool for pool in plan.pools if pool.dataset == plan.dataset]
        sizes = {f"held {pool.name}": pool.held for pool in own}
        sizes |= {"source": max(plan.source_rows), "target": plan.rows}
        self._draw(plan.dataset, sizes)
        self._drawn = _digest([*self._parts["source"], *self._parts["target"]])
        for pool in plan.pools:
            if pool not in own:
                self._draw(pool.dataset, {f"held {pool.name}": pool.held}, images=pool.images)

    def _draw(self, name: str, sizes: Mapping[str, int], images: bool = False) -> None:
        about, rows = self.known["datasets"][name], self._tables[name]
        order = np.random.default_rng(0).permutation(len(rows))
        texts: list[str] = []
        kept: list[int] = []
        seen: set[bytes] = set()
        for start in range(0, len(order), AT_ONCE):
            if len(texts) >= sum(sizes.values()):
                break
            part = order[start : start + AT_ONCE]
            for number, told in zip(part, rows.select(part)[about["column"]], strict=True):
                text = cut(told, about.get("words", 0))
                if text and (key := text.encode("utf-8", "surrogatepass")) not in seen:
                    seen.add(key)
                    texts.append(text)
                    kept.append(int(number))
        if len(texts) < sum(sizes.values()):
            raise UsageError(
                f"{name} has {len(texts):,} different texts, and the experiment wants {sum(sizes.values()):,}",
                "take fewer with --rows N (texts of each side) and --held N (texts to score on)",
            )
        at = 0
        for part_name, size in sizes.items():
            self._parts[part_name] = texts[at : at + size]
            if images:
                column = rows.select(kept[at : at + size])[about["images"]]
                self._parts[part_name.replace("held", "images")] = [image.convert("RGB") for image in column]
            at += size

    def _encoded(self, name: str, texts: Sequence[str]) -> Array:
        encoder = self._opened[name]
        memory = Cached(encoder, self.cache)
        found: Array | None = None
        for start in range(0, len(texts), AT_ONCE):
            self.progress(f"{name}: {start:,} of {len(texts):,} texts", start / len(texts))
            rows = memory.encode(texts[start : start + AT_ONCE])
            if found is None:
                found = np.empty((len(texts), rows.shape[1]), np.float32)
            found[start : start + len(rows)] = rows
        assert found is not None
        return found


def _digest(texts: Sequence[str]) -> str:
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def cut(text: object, words: int) -> str:
    """Return what an encoder is shown of a text: its first `words` words where there is a bound, and CHARACTERS characters."""
    first = text[0] if isinstance(text, list) and text else text  # MS COCO has five captions an image
    told = first if isinstance(first, str) else ""
    if words:
        told = " ".join(told.split()[:words])
    return told.strip()[:CHARACTERS]


def table(about: Mapping[str, Any], place: str, download: bool) -> Any:
    """Return a dataset: a folder that `save_to_disk` wrote, or one of the hub; raises UsageError when it cannot be had."""
    import datasets

    if not place:
        raise UsageError("it is not public")
    folder = Path(place)
    split = about.get("split", "train")
    try:
        if folder.exists():
            found = datasets.load_from_disk(str(folder))
            found = found[split] if isinstance(found, datasets.DatasetDict) else found
        else:
            with offline(not download):
                found = datasets.load_dataset(place, about.get("config"), split=split)
    except Exception as problem:  # the library, the hub's client and the file system each have errors of their own
        raise UsageError(f"{place}: {type(problem).__name__}") from None
    lacking = [about[key] for key in ("column", "images") if key in about and about[key] not in found.column_names]
    if lacking:
        raise UsageError(f"{place} has no column {lacking[0]!r}, but {', '.join(found.column_names)}")
    return found


@contextmanager
def offline(wanted: bool) -> Iterator[None]:
    """While it lasts, datasets and the hub's client read their caches only, where that is wanted."""
    import datasets
    import huggingface_hub

    places: list[Any] = [datasets.config, huggingface_hub.constants]
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = place.HF_HUB_OFFLINE or wanted
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _here(place: str) -> bool:
    """Return whether a name is of something on this machine: a folder, or a family and a folder."""
    place = place.partition("?")[0]
    return Path(place).exists() or Path(place.partition(":")[2] or "?").exists()


def reachable(opened: Callable[..., Any] = urllib.request.urlopen) -> bool:
    """Return whether the hub answers at all, within seconds: its own client tries for half a minute a file."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    try:
        opened(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), timeout=10).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True
