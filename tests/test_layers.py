"""The house: who may import whom, what is installed, what starts without torch.

Also tests fmfbench: __main__.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "fmfbench": ROOT / "fmfbench",
    "fmfbench_models": ROOT / "fmfbench_models",
    "fmfbench_cli": ROOT / "cli",
}
ALLOWED = {
    "fmfbench": {"fmfbench"},
    "fmfbench_models": {"fmfbench", "fmfbench_models"},
    "fmfbench_cli": {"fmfbench", "fmfbench_models", "fmfbench_cli"},
}
DOOR_TO_THE_COMMANDS = ROOT / "fmfbench" / "__main__.py"  # python -m fmfbench is the command line
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Within fmfbench a file imports only what stands before it, in the order in which the data goes.
ORDER = [
    {"errors", "version"},
    {"clock", "files"},
    {"store"},
    {"sources"},
    {"furnace", "exchange", "annotation"},
    {"conversion", "windows"},
    {"torch", "data", "scoring"},
    {"plots"},
    {"board", "cards", "studio"},
    {"__init__", "__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
TOP_FILES = 9
# Refusals have one dialect, "expected ..., got ..."; what cannot say so is a state, not a wrong value.
OTHER_DIALECTS = re.compile(
    r"\b(must|should) be\b|\bis not one of\b|\bnot one of\b|\bwanted\b|\bunknown (key|name|recording)|, (found|came) "
)


def imports(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every import in a file; relative ones stay inside their package and do not count."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found += [(node.module, alias.name) for alias in node.names]
    return found


@functools.cache
def check_command() -> ModuleType:
    """check.py, which stands beside the packages and is not installed."""
    spec = importlib.util.spec_from_file_location("check", ROOT / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_module_has_tests_that_its_name_finds() -> None:
    """By the name of a test file in its room, or in a test file's docstring: what `check.py --near FILE` runs."""
    modules = [path for _, path in files() if path.name != "__init__.py"]
    without = [str(path.relative_to(ROOT)) for path in modules if not check_command().tests_of(path)]
    assert not without, (
        f"add tests/ROOM/test_NAME.py, or 'Also tests ROOM: NAME.' to a docstring, for {without}"
    )
    known = {
        (f"{package}." + ".".join(path.relative_to(PACKAGES[package]).with_suffix("").parts))
        for package, path in files()
    }
    told = {f"{room}.{name}" for pairs in check_command().also_tested().values() for room, name in pairs}
    assert told <= known, f"docstrings of tests name modules that are not there: {sorted(told - known)}"


def files() -> list[tuple[str, Path]]:
    return [(name, path) for name, folder in PACKAGES.items() for path in sorted(folder.rglob("*.py"))]


@pytest.mark.parametrize(("package", "path"), files(), ids=lambda v: v if isinstance(v, str) else v.stem)
def test_imports_go_one_way_and_take_no_private_names(package: str, path: Path) -> None:
    for module, name in imports(path):
        home = module.split(".")[0]
        if home in PACKAGES and path != DOOR_TO_THE_COMMANDS:
            assert home in ALLOWED[package], f"{path} imports {module}"
            if home != package:
                private = [
                    part
                    for part in (*module.split("."), name)
                    if part.startswith("_") and part != "__version__"
                ]
                assert not private, f"{path} imports {module}.{name}"


def modules(package: str) -> dict[str, Path]:
    folder = PACKAGES[package]
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join((package, *(parts[:-1] if parts[-1] == "__init__" else parts)))] = path
    return found


@functools.cache
def arrows(package: str) -> dict[str, set[str]]:
    """What each module of a package imports of it, wherever the import stands; `from a import b` is a.b if that is
    a module, and a itself otherwise."""
    known = modules(package)
    graph = {}
    for name, path in known.items():
        reached = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                reached |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0 or package == "fmfbench_cli", f"{path}: a relative import"
                home = node.module or ""
                reached |= {f"{home}.{a.name}" if f"{home}.{a.name}" in known else home for a in node.names}
        graph[name] = {other for other in reached if other in known} - {name}
    return graph


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("module", modules("fmfbench"))
def test_the_data_package_goes_one_way(module: str) -> None:
    own = room(module)
    for other in arrows("fmfbench")[module]:
        there = room(other)
        assert own == there or RANK[there] < RANK[own], f"{module} imports {other}, which stands after it"


def test_nothing_imports_the_door_to_the_commands() -> None:
    assert imports(DOOR_TO_THE_COMMANDS) == [("fmfbench_cli.main", "main")]
    assert all(module != "fmfbench.__main__" for _, path in files() for module, _ in imports(path))


@pytest.mark.parametrize("package", PACKAGES)
def test_there_are_no_circles(package: str) -> None:
    left = arrows(package)
    while ready := [name for name, others in left.items() if not others & set(left)]:
        for name in ready:
            del left[name]
    assert not left, f"imports in circles among {sorted(left)}"


def test_the_top_of_the_data_package_stays_small() -> None:
    assert len(list(PACKAGES["fmfbench"].glob("*.py"))) <= TOP_FILES


def test_only_one_room_of_the_data_package_imports_torch() -> None:
    torch_users = {
        path.relative_to(ROOT).as_posix()
        for package, path in files()
        if package == "fmfbench" and any(m.split(".")[0] == "torch" for m, _ in imports(path))
    }
    assert {Path(user).parent.as_posix() for user in torch_users} == {"fmfbench/torch"}


def test_every_package_is_listed_for_the_wheel() -> None:
    listed = set(SETTINGS["tool"]["setuptools"]["packages"])
    present = {
        ".".join((name, *init.parent.relative_to(folder).parts))
        for name, folder in PACKAGES.items()
        for init in folder.rglob("__init__.py")
    }
    assert listed == present
    with_code = {path.parent for _, path in files()}
    assert all((folder / "__init__.py").exists() for folder in with_code)


NAMES_ON_PYPI = {
    "av": "av",
    "cv2": "opencv-python",
    "google_crc32c": "google-crc32c",
    "sklearn": "scikit-learn",
}


def test_every_package_that_is_imported_is_declared() -> None:
    project = SETTINGS["project"]
    declared = [
        *project["dependencies"],
        *(r for rs in project["optional-dependencies"].values() for r in rs),
    ]
    known = {re.split(r"[\[<>=; ]", requirement)[0] for requirement in declared}
    ours = {*PACKAGES, *sys.stdlib_module_names}
    imported = {module.split(".")[0] for _, path in files() for module, _ in imports(path)} - ours
    undeclared = {name for name in imported if NAMES_ON_PYPI.get(name, name) not in known}
    assert not undeclared


def run_without(modules: list[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter in which some modules cannot be imported."""
    block = f"import sys\nfor name in {modules!r}: sys.modules[name] = None\n"
    return subprocess.run(
        [sys.executable, "-c", block + code], capture_output=True, text=True, cwd="/", check=False
    )


HEAVY = [
    "torch",
    "cv2",
    "numba",
    "matplotlib",
    "sklearn",
    "safetensors",
    "onnx",
    "onnxruntime",
    "zarr",
    "xarray",
]


def test_the_front_page_and_help_start_without_heavy_packages() -> None:
    done = run_without(
        HEAVY,
        "import fmfbench, fmfbench.conversion.convert, fmfbench.windows.reader\n"
        "from fmfbench_cli.main import main\nmain(['--help'])",
    )
    assert done.returncode == 0, done.stderr
    assert "convert" in done.stdout


def test_windows_for_torch_say_what_to_install() -> None:
    done = run_without(["torch"], "import fmfbench.torch")
    assert "pip install 'fmfbench[models]'" in done.stderr


def test_no_top_level_cli_outside_the_repository() -> None:
    code = "import importlib.util as u\nassert all(u.find_spec(n) is None for n in ('cli', 'tests', 'data_cards'))"
    assert run_without([], code).returncode == 0


def test_the_public_surface_is_what_the_front_page_lists() -> None:
    import fmfbench

    for name in fmfbench.__all__:
        assert getattr(fmfbench, name) is not None
    assert dir(fmfbench) == sorted(fmfbench.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fmfbench.nothing


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The literal words of each `raise`, values left out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            words = (part.value for part in ast.walk(node.exc) if isinstance(part, ast.Constant))
            yield node.lineno, " ".join(word for word in words if isinstance(word, str))


def test_a_refusal_says_what_was_expected_and_what_it_got() -> None:
    wrong, count = [], 0
    for _, path in files():
        for line, text in messages(path):
            half = re.search(r"\bexpect(s|ed)\b", text) and not re.search(r"\bgot\b", text)
            count += bool(text)
            if half or OTHER_DIALECTS.search(text):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {text}")
    assert count > 500
    assert not wrong, "\n".join(wrong)
