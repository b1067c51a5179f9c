"""Updates and collectors resume from a file as if they had never stopped."""

from __future__ import annotations

import pytest
import torch

from tests.support.configs import load
from tests.support.trained import CPU, OBJECTIVES, SMALL, Trained
from torchrl_glam import factory
from torchrl_glam.config import GLAMConfig
from torchrl_glam.runs.checkpoint import TrainedNetworks, load_networks, read_state, read_weights, write_state

SWAPS = [
    *[[f"objective={name}"] for name in OBJECTIVES],
    ["objective=ppo", "objective.epochs=2", "objective.minibatches=2"],
    ["model_loss.variation_target=features"],
    ["dynamics=storm"],
    ["env.name=tests.support.sensors:Arm-v0"],
    ["env.name=tests.support.sensors:Levers-v0", "world_model.marks_starts=true"],
]


@pytest.mark.parametrize("swap", SWAPS, ids=lambda swap: " ".join(swap))
def test_updates_resume(tmp_path, swap):
    """Every number of the next update: slow critics, norms, optimizers and imagined transitions are all there."""
    first = Trained(*swap)
    for _ in range(3):
        first.update()
    networks = {"world_model": first.world_model, **first.update_policy.networks}
    TrainedNetworks(networks, first.imagined.action_spec, 3).write(tmp_path / "weights")
    state = {"model": first.update_world_model.state_dict(), "policy": first.update_policy.state_dict()}
    write_state(tmp_path / "state", {**state, "random": torch.get_rng_state()})
    wanted = [first.update_world_model(first.sequences.sample())[0], first.update()]

    other = Trained(*swap, "seed=1")
    for _ in range(2):
        other.update()  # whatever it has done before is gone
    load_networks(
        {"world_model": other.world_model, **other.update_policy.networks},
        read_weights(tmp_path / "weights"),
    )
    state = read_state(tmp_path / "state")
    other.update_world_model.load_state_dict(state["model"])
    other.update_policy.load_state_dict(state["policy"])
    other.sequences, other.contexts = first.sequences, first.contexts
    torch.set_rng_state(state["random"])
    found = [other.update_world_model(other.sequences.sample())[0], other.update()]
    for terms, same in zip(wanted, found, strict=True):
        assert {key: value.item() for key, value in terms.items()} == {key: value.item() for key, value in same.items()}


def make_collector(config: GLAMConfig):
    factory.set_seeds(0)
    env = factory.make_env(config)
    world_model = factory.make_world_model(config, env.action_spec_unbatched, CPU, **factory.observed_sizes(env))
    actor = factory.make_actor(config, world_model, env.action_spec_unbatched)
    policy = factory.make_policy(config, world_model, actor, env.action_spec_unbatched)
    return factory.make_collector(config, env, policy)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["training.overlap=true"],
        ["env.num_envs=2"],
        ["env.name=tests.support.games:SteerBall-v0"],
        ["env.name=ALE/Pong-v5"],
        ["env.name=tests.support.sensors:Arm-v0"],
        ["env.name=tests.support.sensors:Levers-v0", "env.num_envs=2"],
    ],
    ids=["plain", "overlapped", "two", "continuous", "atari", "mixed", "two vectors"],
)
@pytest.mark.parametrize("stop", [5, 60, 80])
def test_collectors_resume(tmp_path, options, stop):
    """In the random warm-up (to step 40) and after it, when episodes have ended; a step that is under way too."""
    config = load(*SMALL, "total_frames=80", "training.warmup_frames=40", *options)
    stop //= config.env.num_envs
    collector = make_collector(config)
    wanted, state = [], None
    for number, step in enumerate(collector):
        wanted.append(step.clone())
        if number + 1 == stop:
            write_state(tmp_path / "state", {"collector": collector.state_dict(), "random": torch.get_rng_state()})
    collector.shutdown()

    other = make_collector(config)
    state = read_state(tmp_path / "state")
    other.load_state_dict(state["collector"])
    torch.set_rng_state(state["random"])
    found = [step.clone() for step in other]
    other.shutdown()
    assert len(found) == len(wanted) - stop
    for one, same in zip(wanted[stop:], found, strict=True):
        assert set(one.keys(True, True)) == set(same.keys(True, True))
        assert (one == same).all()
