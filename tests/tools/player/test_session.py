"""The game without the web: what is played, imagined and shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.envs import RewardScaling

from torchrl_glam import factory
from torchrl_glam.errors import UsageError
from torchrl_glam.modules import SlidingWindow
from torchrl_glam.tools.player.session import Session, make_session
from torchrl_glam.tools.player.worlds import make_endless_env

LEFT, RIGHT = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1])


def play(session, *actions):
    """Take the actions, and return what was seen after each."""
    moments = []
    for action in actions:
        session.step(action)
        moments.append(session.observe())
    return moments


@pytest.fixture
def session(make_run):
    session = make_session(make_run(), seed=3)
    yield session
    session.close()


def test_the_real_game_is_the_environment(session):
    env = factory.make_env(replace(session.run.config, seed=3))
    step, score = env.reset(), 0.0
    assert np.array_equal(session.observe().picture, step["pixels"])
    for number, action in enumerate([LEFT, RIGHT, RIGHT] * 6, 1):
        (moment,) = play(session, action)
        step = env.step(step.set("action", action))["next"]
        score += step["reward"].item()
        assert np.array_equal(moment.picture, step["pixels"])
        assert (moment.mode, moment.steps, moment.score) == ("real", number, score)
        assert (moment.reward, moment.action) == (step["reward"].item(), str(action.argmax().item()))


@pytest.mark.parametrize("sees", ["prior", "posterior"])
@pytest.mark.parametrize("number", [3, 8])
def test_the_world_model_looks_on_as_the_policy_does(make_run, monkeypatch, sees, number):
    """What is said of a real step rests on the belief that GLAMPolicy has after it, in any episode."""
    run = make_run(f"agent.sees={sees}", "agent.context_length=5")

    def encode(pixels):
        """The most likely latent, so that both have the same."""
        logits, _ = run.world_model.encoder(pixels[None].flatten(0, -4))
        latents = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).float()
        return latents.reshape(*pixels.shape[:-3], -1)

    monkeypatch.setattr(run.world_model, "encode", encode)
    session = make_session(run)
    play(session, *[RIGHT] * 7)
    session.restart()
    actions = [LEFT, RIGHT, RIGHT, LEFT, LEFT, LEFT, LEFT, RIGHT][:number]
    frames = [session.observe().picture, *(moment.picture for moment in play(session, *actions))]

    told, length = {}, min(number, 5)

    def act(state, belief):
        told.update(state=state, belief=belief)
        return LEFT

    run.policy.actor = TensorDictModule(act, in_keys=["state", "belief"], out_keys=["action"])
    frames = torch.from_numpy(np.stack(frames))
    latents = encode(frames[:-1])[-length:].unflatten(-1, run.world_model.latent_shape)
    states, taken = latents.argmax(-1), torch.stack(actions).float()[-length:]
    pad = (0, 0, 0, 5 - length)
    context = {"state": torch.nn.functional.pad(states, pad), "action": torch.nn.functional.pad(taken, pad)}
    step = TensorDict({"pixels": frames[-1], "context": {**context, "length": torch.tensor([length])}})
    with torch.no_grad():
        run.policy(step)
        moment = session.observe()
        reward, _, _ = run.world_model.predict_outcome(told["belief"])
    shown = session._real.moment
    torch.testing.assert_close(shown["belief"][0], told["belief"])
    assert moment.predicted_reward == pytest.approx(reward.item(), rel=1e-4)
    assert torch.equal(shown["state"][0], encode(frames[-1])) == (sees == "posterior")
    assert moment.aside.shape == moment.picture.shape


def test_nothing_is_predicted_before_the_first_step(session):
    moment = session.observe()
    assert (moment.aside, moment.reward, moment.predicted_reward, moment.termination, moment.value) == (None,) * 5
    session.step(None)  # the agent knows nothing either
    assert session.observe().value is not None


def test_imagination_goes_on_from_what_was_seen(session):
    frames = [session.observe().picture, *(moment.picture for moment in play(session, *[LEFT] * 4, *[RIGHT] * 4))]
    torch.manual_seed(1)
    session.switch()
    moments = [session.observe(), *play(session, LEFT, RIGHT)]

    imagined = session.run.make_imagined_env(1)
    pixels = torch.from_numpy(np.stack(frames[2:8]))[None]  # imagination.context_length=6
    actions = torch.stack([LEFT] * 2 + [RIGHT] * 4)[None]
    torch.manual_seed(1)
    with torch.no_grad():
        step = imagined.start(pixels, actions)
        for moment, action in zip(moments, [LEFT, RIGHT, None], strict=True):
            decoded = session.run.world_model.decoder(step["state"])[0].movedim(0, -1).clamp(0, 1) * 255
            assert np.abs(moment.picture - decoded.numpy()).max() <= 0.51
            value = session.run.critic(step.select("state", "belief"))["state_value"].item()
            assert moment.value == pytest.approx(value)
            if "reward" in step:
                assert moment.predicted_reward == pytest.approx(step["reward"].item())
                assert moment.termination < 1e-6
            if action is not None:
                step = imagined.step(step.set("action", action[None]))["next"]
    assert moments[0].steps == 0
    assert "last 6 real frames" in moments[0].event
    assert np.array_equal(moments[-1].aside, frames[-1])
    assert moments[-1].mode == "imagined"
    assert moments[-1].reward is None
    assert moments[-1].score == pytest.approx(sum(moment.predicted_reward for moment in moments[1:]))


def test_the_real_game_stands_still_during_imagination(session, make_run):
    alone = make_session(make_run(), seed=3)
    before = play(session, *[LEFT] * 5)[-1]
    session.switch()
    play(session, *[RIGHT] * 7)
    session.switch()
    after = session.observe()
    assert np.array_equal(after.picture, before.picture)
    assert (after.mode, after.steps, after.reward) == ("real", 5, before.reward)
    wanted = play(alone, *[LEFT] * 5, *[RIGHT] * 20)[-1]
    came = play(session, *[RIGHT] * 20)[-1]
    assert np.array_equal(came.picture, wanted.picture)
    assert (came.steps, came.score) == (25, wanted.score)


def test_imagination_begun_too_early_gets_its_context(session):
    session.switch()
    moment = session.observe()
    assert "4 real frames, 4 of them just now" in moment.event
    session.switch()
    assert session.observe().steps == 4


def test_imagination_knows_the_current_episode_alone(session):
    play(session, *[LEFT] * 9)
    session.restart()
    play(session, *[LEFT] * 5)
    session.switch()
    assert session.observe().event.endswith("after the last 5 real frames.")


def test_the_end_of_an_episode_and_the_next(session):
    moments = play(session, *[LEFT] * 60)  # five balls of 12 steps
    assert [moment.ended for moment in moments] == [False] * 59 + [True]
    assert moments[-1].event == f"The episode ended at step 60 with a score of {moments[-1].score:g}."
    (moment,) = play(session, LEFT)
    assert (moment.steps, moment.score, moment.ended, moment.event) == (0, 0.0, False, "A new episode.")
    assert moment.predicted_reward is None


def test_imagination_after_the_end_of_an_episode(session):
    play(session, *[LEFT] * 60)
    session.switch()
    assert not play(session, RIGHT)[-1].ended
    session.switch()
    assert session.observe().ended


def test_restarts(session):
    play(session, *[LEFT] * 20)
    session.switch()
    first = session.observe()
    play(session, *[LEFT] * 3)
    session.restart()
    again = session.observe()
    assert (again.mode, again.steps, again.score) == ("imagined", 0, 0.0)
    assert np.array_equal(again.aside, first.aside)
    session.switch()
    session.restart()
    moment = session.observe()
    assert (moment.mode, moment.steps, moment.event) == ("real", 0, "A new episode.")


def test_imagination_goes_on_beyond_an_end_that_it_predicts(session):
    session.switch()
    session.run.world_model.termination_head.logit.bias.data.fill_(100.0)
    (moment,) = play(session, LEFT)
    assert moment.ended
    assert moment.termination == pytest.approx(1.0)
    assert "predicts that the episode, or a life, ends" in moment.event
    session.run.world_model.termination_head.logit.bias.data.fill_(-100.0)
    (moment,) = play(session, LEFT)
    assert (moment.ended, moment.steps) == (False, 2)


@pytest.mark.parametrize("imagined", [False, True])
def test_the_agent_acts_on_what_it_sees(session, imagined):
    """An actor that always goes right, and one that always goes left."""
    play(session, *[LEFT] * 5)
    if imagined:
        session.switch()
    output = session.run.actor.module[0].module.output
    output.weight.data.zero_()
    for favourite in (1, 2):
        output.bias.data.copy_(100.0 * torch.eye(3)[favourite])
        assert {moment.action for moment in play(session, *[None] * 4)} == {str(favourite)}


THEIRS = "tests.whole.swaps.test_classes.Recurrent"


@pytest.mark.parametrize("dynamics", ["glam", "storm", "double_transformer", THEIRS])
def test_one_can_stay_in_imagination_for_longer_than_a_run_does(make_run, dynamics):
    session = make_session(make_run(f"dynamics={dynamics}"))
    session.switch()
    moment = play(session, *[LEFT] * 70)[-1]  # a Transformer has 64 positions, or fewer
    assert moment.steps == 70
    assert np.isfinite(moment.value)


def test_a_run_with_a_sliding_memory_imagines_with_it(make_run):
    run = make_run("imagination.memory=sliding", "imagination.window=4")
    window = make_endless_env(run).transition.dynamics
    assert (type(window), window.window) == (SlidingWindow, 4)


def test_continuous_actions(make_run):
    session = make_session(make_run("env.name=tests.support.games:SteerBall-v0"))
    right, agents = play(session, session.controls.action({"ArrowRight"}), None)
    assert right.action == "+1.00"
    assert -1 <= float(agents.action) <= 1
    session.switch()
    assert play(session, session.controls.action({"KeyA"}))[0].action == "-1.00"


def test_lives(make_run):
    session = make_session(make_run("env.name=tests.support.games:CountingGame-v0"))
    session.restart()
    events = [moment.event for moment in play(session, *[session.controls.action({"Space"})] * 3)]
    assert "Step 3: a life was lost." in events
    assert session.controls.names == ["NOOP", "FIRE", "LEFT", "RIGHT"]


def test_what_is_not_finite_is_not_shown(make_run):
    session = make_session(make_run())
    session.env.append_transform(RewardScaling(torch.nan, 1.0))
    (moment,) = play(session, LEFT)
    assert moment.reward is None
    assert moment.predicted_reward is not None


def replace_env(run, name):
    return replace(run, config=replace(run.config, env=replace(run.config.env, name=name)))


def test_a_run_without_a_critic(make_run):
    session = make_session(replace(make_run(), critic=None))
    assert play(session, LEFT)[0].value is None


def test_an_environment_without_a_name_leaves_imagination(make_run):
    """A run on an environment of somebody's own: its records are there."""
    run = replace_env(make_run(), "my-own-game")
    session = make_session(run)
    first = session.observe()
    assert first.mode == "imagined"
    assert "6 recorded frames" in first.event
    play(session, LEFT)
    session.switch()
    other = session.observe()
    assert (other.mode, other.steps) == ("imagined", 0)
    assert not np.array_equal(other.aside, first.aside)


@pytest.mark.parametrize("name", ["my-own-game", "tests.support.games:SteerBall-v0"])
def test_without_records_there_is_nothing_to_play(make_run, tmp_path, name):
    run = replace(replace_env(make_run(), name), folder=tmp_path)
    with pytest.raises(
        UsageError, match=rf"{name}.*; to play only in imagination, the run's replay is needed.*has none$"
    ):
        make_session(run)


def test_a_session_of_nothing(make_run):
    with pytest.raises(UsageError, match="no real environment and no recorded episode"):
        Session(make_run(), None)


def test_a_negative_seed(make_run):
    with pytest.raises(UsageError, match="seed=-1: give a whole number of at least 0"):
        make_session(make_run(), seed=-1)
