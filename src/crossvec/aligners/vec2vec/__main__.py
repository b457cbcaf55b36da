"""__main__ — train a universal space from a TOML file, in one process or, under torchrun, in many.

In    RUN.toml              output = "FILE.safetensors", device, [spaces] NAME = "rows.npy" or a list, [settings] of Vec2Vec
Out   FILE.safetensors      what Universal.load reads; progress on stderr, told by the first process; exit 3 if no training
                            ended healthy
Uses  aligners, the siblings, logging

    torchrun --nproc-per-node 8 -m crossvec.aligners.vec2vec run.toml                                        one machine
    torchrun --nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:PORT --nproc-per-node 8 -m ... run.toml     on each of two

All processes read the files and the checkpoint folder, so every machine must see them under the same names.
"""

from __future__ import annotations

import logging
import os
import sys
import tomllib
from pathlib import Path
from typing import Any, cast

from crossvec.aligners import create
from crossvec.aligners.vec2vec import Vec2Vec, checkpoint
from crossvec.aligners.vec2vec.distributed import Group, joined
from crossvec.aligners.vec2vec.universal import Universal
from crossvec.errors import CrossvecError, UnfinishedError, UsageError

INCONCLUSIVE = 3

log = logging.getLogger("crossvec.vec2vec")


def main(words: list[str]) -> int:
    """Train as the file says and return the exit code."""
    leads = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if leads else logging.CRITICAL, stream=sys.stderr, format="%(message)s")
    try:
        if words in (["-h"], ["--help"]):
            log.info("%s", __doc__)
            return 0
        if len(words) != 1:
            raise UsageError("name one file", "python -m crossvec.aligners.vec2vec RUN.toml")
        return run(Path(words[0]))
    except KeyboardInterrupt:
        log.error('error: interrupted, nothing was kept yet\ncheckpoint = "FOLDER" under [settings] keeps what was trained')
        return UnfinishedError.exit_code
    except CrossvecError as problem:
        # What is wrong with the file is wrong for all, and one process tells it; who was lost cannot tell anything.
        log.log(
            logging.CRITICAL if isinstance(problem, UnfinishedError) else logging.ERROR, "error: %s\n%s", problem, problem.hint
        )
        return problem.exit_code


def run(config: Path) -> int:
    """Train what a TOML file describes, and return the exit code; names of files are seen from its folder.

    Raises UsageError for a file that is wrong, before it trains.
    """
    table = _read(config)
    folder = config.parent
    output = folder / table["output"]
    checkpoint.refuse_what_is_no_file(output)
    settings = dict(table.get("settings", {}))
    places = [key for key in ("checkpoint", "events") if isinstance(settings.get(key), str) and settings[key]]
    settings |= {key: str(folder / settings[key]) for key in places}
    aligner = cast(Vec2Vec, create("vec2vec", settings))
    spaces = {
        name: [folder / path for path in ([files] if isinstance(files, str) else files)]
        for name, files in table["spaces"].items()
    }
    if any(output.exists() and path.exists() and output.samefile(path) for paths in spaces.values() for path in paths):
        raise UsageError(f"{output} is read: it cannot be written too", "give output another name")
    checkpoint.refuse_place(output)
    told = [""]

    def progress(doing: str, fraction: float) -> None:
        if doing != told[0]:
            told[0] = doing
            log.info("%3.0f %%  %s", 100 * fraction, doing)

    with joined(table.get("device", "auto")) as device:
        universal = Universal.fit(cast(Any, spaces), aligner, device=str(device), progress=progress)
        if Group.now().leads:
            log.info("saved %s", universal.save(output))
    if universal.healthy:
        if Group.now().leads:
            one, other, *_ = universal.spaces
            log.info("next: crossvec fit … -a universal -s space=%s -s source=%s -s target=%s", output, one, other)
        return 0
    log.info("inconclusive: every training ended sick; try other rows, more of them, or another preset")
    return INCONCLUSIVE


def _read(config: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UsageError(f"cannot read {config}: {problem.strerror}", "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UsageError(f"{config} is not TOML: {problem}", 'write lines such as  output = "space.safetensors"') from None
    kinds = {"output": str, "device": str, "spaces": dict, "settings": dict}
    unknown = [f"has the unknown key {key!r}" for key in table if key not in kinds]
    lacking = [f"lacks {key}" for key in ("output", "spaces") if not table.get(key)]
    wrong = [f"has a wrong {key}" for key, kind in kinds.items() if not isinstance(table.get(key, kind()), kind)]
    for told in unknown + wrong + lacking:
        raise UsageError(
            f"{config} {told}", f"it holds {', '.join(kinds)}; see `python -m pydoc crossvec.aligners.vec2vec.__main__`"
        )
    for name, files in table["spaces"].items():
        if not _names(files):
            raise UsageError(f"{config} names no files for {name}", f'write {name} = "rows.npy", or a list of such names')
    return table


def _names(files: Any) -> bool:
    return isinstance(files, str) or (isinstance(files, list) and bool(files) and all(isinstance(f, str) for f in files))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
