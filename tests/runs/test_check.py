"""The check before a long run: the needs of the run against the machine. Figures that decide are made up."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.support.configs import load
from tests.support.trained import SMALL
from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig
from torchrl_glam.errors import UsageError
from torchrl_glam.runs import check as machine
from torchrl_glam.runs import estimate
from torchrl_glam.runs.check import Finding, Level, check_machine, format_findings, require_ready
from torchrl_glam.runs.estimate import Estimate, estimate_run

CPU = torch.device("cpu")
GB = 10**9


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An idle machine with 4 cores, 16 GB of memory, 100 GB of disk; a run takes 1 GB of memory and an hour."""
    has = SimpleNamespace(disk=100 * GB, memory=16 * GB, cores=4, threads=4, busy=0.0)
    has.estimate = Estimate(seconds=3600.0, memory=GB, imagined_replay=0, state=GB // 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=has.disk))
    monkeypatch.setattr(machine, "available_memory", lambda: has.memory)
    monkeypatch.setattr(machine, "usable_cores", lambda: list(range(has.cores)))
    monkeypatch.setattr(machine, "busy_cores", lambda: has.busy)
    monkeypatch.setattr(torch, "get_num_threads", lambda: has.threads)
    monkeypatch.setattr(machine, "estimate_run", lambda *args, **kwargs: has.estimate)
    return has


def check(folder: Path, *overrides: str, **options: int) -> dict[str, Finding]:
    """Return the findings by name."""
    config = load(*SMALL, *overrides)
    return {
        finding.name: finding for finding in check_machine(config, factory.make_env(config), folder, CPU, **options)
    }


def levels(findings: dict[str, Finding]) -> dict[str, Level]:
    """Return the levels that are not ok."""
    return {name: finding.level for name, finding in findings.items() if finding.level is not Level.ok}


# Levels of the findings.


def test_a_machine_with_room_is_ready(roomy, tmp_path):
    findings = check(tmp_path / "run")
    assert list(findings) == ["folder", "load", "device", "memory", "disk", "time"]
    assert levels(findings) == {}
    assert findings["time"].text == "about 60 min for 160 frames and the evaluation"
    assert format_findings(list(findings.values())).splitlines()[-1] == "ready"
    require_ready(list(findings.values()))
    assert list(tmp_path.iterdir()) == []


def test_no_evaluation_is_none_announced(roomy, tmp_path):
    assert check(tmp_path / "run", "evaluation.episodes=0")["time"].text == "about 60 min for 160 frames"


def test_the_frames_left_count(roomy, tmp_path):
    findings = check(tmp_path, frame=120)
    assert "resumes from frame 120" in findings["folder"].text
    assert findings["time"].text.startswith("about 15 min for 40 frames")


@pytest.mark.parametrize(("free", "wanted"), [(0.3, Level.error), (0.6, Level.warning), (1.0, None)])
def test_disk_is_compared_with_replay_checkpoints_and_media(roomy, tmp_path, free, wanted):
    roomy.disk = int(free * GB)
    findings = check(tmp_path, "checkpoint.keep=2")  # 0.4 GB with the best and the next one, 0.1 GB of media
    assert levels(findings) == ({"disk": wanted} if wanted else {})
    assert "about 510 MB of" in findings["disk"].text


@pytest.mark.parametrize(("capacity", "wanted"), [(200_000, "2.6 GB"), (50_000, "910 MB")])
def test_the_replay_on_disk_is_all_that_is_collected_or_the_ring_and_what_checkpoints_keep(
    roomy, tmp_path, capacity, wanted
):
    roomy.estimate = Estimate(3600.0, GB, imagined_replay=0, state=0)
    findings = check(tmp_path, "total_frames=200000", f"replay.capacity={capacity}")  # of 12.3 kB each, and media
    assert f"about {wanted} of" in findings["disk"].text


@pytest.mark.parametrize(("free", "wanted"), [(0.9, Level.error), (1.2, Level.warning), (1.3, None)])
def test_memory_is_compared_with_replay_and_updates(roomy, tmp_path, free, wanted):
    roomy.memory = int(free * GB)
    assert levels(check(tmp_path)) == ({"memory": wanted} if wanted else {})


def test_the_imagined_replay_counts_once_it_is_full(roomy, tmp_path):
    roomy.estimate = Estimate(3600.0, GB, 20 * GB, 0)
    findings = check(tmp_path)
    assert findings["memory"].level is Level.error
    assert "imagined replay 20 GB" in findings["memory"].text


def test_cuda_graphs_count(roomy, tmp_path):
    roomy.estimate = Estimate(3600.0, GB, imagined_replay=0, state=0, graphs=20 * GB)
    finding = check(tmp_path)["memory"]
    assert finding.level is Level.error
    assert "CUDA graphs 20 GB" in finding.text


def test_memory_that_cannot_be_measured_is_said(roomy, tmp_path):
    roomy.estimate = Estimate(3600.0, None, 0, 0)
    assert "not measured" in check(tmp_path)["memory"].text


@pytest.mark.parametrize(
    ("threads", "busy", "wanted"),
    [(4, 0.0, None), (4, 0.3, None), (4, 2.0, "end that work"), (2, 2.0, None), (8, 0.0, "OMP_NUM_THREADS=4")],
)
def test_threads_without_a_core_of_their_own_are_warned_of(roomy, tmp_path, threads, busy, wanted):
    roomy.threads, roomy.busy = threads, busy
    findings = check(tmp_path)
    assert levels(findings) == ({"load": Level.warning} if wanted else {})
    assert wanted is None or wanted in findings["load"].text


def test_the_paper_on_a_cpu_is_warned_of(roomy, tmp_path):
    assert levels(check(tmp_path, "preset=paper")) == {"device": Level.warning}


@pytest.mark.parametrize("where", ["a file", "below a file"])
def test_a_folder_that_cannot_be_made_is_an_error(roomy, tmp_path, where):
    (tmp_path / "file").write_text("precious")
    finding = check(tmp_path / "file" / ("run" if where == "below a file" else ""))["folder"]
    assert finding.level is Level.error
    assert "cannot be written" in finding.text


def test_a_folder_that_may_not_be_written_is_an_error(roomy, tmp_path, monkeypatch):
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)  # as root may write everywhere
    assert "Permission denied" in check(tmp_path)["folder"].text


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_an_update_that_does_not_fit_is_a_finding(roomy, tmp_path, monkeypatch, error):
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(machine, "estimate_run", fail)
    findings = check(tmp_path)
    assert levels(findings) == {"memory": Level.error}
    assert "does not fit" in findings["memory"].text


def test_another_error_of_an_update_is_no_finding(roomy, tmp_path, monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(machine, "estimate_run", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        check(tmp_path)


def test_what_is_not_ready_is_one_line():
    findings = [
        Finding("load", Level.warning, "busy"),
        Finding("memory", Level.error, "too little"),
        Finding("disk", Level.error, "full"),
    ]
    assert format_findings(findings).splitlines() == [
        "load    warning  busy",
        "memory  error    too little",
        "disk    error    full",
        "not ready: memory, disk",
    ]
    with pytest.raises(UsageError, match=r"^not ready: memory: too little; disk: full$"):
        require_ready(findings)


# Measurements.


def measured(*overrides: str) -> tuple[GLAMConfig, Estimate]:
    config = load(*SMALL, *overrides)
    return config, estimate_run(config, factory.make_env(config), CPU, patience=0.0, measure_memory=True)


def test_the_check_of_a_real_run(tmp_path):
    config = load(*SMALL, "env.num_envs=2")
    env, before = factory.make_env(config), torch.get_rng_state()
    findings = check_machine(config, env, tmp_path / "run", CPU)
    assert [finding.name for finding in findings if finding.level is Level.error] == []
    assert torch.equal(before, torch.get_rng_state())
    twin = factory.make_env(config)
    assert torch.equal(env.reset()["pixels"], twin.reset()["pixels"])  # the emulator was not touched
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured on Linux only")
def test_larger_updates_take_more_memory():
    small = measured()[1].memory
    large = measured("imagination.batch_size=1024", "imagination.horizon_step=30", "imagination.horizon_every=100")[
        1
    ].memory
    assert small is not None
    assert large is not None
    frames = 1024 * 6 * 64 * 64 * 3  # the contexts' bytes, which the encoder reads as floats
    assert large > small + 4 * frames


def test_an_imagined_replay_is_taken_at_its_capacity():
    _, few = measured("objective=discrete_sac", "objective.capacity=100")
    _, many = measured("objective=discrete_sac", "objective.capacity=10000")
    assert many.imagined_replay == 100 * few.imagined_replay > 0
    assert measured()[1].imagined_replay == 0


def test_the_state_is_weights_and_what_adam_keeps_of_each():
    config, found = measured()
    env = factory.make_env(config)
    world_model = factory.make_world_model(config, env.action_spec_unbatched, CPU)
    actor = factory.make_actor(config, world_model, env.action_spec_unbatched)
    imagined = factory.make_imagined_env(config, world_model, env.action_spec_unbatched)
    agent = factory.make_objective(config, imagined, actor).networks.values()
    weights = sum(p.numel() * 4 for module in (world_model, *agent) for p in module.parameters())
    assert 3 * weights < found.state < 4 * weights


def test_the_fastest_call_counts(monkeypatch):
    lasted = iter([4.0, 3.0, 5.0, 4.0, 20.0, 2.0])
    now = [0.0]
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])

    def update() -> None:
        now[0] += next(lasted)

    assert estimate.fastest_call(update, CPU, patience=1.0) == 3.0
    assert next(lasted) == 4.0  # three calls were enough
    assert estimate.fastest_call(update, CPU, patience=1.0) == 20.0  # too long to be made again
    assert next(lasted) == 2.0


@pytest.mark.parametrize(("horizons", "graphs"), [([4, 5, 6], 2), ([4, 4], 1)])
def test_the_graphs_that_are_kept_are_those_of_the_longest_horizon(monkeypatch, horizons, graphs):
    """Two of a horizon that grows, one of a horizon that stays; each as large as imagination's peak."""
    config = load(*SMALL)
    env = factory.make_env(config)
    world_model = factory.make_world_model(config, env.action_spec_unbatched, CPU)
    imagined = factory.make_imagined_env(config, world_model, env.action_spec_unbatched)
    actor = factory.make_actor(config, world_model, env.action_spec_unbatched)
    update, taken = factory.make_policy_update(config, imagined, actor), []
    monkeypatch.setattr(imagined, "imagine", lambda start, policy, horizon: taken.append(horizon))
    monkeypatch.setattr(estimate, "reset_peak_memory", lambda _: None)
    monkeypatch.setattr(estimate, "_held_memory", lambda _: 3 * GB)
    monkeypatch.setattr(estimate, "peak_memory", lambda _: 5 * GB)
    contexts = estimate._blank(env, world_model.in_keys, (8, 6), CPU)
    assert estimate._graph_memory(update, contexts, horizons, CPU) == graphs * 2 * GB
    assert taken == [max(horizons)]
