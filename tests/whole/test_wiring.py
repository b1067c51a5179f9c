"""How options of speed reach what they switch; on a CPU, with stand-ins where a GPU would be."""

from __future__ import annotations

import runpy
import sys
import threading
import warnings
from unittest.mock import Mock

import pytest
import torch
from tensordict import TensorDict

from tests.support.configs import SPEC, TINY, load, tiny_world_model
from tests.support.paths import CONFIGS
from torchrl_glam import factory
from torchrl_glam.command import cli
from torchrl_glam.data import OverlappedCollector, ResumableCollector
from torchrl_glam.factory import networks, real, updates

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GAME = "env.name=tests.support.games:CatchBall-v0"


def spy(monkeypatch, module, name):
    """Let ``module.name`` note its keyword arguments, in the dictionary returned, and go on."""
    came, original = {}, getattr(module, name)

    def noting(*args, **options):
        came.update(options)
        return original(*args, **options)

    monkeypatch.setattr(module, name, noting)
    return came


def make_trainers(config):
    """World model, imagined environment, actor, critic and the two updates."""
    world_model = tiny_world_model(config)
    env = factory.make_imagined_env(config, world_model, SPEC)
    actor = factory.make_actor(config, world_model, SPEC)
    update_policy = factory.make_policy_update(config, env, actor)
    update_world_model = factory.make_world_model_update(config, world_model)
    return world_model, env, actor, update_policy.objective.critic, (update_world_model, update_policy)


def make_acting(config):
    """Real environment, actor and policy."""
    env = factory.make_env(config)
    world_model = factory.make_world_model(config, env.action_spec, CPU)
    actor = factory.make_actor(config, world_model, env.action_spec)
    return env, actor, factory.make_policy(config, world_model, actor, env.action_spec)


@pytest.mark.parametrize(("overlap", "behind"), [("true", 1), ("false", 0)])
def test_the_collector_acts_by_the_weights_as_they_are_trained(overlap, behind):
    schedule = ["total_frames=12", "training.warmup_frames=2"]
    config = load("preset=debug", *TINY, GAME, *schedule, f"training.overlap={overlap}")
    env, actor, policy = make_acting(config)
    collector = factory.make_collector(config, env, policy)
    bias = [parameter for parameter in actor.parameters() if parameter.shape == (3,)][-1]
    taken, wanted = [], []
    for frame, step in enumerate(collector):
        taken.append(int(step["action"].argmax()))
        wanted.append(frame % 3)
        with torch.no_grad():  # what an update would do, but certain
            bias.copy_(1e4 * torch.eye(3)[(frame + 1) % 3])
    collector.shutdown()
    assert taken[3:] == wanted[3 - behind : 12 - behind]


@pytest.mark.parametrize(("overlap", "wanted"), [("true", OverlappedCollector), ("false", ResumableCollector)])
def test_overlap_chooses_the_collector(overlap, wanted):
    schedule = ["total_frames=6", "training.warmup_frames=4"]
    config = load("preset=debug", *TINY, GAME, *schedule, f"training.overlap={overlap}")
    (env, _, policy), acted = make_acting(config), []
    policy.register_forward_pre_hook(lambda *_: acted.append(1))
    collector = factory.make_collector(config, env, policy)
    assert type(collector) is wanted
    acted.clear()  # torchrl's tries the policy out
    assert len(list(collector)) == 6
    assert len(acted) == 6 - 4
    collector.shutdown()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_reaches_both_updates(make_batch, precision):
    config = load("preset=paper", *TINY, f"training.precision={precision}")
    world_model, _, actor, critic, updates = make_trainers(config)
    seen = []

    def look(*_):
        seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32)

    batch = make_batch(2, 8, (64, 64, 3))
    for module, run in (
        (world_model.encoder.convolutions, lambda: updates[0](batch)),
        (actor, lambda: updates[1](batch, 2)),
        (critic, lambda: updates[1](batch, 2)),
    ):
        handle = module.register_forward_pre_hook(look)
        run()
        handle.remove()
        assert seen
        assert set(seen) == {getattr(torch, precision)}
        seen.clear()
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("compiled", [True, False])
def test_compile_reaches_imagination_and_on_cuda_the_updates(monkeypatch, compiled):
    """``torch.compile`` itself compiles nothing before the first call."""
    config = load("preset=paper", *TINY, f"training.compile={compiled}")
    imagined = spy(monkeypatch, networks, "GLAMImaginedEnv")
    model = spy(monkeypatch, updates, "WorldModelUpdate")
    *_, (_, policy) = make_trainers(config)
    assert imagined["compiled"] is compiled
    assert (model["compile"], policy.objective.compile) == (False, False)
    assert updates.compiles_updates(config, CUDA) is compiled


def test_the_precision_of_matrix_products_is_set_on_cuda_only(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", chosen.append)
    for options in ((), ("training.matmul=high",)):
        for device in (CPU, CUDA):
            updates.set_matmul_precision(load(*TINY, *options), device)
    assert chosen == ["highest", "high"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        updates.set_matmul_precision(load(*TINY), CUDA)
        warnings.warn(
            "TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled.", stacklevel=2
        )


@pytest.mark.parametrize(
    ("device", "place", "ring", "pinned"),
    [
        (CPU, "auto", CPU, False),
        (CPU, "device", CPU, False),
        (CPU, "host", CPU, False),
        (CUDA, "auto", CUDA, False),
        (CUDA, "device", CUDA, False),
        (CUDA, "host", CPU, True),
    ],
)
def test_place_of_the_replay(monkeypatch, device, place, ring, pinned):
    """Memory is pinned, and a thread gathers, where batches go from main memory to a GPU."""
    config = load("preset=debug", *TINY, GAME, f"replay.device={place}")
    came = {}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**12, 10**12))
    monkeypatch.setattr(real, "make_replay_views", lambda _, **options: came.update(options) or ("long", "short"))
    monkeypatch.setattr(real, "Prefetcher", lambda *args, **options: (*args, options))
    sequences, contexts = factory.make_replay(config, factory.make_env(config), device)
    assert (came["device"], came["pin_memory"]) == (ring, pinned)
    assert (sequences, contexts) == ("long", ("short", device, {"threaded": pinned}))


@pytest.mark.parametrize("place", ["auto", "device", "host"])
def test_a_replay_on_a_cpu_has_no_thread(place):
    config = load("preset=debug", *TINY, GAME, f"replay.device={place}")
    env = factory.make_env(config)
    sequences, contexts = factory.make_replay(config, env, CPU)
    sequences.extend(env.rollout(30))
    contexts.draw()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]
    for batch in (sequences.sample(), contexts.sample()):
        assert {value.device for value in batch.values(True, True)} == {CPU}
        assert not batch["pixels"].is_pinned()


@pytest.mark.parametrize("keep", [True, False])
def test_keep_memory_is_done_by_the_command_line_first(monkeypatch, keep):
    happened = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: happened.append("kept"))
    monkeypatch.setattr(sys, "argv", ["glam_atari", "preset=debug", f"training.keep_memory={keep}"])
    cli.command_line(CONFIGS, "glam_atari")(lambda config: happened.append("run"))()
    assert happened == (["kept", "run"] if keep else ["run"])


def test_several_environments_reach_the_collector_and_the_replay_but_not_the_evaluation():
    config = load("preset=debug", *TINY, GAME, "env.num_envs=4")
    env, single = factory.make_env(config), factory.make_evaluation_env(config)
    assert (env.batch_size, single.batch_size) == ((4,), ())
    sequences, _ = factory.make_replay(config, env, CPU)
    world_model = factory.make_world_model(config, env.action_spec_unbatched, CPU)
    actor = factory.make_actor(config, world_model, env.action_spec_unbatched)
    policy = factory.make_policy(config, world_model, actor, env.action_spec_unbatched)
    batches = []
    for batch in factory.make_collector(config, env, policy):
        sequences.extend(batch)
        batches.append(batch)
    assert {batch.shape for batch in batches} == {(4, 1)}
    assert len(batches) == config.total_frames // 4
    assert len(sequences) == config.total_frames
    assert sequences.sample().shape == (6, config.replay.batch_length)


def test_several_environments_get_one_update_for_each_of_their_steps(monkeypatch, tmp_path):
    """The whole example, with updates that only count; the horizon goes by the step's own number."""
    updates, horizons = [], []

    def note(notes, name, *rest):
        metrics = TensorDict({name: torch.tensor(0.0)})
        update = Mock(
            side_effect=lambda *came: notes.append(came[-1]) or ((metrics.copy(), *rest) if rest else metrics)
        )
        update.state_dict.return_value = {}
        return update

    def make_world_model_update(config, world_model):
        return note(updates, "loss_reward", None)

    def make_policy_update(config, env, actor):
        update = note(horizons, "loss_critic")
        update.networks = {"actor": actor}
        update.objective = Mock(networks=update.networks, shown={"loss_critic": "critic"})
        return update

    monkeypatch.setattr(factory, "make_world_model_update", make_world_model_update)
    monkeypatch.setattr(factory, "make_policy_update", make_policy_update)
    monkeypatch.setattr("torchrl_glam.runs.estimate.estimate_seconds", lambda *_: 0.0)
    growth = ["imagination.horizon_step=1", "imagination.horizon_every=1", "imagination.horizon_max=1000"]
    options = ["preset=debug", GAME, "env.num_envs=4", *growth, f"run_dir={tmp_path / 'run'}"]
    monkeypatch.setattr(sys, "argv", ["glam_atari", *options, "training.world_model_every=2"])
    runpy.run_path(str(CONFIGS.parent / "examples" / "glam_atari.py"), run_name="__main__")
    assert horizons == [4 + frame for frame in range(101, 161)]
    assert len(updates) == 30
