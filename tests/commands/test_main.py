"""The command line as a whole: sections, suggestions, shared options, interrupts, and the ways to start it.

Also tests fmfbench: version.
Also tests fmfbench_cli: groups, models.
Also tests fmfbench.files: wording.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from conftest_run import invoke as run
from fmfbench_cli.main import SECTIONS

import fmfbench

DATA = Path(__file__).parents[1] / "data"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand by its words."""
    for names in SECTIONS.values():
        for name in names:
            command = importlib.import_module(f"fmfbench_cli.{name}").command
            yield name, command
            if isinstance(command, click.Group):
                yield from ((f"{name} {sub}", each) for sub, each in command.commands.items())


COMMANDS = dict(commands())


def test_the_help_names_each_command_once_under_what_it_is_for() -> None:
    lines = run("--help").output.splitlines()
    for section, names in SECTIONS.items():
        start = lines.index(f"{section}:")
        assert [line.split()[0] for line in lines[start + 1 : start + 1 + len(names)]] == list(names)
    assert not any(line.endswith("...") for line in lines[1:])  # each fits in a terminal of 80 columns


def test_every_module_of_commands_is_in_a_section() -> None:
    import fmfbench_cli

    assert fmfbench_cli.__file__ is not None
    folder = Path(fmfbench_cli.__file__).parent
    with_command = {path.stem for path in folder.glob("*.py") if "\ndef command(" in path.read_text()}
    assert with_command == {name for names in SECTIONS.values() for name in names}


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_has_help_with_an_example(words: str) -> None:
    done = run(*words.split(), "--help")
    assert done.exit_code == 0
    assert f"fmfbench {words}" in done.output.partition("Example:")[2]


@pytest.mark.parametrize("words", COMMANDS)
def test_shared_options_are_spelt_alike(words: str) -> None:
    options = [p for p in COMMANDS[words].params if isinstance(p, click.Option)]
    for option in options:
        if "-o" in option.opts or "--out" in option.opts or "--output" in option.opts:
            assert option.opts[:2] == ["-o", "--out"]
        if "--json" in option.opts:
            assert (option.name, option.help) == ("as_json", "Print one JSON document and nothing else.")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("scoer",), "did you mean 'score'?"),
        (("TRAIN",), "did you mean 'train'?"),
        (("labels", "exprt"), "did you mean 'export'?"),
        (("outliers", "mkae"), "did you mean 'make'?"),
        (("score", "p.npz", "--dta", "x"), "--data"),
        (("models", "fmforner"), "did you mean 'fmformer'?"),
        (("models", "FmFormer"), "did you mean 'fmformer'?"),
    ],
)
def test_a_mistyped_name_is_answered_with_what_was_meant(arguments: tuple[str, ...], meant: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert meant in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_name_like_none_is_answered_without_a_guess() -> None:
    assert "did you mean" not in run("qqqq").stderr


def test_earlier_spellings_are_taken_and_not_shown(awkward_store: Path, tmp_path: Path) -> None:
    for spelling in ("-o", "--out", "--output"):
        target = tmp_path / f"{spelling}.npz"
        assert run("labels", "export", awkward_store, spelling, target).exit_code == 0
        assert target.exists()
    assert "--output" not in run("labels", "export", "--help").output
    assert "-o, --out" in run("labels", "export", "--help").output


URLS = ("s3://bucket/key", "gs://b/k", "az://b/k", "file:///tmp/x", "memory://x", "hdfs://x/y", "weird+x://y")


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", "{url}", "--preset", "tiny"),
        ("demo", "{url}"),
        ("view", "{store}", "-o", "{url}"),
        ("labels", "export", "{store}", "-o", "{url}"),
        ("outliers", "make", "{store}", "-o", "{url}"),
        ("train", "fmformer", "--data", "{store}", "--out", "{url}"),
        ("predict", "run", "--data", "{store}", "-o", "{url}"),
        ("reproduce", "table2", "--data", "{store}", "--out", "{url}"),
        ("score", "p.npz", "--data", "{store}", "--csv", "{url}"),
        ("annotate", "{store}", "--export-cvat", "{url}"),
    ],
    ids=lambda words: words[0],
)
def test_a_url_is_refused_where_a_local_path_is_needed(
    awkward_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*(word.format(url=url, store=awkward_store) for word in arguments))
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        f"Error: {url}: expected a path on this machine, got a URL; work on a local copy"
    ]
    assert list(tmp_path.iterdir()) == []


def test_functions_refuse_a_url_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fmfbench.exchange.labels import labels_from_dataset, write_labels
    from fmfbench.furnace.simulate import simulate

    data = fmfbench.open_dataset(fmfbench.convert(DATA / "v2_tree", tmp_path / "s.zarr"))
    monkeypatch.chdir(tmp_path)
    for url in ("s3://bucket/p.npz", Path("s3://bucket/p.npz")):
        for write in (
            lambda url=url: fmfbench.write_predictions(url, sample_id=[0], score=[0.5]),
            lambda url=url: write_labels(url, labels_from_dataset(data, "test")),
            lambda url=url: simulate(url, preset="tiny"),
        ):
            with pytest.raises(ValueError, match=r"^s3://bucket/p.npz: expected a path on this machine"):
                write()
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize(
    ("kind", "made"),
    [("tree", "convert it first: fmfbench convert"), ("mat", "convert it first"), ("empty", "no such")],
)
def test_recordings_in_the_place_of_a_store_are_to_be_converted_first(
    tmp_path: Path, kind: str, made: str
) -> None:
    path = {"tree": DATA / "v2_tree", "mat": DATA / "v1_octave_v7.mat", "empty": tmp_path}[kind]
    done = run("info", path)
    assert done.exit_code == 2
    assert made in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("module", ["fmfbench", "fmfbench_cli.main"])
def test_it_starts_as_a_module(module: str, tmp_path: Path) -> None:
    started = [sys.executable, "-m", module]
    done = subprocess.run([*started, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("fmfbench, version ")
    done = subprocess.run(
        [*started, "score", "none.npz"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: score: expected exactly one of")


@pytest.mark.parametrize(
    ("arguments", "resumes"),
    [
        (("simulate", "OUT"), "the same call keeps the recordings that are finished and makes the rest"),
        (("info", "STORE"), None),
    ],
)
def test_ctrl_c_exits_130_and_names_what_resumes(
    arguments: tuple[str, str], resumes: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fmfbench.furnace.simulate.simulate", interrupted)
    monkeypatch.setattr("fmfbench.data.open_dataset", interrupted)
    done = run(arguments[0], tmp_path / arguments[1])
    assert done.exit_code == 130
    assert done.stderr == "Error: interrupted" + (f"; {resumes}\n" if resumes else "\n")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_ctrl_c_in_a_process(tmp_path: Path) -> None:
    # Whatever started the tests may ignore the signal, and children inherit that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fmfbench_cli.main import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "simulate", str(tmp_path / "out"), "--preset", "full"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not (tmp_path / "out").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith("Error: interrupted; the same call keeps the recordings")


def test_the_shell_completes_commands(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "_FMFBENCH_COMPLETE": "bash_complete",
        "COMP_WORDS": "fmfbench sc",
        "COMP_CWORD": "1",
    }
    start = "import sys; sys.argv = ['fmfbench']; from fmfbench_cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.split() == ["plain,score"]
