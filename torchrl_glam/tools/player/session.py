"""One person's game: two worlds, one of them shown, and the numbers beside its picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrl.envs import EnvBase

from torchrl_glam import factory
from torchrl_glam.errors import UsageError
from torchrl_glam.runs.checkpoint.replay_files import REPLAY
from torchrl_glam.runs.loading import LoadedRun
from torchrl_glam.runs.records import RecordedWindows
from torchrl_glam.tools.player.controls import Controls, action_meanings
from torchrl_glam.tools.player.worlds import Agent, Context, ImaginedWorld, Outcome, RealWorld, View, view

REAL, IMAGINED = "real", "imagined"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The course of an episode or of an imagination.

    Args:
        event: a sentence about the last thing that happened.
        steps, score: since the beginning; an imagined score is that of predicted rewards.
        action: the name of the last one.
        reward: of the last step; ``None`` in imagination and before the first step.
        predicted_reward, termination: the world model's predictions for the last step.
        ended: the last step ended the episode.
    """

    event: str
    steps: int = 0
    score: float = 0.0
    action: str = ""
    reward: float | None = None
    predicted_reward: float | None = None
    termination: float | None = None
    ended: bool = False


@dataclass(frozen=True, kw_only=True)
class Moment(Tally):
    """Everything that is to be seen of a session at one time.

    Args:
        mode: ``real`` or ``imagined``.
        picture: uint8 [h w 3]; ``None`` if no pixels are observed.
        aside: in the real game the frame that the world model expected, ``None`` before the first step; in imagination
            the real frame at which it began.
        vector, vector_aside: the same of a vector, its first 16 numbers; ``None`` if there is none.
        value: of the current state; ``None`` without a critic of states, and before the first step.
    """

    mode: str
    picture: np.ndarray | None
    aside: np.ndarray | None
    value: float | None
    vector: list[float | None] | None = None
    vector_aside: list[float | None] | None = None


class Session:
    """The real game and the imagined one. Not safe for use by two threads at once.

    Args:
        run: its world model imagines, its agent can play.
        env: the real environment, without batch dimensions; it waits during imagination. With ``None`` there is only
            imagination.
        windows: recorded steps, from which imagination starts where there is no environment.

    Raises:
        UsageError: if there is neither an environment nor a recorded episode of two steps.
    """

    def __init__(self, run: LoadedRun, env: EnvBase | None, windows: RecordedWindows | None = None) -> None:
        self.run, self.env, self._windows = run, env, windows
        self.controls = Controls(run.action_spec, action_meanings(env))
        self._agent = Agent(run)
        self._tallies: dict[str, Tally] = {}
        with torch.no_grad():
            self._imagined = ImaginedWorld(self._agent)
            self._real = None if env is None else RealWorld(env, self._agent)
            self.mode = REAL
            if self._real is None:
                self._imagine()
            else:
                self._tallies[REAL] = Tally(event="A new episode.")

    def close(self) -> None:
        """Close the environment."""
        if self.env is not None and not self.env.is_closed:
            self.env.close()

    @property
    def _world(self) -> RealWorld | ImaginedWorld:
        return self._real if self.mode == REAL and self._real is not None else self._imagined

    @torch.no_grad()
    def step(self, action: Tensor | None) -> None:
        """Take ``action [a]``, or the agent's own if ``None``.

        After the end of a real episode this begins another one; imagination continues beyond an end.
        """
        tally, world = self._tallies[self.mode], self._world
        if self.mode == REAL and tally.ended:
            self.restart()
            return
        action = self._agent.act(world.moment) if action is None else action
        outcome = world.step(action)
        steps = tally.steps + 1
        score = tally.score + (outcome.predicted_reward if outcome.reward is None else outcome.reward)
        self._tallies[self.mode] = Tally(
            event=_say(outcome, self.mode, steps, score) or tally.event,
            steps=steps,
            score=score,
            action=self.controls.name(action),
            reward=_finite(outcome.reward),
            predicted_reward=_finite(outcome.predicted_reward),
            termination=_finite(outcome.termination),
            ended=outcome.ended,
        )

    @torch.no_grad()
    def switch(self) -> None:
        """Start imagination from the last real frames, or return to the real game where it stood."""
        if self.mode == REAL or self._real is None:  # without a real game, from another window
            self._imagine()
        else:
            self.mode = REAL
            self._tallies[REAL] = replace(self._tallies[REAL], event="Back in the real game, where it stood.")

    @torch.no_grad()
    def restart(self) -> None:
        """Begin another real episode, or the same imagination once more."""
        self._world.reset()
        event = "A new episode." if self.mode == REAL else "Imagined once more from the same frames."
        self._tallies[self.mode] = Tally(event=event)

    @torch.no_grad()
    def observe(self) -> Moment:
        """Return what is to be seen now."""
        world, value = self._world, _finite(self._agent.value(self._world.moment))
        shown: dict[str, Any] = vars(self._tallies[self.mode])
        now, aside = world.now, world.aside or View(None, None)
        return Moment(
            **shown,
            picture=now.picture,
            aside=aside.picture,
            vector=now.vector,
            vector_aside=aside.vector,
            mode=self.mode,
            value=value,
        )

    def _imagine(self) -> None:
        """Start imagination after the last real frames, or after recorded ones if there is no real game."""
        if self._real is None:
            context, origin = self._recorded_context()
            event = f"Imagined from here on, after {context[0].shape[1]} recorded frames."
        else:
            idle = self._make_context(self._real)
            context, origin = self._real.context, self._real.now
            event = f"Imagined from here on, after the last {context[0].shape[1]} real frames"
            event += f", {idle} of them just now without a key." if idle else "."
        self._imagined.begin(context, origin)
        self.mode = IMAGINED
        self._tallies[IMAGINED] = Tally(event=event)

    def _make_context(self, world: RealWorld) -> int:
        """Play without a key until the world model's predictions count; return the number of steps."""
        wanted, idle = self.run.config.model_loss.first_valid + 1, 0
        while world.steps_seen < wanted and not self._tallies[REAL].ended:
            self.step(self.controls.action(()))
            idle += 1
        return idle

    def _recorded_context(self) -> tuple[Context, View]:
        """Return consecutive recorded observations with their actions, and the observation that followed."""
        longest = 0 if self._windows is None else self._windows.longest
        length = min(self.run.config.imagination.context_length + 1, longest)
        if self._windows is None or length < 2:
            raise UsageError("there is no real environment and no recorded episode of 2 steps to imagine from")
        starts = self._windows.starts(length)
        records = self._windows.read(int(starts[torch.randint(len(starts), ())]), length)
        context = records[None, :-1].to(self._agent.device)
        return (self.run.world_model.observation(context), context["action"], None), view(records[-1])


def make_session(run: LoadedRun, seed: int = 0) -> Session:
    """Make a session in the run's own environment or, where its name makes none, only in imagination, from its records.

    Args:
        run: from :func:`torchrl_glam.runs.loading.load_run`.
        seed: of the environment and of all samples.

    Raises:
        UsageError: if there are no records either, or the seed is negative.
    """
    if seed < 0:
        raise UsageError(f"seed={seed}: give a whole number of at least 0")
    factory.set_seeds(seed)
    config = replace(run.config, seed=seed, env=replace(run.config.env, num_envs=1))
    try:
        env = factory.make_env(config)
        if (env.action_spec.shape, env.action_spec.domain) != (run.action_spec.shape, run.action_spec.domain):
            raise UsageError(f"env.name={config.env.name} has other actions than the run's environment")
    except UsageError as error:
        if not (run.folder / REPLAY).is_dir():
            raise UsageError(
                f"{error}; to play only in imagination, the run's replay is needed, and {run.folder} has none"
            ) from error
        return Session(run, None, RecordedWindows(run.folder, run.config.env.num_envs))
    return Session(run, env)


def _finite(number: float | None) -> float | None:
    """Return ``None`` in place of NaN and infinities, which JSON lacks."""
    return number if number is not None and math.isfinite(number) else None


def _say(outcome: Outcome, mode: str, step: int, score: float) -> str:
    """Describe the event of a step; empty without one."""
    if outcome.ended and mode == REAL:
        return f"The episode ended at step {step} with a score of {score:g}."
    if outcome.ended:
        return f"Step {step}: the world model predicts that the episode, or a life, ends here."
    if outcome.life_lost:
        return f"Step {step}: a life was lost."
    if outcome.reward:
        return f"Step {step}: reward {outcome.reward:+g}."
    return ""
