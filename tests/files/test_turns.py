"""Turns: one holder at a time, on one machine or several; the dead are taken over, the living never."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from fmfbench.errors import BusyError
from fmfbench.files import turns
from fmfbench.files.turns import live_turns, turn

HOLD = "import sys, time; from fmfbench.files.turns import turn\nwith turn(__import__('pathlib').Path(sys.argv[1])):\n"
HOLD += "    print('held', flush=True); time.sleep(float(sys.argv[2]))"


def holder(path, seconds):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def foreign(path, seconds=0.0, host="elsewhere", process=1):
    """What another machine has left, so long ago."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"token": "t", "host": host, "process": process}))
    age(path, seconds)


def test_one_at_a_time_and_given_back(tmp_path):
    path = tmp_path / "turns" / "row"
    assert live_turns(path.parent) == []
    with turn(path):
        assert live_turns(path.parent) == ["row"]
        with pytest.raises(BusyError, match="another process has this turn"), turn(path):
            pass
        assert path.is_file()
    assert not path.exists()
    with pytest.raises(ZeroDivisionError), turn(path):
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == []


def test_of_another_process_while_it_lives_and_after_it_was_killed(tmp_path, monkeypatch):
    path = tmp_path / "row"
    process = holder(path, 60)
    try:
        age(path, 100)  # quiet, but running
        with pytest.raises(BusyError), turn(path):
            pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with turn(path):
        assert json.loads(path.read_text())["process"] == os.getpid()
    foreign(path, 10, host=turns.socket.gethostname(), process=process.pid)  # gone, but only just quiet
    with pytest.raises(BusyError), turn(path):
        pass
    assert live_turns(tmp_path) == ["row"]


@pytest.mark.parametrize(("seconds", "free"), [(0, False), (250, False), (350, True)])
def test_another_machines_turn_is_dead_when_nobody_touched_it(tmp_path, seconds, free):
    path = tmp_path / "row"
    foreign(path, seconds)
    assert live_turns(tmp_path) == ([] if free else ["row"])
    if free:
        with turn(path):
            pass
        assert list(tmp_path.iterdir()) == []
    else:
        with pytest.raises(BusyError), turn(path):
            pass
        assert json.loads(path.read_text())["host"] == "elsewhere"


def test_a_file_that_cannot_be_read_is_someones_for_a_while(tmp_path):
    path = tmp_path / "row"
    path.write_text("")  # being made just now
    with pytest.raises(BusyError), turn(path):
        pass
    age(path, 400)
    with turn(path):
        assert live_turns(tmp_path) == ["row"]


@pytest.mark.parametrize(("seconds", "free"), [(10, False), (1000, True)])
def test_one_that_was_killed_while_it_took_over_keeps_nobody_out(tmp_path, seconds, free):
    path = tmp_path / "row"
    foreign(path, 1000)
    foreign(tmp_path / ".row.t.over", seconds)
    if free:
        with turn(path):
            assert json.loads(path.read_text())["process"] == os.getpid()
        assert list(tmp_path.iterdir()) == []
    else:
        with pytest.raises(BusyError), turn(path):
            pass


def test_a_live_turn_stays_one_while_another_process_clears_the_folder(tmp_path):
    stop = threading.Event()

    def clear():
        while not stop.is_set():
            for left in tmp_path.glob(".*"):
                left.unlink(missing_ok=True)

    thread = threading.Thread(target=clear)
    with turn(tmp_path / "row"):
        thread.start()
        found = [live_turns(tmp_path) for _ in range(2000)]
        stop.set()
        thread.join()
    assert found.count(["row"]) == len(found)


def test_of_many_that_find_a_dead_one_a_single_one_takes_over(tmp_path):
    path = tmp_path / "row"
    foreign(path, 1000)
    start, stop = threading.Barrier(8), threading.Event()
    outcomes = []

    def attempt():
        start.wait()
        try:
            with turn(path):
                outcomes.append("held")
                stop.wait(5)
        except BusyError:
            outcomes.append("busy")
        if len(outcomes) == 8:
            stop.set()

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(outcomes) < 8:
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["busy"] * 7 + ["held"]
    assert list(tmp_path.iterdir()) == []


def test_it_is_kept_fresh_and_never_removed_under_another(tmp_path):
    path = tmp_path / "row"
    with turn(path, beat=0.02):
        age(path, 200)
        until = time.monotonic() + 10
        while time.time() - path.stat().st_mtime > 100 and time.monotonic() < until:
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 100
        foreign(path)  # as if this machine had stood still, and another had taken over
    assert json.loads(path.read_text())["host"] == "elsewhere"
