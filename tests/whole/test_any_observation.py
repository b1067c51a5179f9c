"""Every command on runs that observe a camera with joints, or numbers: actions are continuous, or several at once."""

from __future__ import annotations

import asyncio
import json
import runpy
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import minari
import numpy as np
import pytest
import torch
from aiohttp import WSMsgType
from aiohttp.test_utils import TestClient, TestServer

from tests.support.configs import load
from tests.support.paths import EXAMPLES
from tests.support.trained import CPU, SIZES
from torchrl_glam import factory
from torchrl_glam.runs import estimate
from torchrl_glam.runs.loading import load_run
from torchrl_glam.tools.player.pace import Player
from torchrl_glam.tools.player.server import make_app
from torchrl_glam.tools.player.session import make_session
from torchrl_glam.tools.report import __main__ as report

pytestmark = pytest.mark.long

OPTIONS = ["preset=debug", *SIZES, "training.warmup_frames=40", "evaluation.episodes=1"]
SECONDS = 60.0


@dataclass(frozen=True)
class Kind:
    """An environment, what the first line says of it, and what is observed."""

    name: str
    actions: str
    observes: str
    keys: dict[str, tuple[int, ...]]

    @property
    def env(self) -> str:
        """The option that names it."""
        return f"env.name=tests.support.sensors:{self.name}"


KINDS = [
    Kind(
        "Arm-v0",
        "1 continuous action",
        "pixels 64x64x3 and a vector of 7",
        {"pixels": (64, 64, 3), "observation": (7,)},
    ),
    Kind("Levers-v0", "3 x 2 actions", "a vector of 2", {"observation": (2,)}),
]

Call = Callable[..., list[str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """A function that gives a command in this process; returns its lines."""
    monkeypatch.setattr(estimate, "estimate_seconds", lambda *_: 1.0)  # takes as long as the run itself

    def run(example: str, *options: str | Path) -> list[str]:
        monkeypatch.setattr(sys, "argv", [f"{example}.py", *map(str, options)])
        capsys.readouterr()
        if example == "report":
            report.main()
        else:
            runpy.run_path(str(EXAMPLES / f"{example}.py"), run_name="__main__")
        return capsys.readouterr().out.strip().splitlines()

    return run


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def trained(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 80 steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["glam_atari.py", *OPTIONS, kind.env, "total_frames=80", f"run_dir={folder}"])
        patch.setattr(estimate, "estimate_seconds", lambda *_: 1.0)
        runpy.run_path(str(EXAMPLES / "glam_atari.py"), run_name="__main__")
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, which may be written to."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_it_trains_and_resumes(kind: Kind, folder: Path, call: Call) -> None:
    assert len(json.loads((folder / "result.json").read_text())["returns"]) == 1
    pictures = {path.name for path in (folder / "media").iterdir()}
    assert {"imagined-000000080-traces.png", "evaluation-traces.png"} <= pictures
    assert ("evaluation.gif" in pictures) == ("pixels" in kind.keys)
    first, *others = call("glam_atari", *OPTIONS, kind.env, "total_frames=90", f"run_dir={folder}")
    assert f"({kind.actions}, protocol glam) | observes {kind.observes} (env.observation=auto) | " in first
    assert any(line.startswith("resumes from step 80") for line in others)
    assert others[-1].startswith("evaluation: ")
    assert load_run(folder, trust=True).frame == 90


def test_its_policy_is_evaluated_from_run_and_export(folder: Path, tmp_path: Path, call: Call) -> None:
    export = tmp_path / "export"
    call("export", f"run_dir={folder}", "to=safetensors", f"out={export}", "trust=true")
    played = [call("evaluate", f"run_dir={place}", "episodes=1", "trust=true")[-1] for place in (folder, export)]
    scores = [line.split(" | ")[0] for line in played]
    assert scores[0].startswith("evaluation: ")
    assert scores[0] == scores[1]


def test_it_imagines(kind: Kind, folder: Path, call: Call) -> None:
    (line,) = call("imagine", f"run_dir={folder}", "steps=5", "rows=2", "trust=true")
    assert line.startswith("2 x 5 steps after 6 real ones, mean absolute error")
    assert "of the observation, in symlog space: reconstructed" in line
    assert cv2.imread(str(folder / "media/imagination-80-seed0-traces.png")).std() > 0
    assert (folder / "media/imagination-80-seed0.gif").exists() == ("pixels" in kind.keys)


def test_it_is_diagnosed(kind: Kind, folder: Path, call: Call) -> None:
    call("diagnose", f"run_dir={folder}", "fresh=40", "trust=true")
    found = json.loads((folder / "diagnosis-80-seed0.json").read_text())
    for source in ("replay", "fresh"):
        verdicts = found["verdicts"][source]
        assert "after 15 steps imagination errs by" in verdicts["vector"]
        assert ("nothing to judge" in verdicts["frames"]) == ("pixels" not in kind.keys)


def test_its_records_become_a_dataset(
    kind: Kind, folder: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("export", f"run_dir={folder}", "to=minari", "dataset_id=glam/test-v0", f"out={tmp_path}/data", "trust=true")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    dataset = minari.load_dataset("glam/test-v0")
    assert dataset.total_steps > 70
    space = dataset.observation_space
    shapes = {key: part.shape for key, part in space.items()} if len(kind.keys) > 1 else {"observation": space.shape}
    assert shapes == kind.keys


def test_it_is_reported_and_plotted(kind: Kind, folder: Path, tmp_path: Path, call: Call) -> None:
    call("report", folder, f"out={tmp_path}/report", "resamples=100")
    assert kind.name in (tmp_path / "report/report.md").read_text()
    call("plot_returns", folder, f"out={tmp_path}/curve.png")
    assert cv2.imread(str(tmp_path / "curve.png")).std() > 0


def test_its_machine_is_checked(kind: Kind, tmp_path: Path, call: Call) -> None:
    lines = call("glam_atari", *OPTIONS, kind.env, f"run_dir={tmp_path}/run", "--check")
    assert {"device", "memory", "disk", "time"} < {line.split()[0] for line in lines}
    assert lines[-1] == "ready"


def test_its_time_is_estimated(kind: Kind) -> None:
    config = load(*OPTIONS, kind.env)
    env = factory.make_env(config)
    assert estimate.estimate_seconds(config, env, CPU) > 0


def test_it_is_played_at_random(kind: Kind, tmp_path: Path, call: Call) -> None:
    line = call("random_play", kind.env, "evaluation.episodes=2", f"run_dir={tmp_path}/run")[-1]
    assert "over 2 episodes" in line


def test_its_parts_are_measured(kind: Kind, call: Call) -> None:
    options = ["training.warmup_frames=20", "seconds=0.01", "variants=[eager]"]
    lines = call("benchmark", *OPTIONS, kind.env, *options)
    assert any(line.startswith("| whole step |") for line in lines)


def test_it_is_played_in_the_browser(kind: Kind, folder: Path) -> None:
    """For real, then in imagination, through the page's socket."""
    session = make_session(load_run(folder, trust=True))
    shape, seen = kind.keys.get("pixels"), "pixels" in kind.keys

    async def scenario() -> None:
        player = Player(session, speed=60)
        running = asyncio.create_task(player.run())
        async with TestClient(TestServer(make_app(player, "secret"))) as client:
            tab = await client.ws_connect("/socket?token=secret")
            hello = await tab.receive_json()
            assert (hello["pixels"], hello["numbers"], hello["real"]) == (seen, kind.keys["observation"][0], True)

            async def told(mode: str) -> dict:
                """Return the next state of this mode, one step or more from its beginning."""
                while True:
                    message = await tab.receive()
                    if message.type is WSMsgType.TEXT:
                        state = json.loads(message.data)
                        if (state["type"], state["mode"]) == ("state", mode) and state["steps"] >= 1:
                            return state
                    else:
                        assert seen, "there is nothing to draw"
                        picture = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
                        assert picture.shape[0] == shape[0]

            await tab.send_json({"keys": ["ArrowRight"]})
            for mode in ("real", "imagined"):
                state = await asyncio.wait_for(told(mode), SECONDS)
                assert len(state["vector"]) == len(state["vector_aside"]) == hello["numbers"]
                assert all(isinstance(number, float) for number in state["vector"])
                await tab.send_json({"command": "switch"})
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled(), running.exception()

    with torch.random.fork_rng():
        asyncio.run(scenario())
    session.close()
