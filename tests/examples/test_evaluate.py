"""The script that plays for a score: the same options give the same file, and no file is lost."""

from __future__ import annotations

import json
import re
import runpy
import sys
from functools import partial

import pytest
from PIL import Image

from tests.support.games import CatchBall
from tests.support.paths import EXAMPLES
from tests.support.saved import save_run

EXAMPLE = EXAMPLES / "evaluate.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "catch"
    save_run(folder, "evaluation.episodes=2")
    return folder


@pytest.fixture
def play(monkeypatch, capsys):
    """A function that runs the script here; returns its lines, without the progress bar's."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "trust=true", *options])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        out, err = capsys.readouterr()
        assert err == ""
        return [line for line in re.split(r"[\r\n]+", out) if line and "%|" not in line]

    return run


@pytest.fixture
def refused(refuse):
    return partial(refuse, EXAMPLE, "trust=true")


def test_the_file_says_what_was_played_and_what_came_of_it(folder, play, tmp_path):
    out = tmp_path / "new" / "result.json"
    (line,) = play(f"run_dir={folder}", "episodes=3", "seed=5", f"out={out}")
    result = json.loads(out.read_text())
    returns = result["returns"]
    assert len(returns) == 3
    assert all(value in range(CatchBall.BALLS + 1) for value in returns)
    assert (result["lengths"], result["cut"]) == ([60, 60, 60], 0)
    assert result["mean"] == pytest.approx(sum(returns) / 3)
    wanted = {"env": "tests.support.games:CatchBall-v0", "protocol": "glam", "frame": 150, "episodes": 3, "seed": 5}
    assert wanted.items() <= result.items()
    assert (result["greedy"], result["device"], result["human_normalised"]) == (False, "cpu", None)
    assert result["versions"]["torchrl"] >= "0.14.1"
    assert line.startswith(f"evaluation: {result['mean']:.2f}, standard deviation ")
    assert line.endswith(f" over 3 episodes (protocol glam) | 150 frames of training | {out}")


def test_the_same_seed_gives_the_same_file_and_another_one_does_not(folder, play, tmp_path):
    one, two, other = (tmp_path / name for name in ("one.json", "two.json", "other.json"))
    options = (f"run_dir={folder}", "episodes=3")
    play(*options, "seed=1", f"out={one}")
    play(*options, "seed=1", f"out={two}")
    play(*options, "seed=2", f"out={other}")
    assert one.read_bytes() == two.read_bytes()
    assert json.loads(one.read_text())["returns"] != json.loads(other.read_text())["returns"]


def test_what_is_not_given_is_as_in_the_run(tmp_path, play):
    folder = tmp_path / "run"
    save_run(folder, "evaluation.episodes=2", "evaluation.greedy=true", "env.protocol=standard", "seed=7")
    play(f"run_dir={folder}")
    result = json.loads((folder / "evaluation-150-standard-seed7-greedy.json").read_text())
    assert (result["protocol"], result["episodes"], result["seed"], result["greedy"]) == ("standard", 2, 7, True)
    play(f"run_dir={folder}", "protocol=glam", "greedy=false")
    assert json.loads((folder / "evaluation-150-glam-seed7.json").read_text())["greedy"] is False


def test_a_file_is_replaced_by_its_like_alone(folder, play, refused):
    options = (f"run_dir={folder}", "seed=11")
    play(*options)
    out = folder / "evaluation-150-glam-seed11.json"
    before = out.read_bytes()
    play(*options)
    assert out.read_bytes() == before
    line = refused(*options, "episodes=1")
    assert f"out={out} holds another evaluation (episodes=2): remove it, or choose another file" in line
    assert out.read_bytes() == before
    for text in ("precious", "[]", "{}"):
        out.write_text(text)
        assert "holds another evaluation (or something else)" in refused(*options)
        assert out.read_text() == text


def test_a_video_of_the_first_episode(folder, play, tmp_path):
    lines = play(f"run_dir={folder}", "seed=12", "video=true")
    film = folder / "media" / "episode-150-glam-seed12.gif"
    assert lines[1] == f"the first episode: {film}"
    with Image.open(film) as video:
        assert video.n_frames == 61
        assert video.size == (256, 256)
        last = video.n_frames - 1
        colours = set()
        for frame in (0, last):
            video.seek(frame)
            colours |= {colour for _, colour in video.convert("RGB").getcolors()}
    assert colours == {(0, 0, 0), (255, 255, 0), (0, 255, 255)}
    play(f"run_dir={folder}", "episodes=1", "video=true", f"out={tmp_path / 'a.json'}")
    assert (tmp_path / "a.gif").exists()


WRONG = {
    "no run": (["run_dir=/nowhere"], ["/nowhere holds no run", "config.yaml"]),
    "no run_dir": ([], ["give run_dir=..."]),
    "unknown option": (["episods=3"], ["did you mean episodes?"]),
    "unknown protocol": (["protocol=mine"], ["protocol=mine", "glam, standard"]),
    "unknown weights": (["weights=last"], ["weights=last", "newest or best"]),
    "no checkpoint": (["weights=best"], ["no checkpoint", "weights=newest"]),
    "no episodes": (["episodes=0"], ["episodes=0", "at least 1"]),
    "a negative seed": (["seed=-1"], ["seed=-1", "at least 0"]),
    "a folder as file": (["out=/tmp"], ["out=/tmp", "it is a folder"]),
    "a place that is none": (["out=/proc/nothing/a.json"], ["out=/proc/nothing/a.json", "cannot be written"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_ends_in_one_clear_line(folder, refused, name):
    options, wanted = WRONG[name]
    run_dir = [] if name.startswith("no run") else [f"run_dir={folder}"]
    line = refused(*run_dir, *options)
    assert all(part in line for part in wanted)


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ("my-cart-pole", "env.name=my-cart-pole makes no environment (there is no environment 'my-cart-pole'"),
        ("ALE/Pong-v5", "env.name=ALE/Pong-v5 makes an environment with other actions than the run's"),
    ],
)
def test_an_environment_of_the_users_own(tmp_path, refused, env, wanted):
    save_run(tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("tests.support.games:CatchBall-v0", env))
    line = refused(f"run_dir={tmp_path / 'run'}")
    assert wanted in line
    assert "torchrl_glam.training.evaluate with load_run(...).policy" in line
