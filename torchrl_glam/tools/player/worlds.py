"""The two worlds to play in, one step at a time: the real environment, and the imagination of the world model.

``t`` time, ``k c`` categoricals and classes, ``d`` width, ``a`` width of an action, ``n`` numbers of a vector.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import SlidingWindow
from torchrl_glam.modules.autoencoders import Observation
from torchrl_glam.runs.loading import LoadedRun
from torchrl_glam.tools.imagination import decode_observations, is_endless
from torchrl_glam.tools.pictures.frames import to_rgb
from torchrl_glam.tools.pictures.traces import MOST

Context = tuple[Observation, Tensor, Tensor | None]
"""Arguments of ``GLAMImaginedEnv.start``: observations and actions ``[1 t ..]``, and which steps begin an episode."""


@dataclass(frozen=True)
class View:
    """An observation to look at.

    Args:
        picture: uint8 [h w 3]; ``None`` if no pixels are observed.
        vector: its first 16 numbers, ``None`` in place of those that are not finite; ``None`` if there is no vector.
    """

    picture: np.ndarray | None
    vector: list[float | None] | None


def view(observation: TensorDictBase) -> View:
    """Return a single observation as a view."""
    pixels, vector = (observation.get(key, None) for key in ("pixels", "observation"))
    return View(
        None if pixels is None else to_rgb(pixels).cpu().numpy(),
        None if vector is None else [number if math.isfinite(number) else None for number in vector[:MOST].tolist()],
    )


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step.

    Args:
        reward: the real one; ``None`` where the step was imagined.
        predicted_reward: the world model's.
        termination: its probability that the episode (or a life) ends with this step.
        ended: the episode is over.
        life_lost: a life was lost in the real game.
    """

    reward: float | None
    predicted_reward: float
    termination: float
    ended: bool
    life_lost: bool = False


class Agent:
    """A run's networks, asked about a moment: ``state [1 k*c]`` and ``belief [1 d]``."""

    def __init__(self, run: LoadedRun) -> None:
        self.run = run
        self.device = next(run.world_model.parameters()).device
        greedy = run.config.evaluation.greedy
        self._exploration = ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM

    def act(self, moment: TensorDictBase | None) -> Tensor:
        """Choose an action ``[a]`` on the CPU; uniformly before the first step, as :class:`GLAMPolicy` does."""
        if moment is None:
            action = self.run.action_spec.rand()
        else:
            with set_exploration_type(self._exploration):
                action = self.run.actor(moment.clone(recurse=False))["action"][0]
        return action.cpu() if action.is_floating_point() else action.long().cpu()  # OneHot(6).rand() is bool

    def value(self, moment: TensorDictBase | None) -> float | None:
        """Return the critic's value, ``None`` without a critic of states."""
        if moment is None or self.run.critic is None:
            return None
        value = self.run.critic(moment.clone(recurse=False)).get("state_value", None)
        return None if value is None else value.item()

    def predict(self, belief: Tensor) -> tuple[float, float]:
        """Predict the reward and the probability of termination after ``belief [1 d]``."""
        reward, _, _ = self.run.world_model.predict_outcome(belief)
        return reward.item(), self.run.world_model.termination_head(belief).sigmoid().item()

    def decode(self, state: Tensor) -> View:
        """Decode ``state [1 k*c]`` into what the world model sees in it."""
        return view(decode_observations(self.run.world_model, state)[0])


class RealWorld:
    """The real environment, and what :class:`GLAMPolicy` knows of its current frame.

    Args:
        env: of no batch dimensions, with the keys of :func:`torchrl_glam.envs.adapt_env`.
        agent: predicts each step; it does not act.
    """

    def __init__(self, env: EnvBase, agent: Agent) -> None:
        self._env, self._agent, self._policy = env, agent, agent.run.policy
        self._records: deque[TensorDict] = deque(maxlen=agent.run.config.imagination.context_length)
        self.reset()

    def reset(self) -> None:
        """Begin another episode."""
        self._records.clear()
        self._context = self._policy.context_spec.zero([1]).to(self._agent.device)
        self._now = self._env.reset()
        self._before: TensorDictBase | None = None
        self._latent = self._encode()
        self._expected: Tensor | None = None
        self.moment: TensorDict | None = None

    @property
    def now(self) -> View:
        """The current observation."""
        return view(self._now)

    @property
    def aside(self) -> View | None:
        """The observation that the world model expected."""
        return None if self._expected is None else self._agent.decode(self._expected)

    @property
    def steps_seen(self) -> int:
        """The number of steps in :attr:`context`."""
        return len(self._records)

    @property
    def context(self) -> Context:
        """The last observations of this episode, the actions taken at them, and which of them began it."""
        records: TensorDictBase = torch.stack(list(self._records))[None].to(self._agent.device)
        return self._agent.run.world_model.observation(records), records["action"], records["is_init"]

    def step(self, action: Tensor) -> Outcome:
        """Take ``action [a]``."""
        keys, begins = self._agent.run.world_model.observation_keys, torch.tensor([self._before is None])
        seen = self._now.select(*keys).clone()
        self._records.append(TensorDict({**seen, "action": action, "is_init": begins}))
        self._before = seen
        self._context = self._policy.remember(self._context, self._latent, action[None].to(self._agent.device))
        following = self._env.step(self._now.set("action", action))
        self._now, after = self._env.step_mdp(following), following["next"]
        self._latent = self._encode()
        belief, self._expected = self._policy.recall(self._context)
        state = self._expected if self._policy.sees == "prior" else self._latent
        self.moment = TensorDict({"state": state, "belief": belief}, [1])
        ended, life_lost = (after.get(key).any().item() for key in ("done", "life_loss"))
        return Outcome(after["reward"].item(), *self._agent.predict(belief), ended, life_lost)

    def _encode(self) -> Tensor:
        world_model = self._agent.run.world_model
        read = [self._now] if self._before is None or not world_model.sees_differences else [self._now, self._before]
        return world_model.encode(*(world_model.observation(each)[None].to(self._agent.device) for each in read))


class ImaginedWorld:
    """Imagination that starts after a context; it ends only where the world model predicts an end.

    Args:
        agent: has the world model.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._env = make_endless_env(agent.run)

    def begin(self, context: Context, origin: View) -> None:
        """Start after the real steps of ``context``; ``origin`` is the observation that followed."""
        self._context, self.aside = context, origin
        self.reset()

    def reset(self) -> None:
        """Start once more from the same context, with other samples."""
        self._now: TensorDictBase = self._env.start(*self._context)

    @property
    def now(self) -> View:
        """The decoder's view of the current state."""
        return self._agent.decode(self._now["state"])

    @property
    def moment(self) -> TensorDictBase:
        """The current state and belief."""
        return self._now.select("state", "belief")

    def step(self, action: Tensor) -> Outcome:
        """Imagine the step of ``action [a]``."""
        after = self._env.step(self._now.set("action", action[None].to(self._agent.device)))["next"]
        self._now = after.exclude("reward")
        return Outcome(None, *self._agent.predict(after["belief"]), after["terminated"].item())


def make_endless_env(run: LoadedRun) -> GLAMImaginedEnv:
    """Make one imagined environment that can be stepped for longer than the run's sequences.

    A Transformer has no more positions than that, and a class of the user's is checked for no more steps. They restart
    on their last tokens whenever they have seen so many.
    """
    env = run.make_imagined_env(1)
    if is_endless(env.transition.dynamics):
        return env
    window = SlidingWindow(run.world_model.dynamics, run.config.longest_sequence())
    return GLAMImaginedEnv(run.world_model, run.action_spec, batch_size=1, dynamics=window)
