"""Results are read, and damaged ones named."""

from __future__ import annotations

import json
import math
import os

import pytest

from tests.support.made_runs import OLD, write_run
from torchrl_glam.errors import UsageError
from torchrl_glam.tools.report.runs import read_run, read_runs


def test_old_files_are_read(tmp_path):
    run = read_run(write_run(tmp_path, "Pong", 3, [1.0, 3.0], mean=None, **OLD))
    assert (run.env, run.seed, run.mean, run.steps_per_second) == ("ALE/Pong-v5", 3, 2.0, 20.0)  # 100 000 in 5000 s
    assert (run.ablation, run.dynamics, run.objective, run.greedy, run.config_hash) == (
        "none",
        "glam",
        "glam",
        False,
        None,
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"returns": [1, "2"]}, "returns is '2' and not a number"),
        ({"returns": [math.nan]}, "returns is nan and not finite"),
        ({"mean": 7.0}, "mean is 7.0, but that of its returns is 2"),
        ({"seed": 1.5}, "seed is 1.5 and not a whole number"),
        ({"total_frames": 0}, "total_frames is 0"),
        ({"protocol": 3}, "protocol is 3 and not a text"),
        ({"protocol": "gnam"}, "protocol is gnam and none of glam, standard"),
        ({"greedy": "no"}, "greedy is 'no'"),
        ({"seconds": 10**400}, "seconds is damaged"),
        ({"returns": [1e308, 1e308], "mean": 1e308}, "returns is damaged: too large a number"),
        ({"seed": 10**23}, "seed is damaged: too large a number"),
        ({"env": "\ud800"}, r"damaged, '\ud800' is no text"),
        ({"preset": "<script>alert(1)</script>"}, "preset is '<script>alert(1)</script>' and not a name"),
        ({"preset": '=HYPERLINK("http://x")'}, "preset is '=HYPERLINK"),
        ({"dynamics": "$\\frac$"}, r"dynamics is '$\\frac$' and not a name"),
        ({"device": "\x1b[2J"}, r"device is '\x1b[2J' and not a name"),
    ],
)
def test_a_damaged_result_is_one_line_that_names_it(tmp_path, change, complaint):
    path = write_run(tmp_path, "Pong", 0, [1.0, 3.0])
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError) as refused:
        read_runs([tmp_path])
    assert str(refused.value).startswith(f"{path}: {complaint}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "text"), [("result.json", '{"env": '), ("episode_return.csv", "1,2\n3,lots\n")])
def test_a_cut_file_is_one_line(tmp_path, name, text):
    path = write_run(tmp_path, "Pong", 0, [1.0], curve=[(1, 2)])
    path.with_name(name).write_text(text)
    with pytest.raises(UsageError, match=r"result.json: .*damaged[^\n]*$"):
        read_runs([tmp_path])


@pytest.mark.parametrize("name", ["result.json", "episode_return.csv", "config.yaml"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    path = write_run(tmp_path, "Pong", 0, [1.0], curve=[(1, 2)]).with_name(name)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    if name == "result.json":
        with pytest.raises(UsageError, match="it is a pipe"):
            read_runs([tmp_path])
    else:
        assert len(read_runs([tmp_path]).runs) == 1


def test_what_is_found(tmp_path):
    path = write_run(tmp_path / "runs", "Pong", 0, [1.0], curve=[(20, 5), (10, 3)])
    write_run(tmp_path / "runs", "Pong", 0, [0.0], preset="random", total_frames=0)
    for name, text in {
        "offline/result.json": '{"dataset": "a", "env": "b", "mean": 1}',
        "other/result.json": "[1]",
        "unfinished/config.yaml": "seed: 1\ntotal_frames: 7\n",
        "offline-unfinished/config.yaml": "total_updates: 7\n",
        ".hidden/result.json": "damaged",
    }.items():
        (tmp_path / "runs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / name).write_text(text)
    found = read_runs([tmp_path / "runs", path])
    assert [run.path for run in found.runs] == [path], "the same file by two paths counts once"
    assert [run.preset for run in found.random] == ["random"]
    assert {kind: len(files) for kind, files in found.left_out.items()} == {"an offline run": 1, "another kind": 1}
    assert found.unfinished == [tmp_path / "runs" / "unfinished"]
    assert list(found.runs[0].curve.items()) == [(10.0, 3.0), (20.0, 5.0)]


def test_a_curve_in_a_run_folder(tmp_path):
    path = write_run(tmp_path, "Pong", 0, [1.0])
    assert read_run(path).curve is None
    (folder := path.parent / "metrics/scalars/train").mkdir(parents=True)
    (folder / "episode_return.csv").write_text("100,-20.0\n")
    assert list(read_run(path).curve.items()) == [(100.0, -20.0)]
    moved = path.rename(path.with_name("seed0.json"))
    assert read_run(moved).curve is None
    (path.parent / "seed0.csv").write_text("7,1\n")
    assert list(read_run(moved).curve.items()) == [(7.0, 1.0)]


def test_nothing_to_report(tmp_path):
    with pytest.raises(UsageError, match="nowhere does not exist: give run folders"):
        read_runs([tmp_path / "nowhere"])
    write_run(tmp_path, "Pong", 0, [1.0], preset="random", total_frames=0)
    with pytest.raises(UsageError, match=r"no result of a run in \S+ \(but 1 of random play\): give"):
        read_runs([tmp_path])
