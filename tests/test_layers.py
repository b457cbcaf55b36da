"""test_layers — the shape of the package, read off its syntax trees: who may import whom, and what nobody may do."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "crossvec"

LAYERS = (
    {"errors", "safe"},
    {"geometry", "machine"},
    {"space", "metrics"},
    {"stores", "encoders", "aligners", "sample", "pairing"},
    {"verdict", "saved", "texts"},
    {"translator"},
    {"fitting", "evaluation", "diagnostics", "query"},
    {"migration", "audit"},
    {"report", "scale", "service"},
    {"cli"},
    {"__main__"},
)
"""From the ground up. A part may import parts of lower layers and its own siblings inside one folder, nothing else.
docs/decisions/0001 says why each stands where it does."""

LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
TENSORS_ONLY = {"geometry", "aligners", "verdict"}
ROWS_AND_FILES = {"space", "stores", "encoders", "sample"}
HEAVY = ("torch", "numpy", "scipy", "sklearn", "pyarrow", "matplotlib", "h5py", "ot")
MODULES = sorted(PACKAGE.rglob("*.py"))


def part(module: Path) -> str:
    """The first name below the package: `stores/files.py` and `stores/__init__.py` are both `stores`."""
    first = module.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"), str(module))


def imported(module: Path) -> Iterator[tuple[int, str]]:
    """Every name a module imports, at its top or inside a function: (line, dotted name)."""
    here = ["crossvec", *module.relative_to(PACKAGE).with_suffix("").parts]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # One dot is the folder the module lies in, for `__init__.py` as for its siblings.
            base = ".".join(here[: len(here) - node.level]) if node.level else ""
            source = ".".join(filter(None, [base, node.module]))
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def parts_imported(module: Path) -> Iterator[tuple[int, str]]:
    for line, name in imported(module):
        top, _, rest = name.partition(".")
        if top == "crossvec" and rest and rest.split(".")[0] in LEVEL:
            yield line, rest.split(".")[0]


def where(module: Path, line: int) -> str:
    return f"{module.relative_to(PACKAGE)}:{line}"


def test_every_part_has_a_layer() -> None:
    assert {part(module) for module in MODULES} - {"__init__"} <= set(LEVEL), "give the new part a place in LAYERS"


def test_imports_point_down() -> None:
    wrong = [
        f"{where(module, line)} {part(module)} imports {other}"
        for module in MODULES
        if part(module) != "__init__"
        for line, other in parts_imported(module)
        if other != part(module) and LEVEL[other] >= LEVEL[part(module)]
    ]
    assert not wrong, "\n".join(wrong)


def test_aligners_and_verdict_see_tensors_and_never_stores() -> None:
    wrong = [
        f"{where(module, line)} {part(module)} imports {other}"
        for module in MODULES
        if part(module) in TENSORS_ONLY
        for line, other in parts_imported(module)
        if other in ROWS_AND_FILES
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_command_line_prints() -> None:
    wrong = [
        where(module, node.lineno)
        for module in MODULES
        if part(module) != "cli"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"print", "sys.stdout.write", "sys.stderr.write", "click.echo"}
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_a_file_holds_is_ever_run() -> None:
    banned = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    wrong = []
    for module in MODULES:
        wrong += [where(module, line) for line, name in imported(module) if name.split(".")[0] in banned]
        for node in ast.walk(tree(module)):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if (
                name in {"eval", "exec", "compile", "__import__", "os.system"}
                or (name.split(".")[-1] == "load" and name.split(".")[0] == "torch")
                or (name in {"np.load", "numpy.load"} and keywords.get("allow_pickle") != "False")
                or keywords.get("allow_pickle") == "True"
                or keywords.get("shell") == "True"
            ):
                wrong.append(f"{where(module, node.lineno)} {name}")
    assert not wrong, "\n".join(wrong)


ASKED = {
    ("scale/engines.py", "socket"),
    ("stores/weaviate.py", "socket"),
    ("encoders/openai.py", "openai"),
    ("encoders/openai.py", "httpx2"),
    ("service/running.py", "socket"),
}
"""Who may: an address that the user has named, an endpoint that texts may go to because the user has said so, and a service
that listens where the user has told it to."""


def test_nothing_reaches_for_the_network_unless_it_is_asked_to() -> None:
    banned = {"socket", "urllib.request", "http.client", "requests", "httpx", "httpx2", "aiohttp", "huggingface_hub", "openai"}
    wrong = [
        f"{where(module, line)} {name}"
        for module in MODULES
        for line, name in imported(module)
        if any(name == b or name.startswith(f"{b}.") for b in banned)
        and (str(module.relative_to(PACKAGE)), name.split(".")[0]) not in ASKED
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(module: Path) -> None:
    text = ast.get_docstring(tree(module))
    assert text, "a module begins with a docstring"
    name = "crossvec" if module == PACKAGE / "__init__.py" else (module.parent if module.stem == "__init__" else module).stem
    assert text.startswith(f"{name} — "), f"the docstring begins with '{name} — ' and says what the module is"


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "factory"}
    assert not [str(m.relative_to(PACKAGE)) for m in MODULES if m.stem in drawers or m.parent.name in drawers]


def test_no_module_is_too_long_to_read_at_once() -> None:
    lengths = {str(m.relative_to(PACKAGE)): len(m.read_text(encoding="utf-8").splitlines()) for m in MODULES}
    assert not {name: n for name, n in lengths.items() if n > 400}


def heavy_after(code: str) -> list[str]:
    """The heavy packages a fresh interpreter has loaded after running `code`."""
    report = f"import json, sys\n{code}\nprint('\\n' + json.dumps([p for p in {HEAVY!r} if p in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_crossvec_loads_nothing_heavy() -> None:
    assert heavy_after("import crossvec") == []


def test_help_loads_nothing_heavy() -> None:
    ask = """import crossvec.cli
try:
    crossvec.cli.main(['--help'])
except SystemExit as left:
    assert not left.code, left.code"""
    assert heavy_after(ask) == []
