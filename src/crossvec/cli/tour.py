"""tour — the verb demo: the whole main job on the packaged sample, offline, in under two minutes.

In    the packaged sample (see `sample`)
Out   verdict, scores beside controls and the paired ceiling; a folder with a picture, the translator and rows to play with
Uses  sample, fitting, evaluation, stores, report
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossvec.cli import options, progress
from crossvec.cli.align import ALIGNED, INCONCLUSIVE
from crossvec.errors import MissingExtraError, UnfinishedError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from crossvec.evaluation import Scores
    from crossvec.sample import Sample
    from crossvec.translator import Translator

FIT, CEILING = 0.85, 0.05  # shares of the time, for the progress bar


@click.command(short_help="See it work on a packaged sample, offline.")
@click.option("-o", "--output", default="crossvec-demo", show_default=True, metavar="FOLDER", help="Where to put the results.")
@options.effort
@options.seed
@options.device
@options.verb
def demo(output: str, effort: Any, seed: int, device: str, format: str, config: str | None) -> int:
    """Translate between two real embedding models without pairs, on a packaged sample, and show how well it went."""
    import numpy as np

    from crossvec import report, sample, saved
    from crossvec.evaluation import evaluate
    from crossvec.fitting import fit

    folder = Path(output)
    saved.check_destination(folder / "translator")
    given = sample.load()
    with progress.shown() as step:
        translator = fit(
            given.source,
            given.target,
            effort=effort,
            seed=seed,
            device=device,
            progress=lambda doing, fraction: step(doing, FIT * fraction),
        )
        step("fitting the paired ceiling", FIT)
        half = len(given.eval_source) // 2
        learned, scored = (slice(0, half), slice(half, len(given.eval_source)))
        ceiling = fit(
            given.eval_source.rows(learned.start, learned.stop),
            given.eval_target.rows(learned.start, learned.stop),
            "procrustes",
            pairs=np.stack([np.arange(half)] * 2, axis=1),
            seed=seed,
            device=device,
        )
        scores = evaluate(
            translator,
            given.eval_source.rows(scored.start, scored.stop),
            given.eval_target.rows(scored.start, scored.stop),
            seed=seed,
            ceiling=ceiling,
            progress=lambda doing, fraction: step(doing, FIT + CEILING + (1 - FIT - CEILING) * fraction),
        )
    try:
        files = _write(folder, translator, given)
    except KeyboardInterrupt:
        raise UnfinishedError(f"interrupted while writing {folder}: what is there is whole, but not all of it is") from None
    record = {"fit": report.fitted_record(translator, files["translator"]), "evaluate": scores.to_json(), "files": files}
    options.out(format, record, lambda: _text(translator, scores, files))
    return ALIGNED if translator.status == "aligned" else INCONCLUSIVE


def _write(folder: Path, translator: Translator, given: Sample) -> dict[str, str]:
    from crossvec import stores
    from crossvec.report import picture

    files = {name: folder / name for name in ("translator", "before-after.png", "source.npy", "target.npy")}
    translator.save(files["translator"])
    stores.open(files["source.npy"]).write([given.eval_source])
    stores.open(files["target.npy"]).write([given.eval_target])
    try:
        picture.draw(files["before-after.png"], translator, given.eval_source, given.eval_target, paired=True)
    except MissingExtraError as missing:
        options.advise(f"no picture: {missing}; {missing.hint}")
        del files["before-after.png"]
    return {name: str(path) for name, path in files.items()}


def _text(translator: Translator, scores: Scores, files: dict[str, str]) -> RenderableType:
    from rich.console import Group

    from crossvec import report

    compared = {
        "numbers as they are": scores.controls["identity"].top1,
        "translated, no pairs": scores.forward.top1,
    }
    if scores.forward.csls:
        compared["  scored by CSLS"] = scores.forward.csls.top1
    if scores.ceiling:
        compared["translated, with pairs"] = scores.ceiling[0].top1
    return Group(
        "Two models, two sets of texts with none in common, and no pairs.\n",
        report.fitted(translator),
        "",
        report.scores(scores),
        "",
        report.bars(f"top-1 among {scores.pool:,}: the nearest row is the same text", compared),
        "",
        *(report.written(path) for path in files.values()),
        report.following(f"crossvec translate {files['translator']} {files['source.npy']} translated.npy"),
        report.following(f"crossvec evaluate {files['translator']} {files['source.npy']} {files['target.npy']}"),
        report.following("crossvec fit YOUR_SOURCE.npy YOUR_TARGET.npy -o FOLDER"),
    )
