"""The two worlds to play in, one step at a time: the real environment, and the one that the world model imagines.

``t`` time, ``k c`` categoricals and classes, ``d`` width, ``a`` width of an action.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs import EnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from torchrl_glam.config import GROUPS
from torchrl_glam.envs import GLAMImaginedEnv
from torchrl_glam.modules import SlidingWindow
from torchrl_glam.runs.loading import LoadedRun


@dataclass(frozen=True)
class Outcome:
    """What a step brought.

    Args:
        reward: the real one; ``None`` where the step was imagined.
        predicted_reward: the world model's.
        termination: its probability that the episode (or a life) ends with this step.
        ended: the episode is over.
        life_lost: the real game says so.
    """

    reward: float | None
    predicted_reward: float
    termination: float
    ended: bool
    life_lost: bool = False


class Agent:
    """What the networks of a run say of a moment, which is ``state [1 k*c]`` and ``belief [1 d]``."""

    def __init__(self, run: LoadedRun) -> None:
        self.run = run
        self.device = next(run.world_model.parameters()).device
        greedy = run.config.evaluation.greedy
        self._exploration = ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM

    def act(self, moment: TensorDictBase | None) -> Tensor:
        """An action ``[a]`` on the CPU; uniform if nothing is known yet, as :class:`GLAMPolicy` has it."""
        if moment is None:
            action = self.run.action_spec.rand()
        else:
            with set_exploration_type(self._exploration):
                action = self.run.actor(moment.clone(recurse=False))["action"][0]
        return action.cpu() if action.is_floating_point() else action.long().cpu()  # not bool, as OneHot(6).rand() is

    def value(self, moment: TensorDictBase | None) -> float | None:
        """The critic's value, if there is one."""
        if moment is None or self.run.critic is None:
            return None
        return self.run.critic(moment.clone(recurse=False))["state_value"].item()

    def predict(self, belief: Tensor) -> tuple[float, float]:
        """Reward and probability of termination after ``belief [1 d]``."""
        reward, _, _ = self.run.world_model.predict_outcome(belief)
        return reward.item(), self.run.world_model.termination_head(belief).sigmoid().item()

    def draw(self, state: Tensor) -> np.ndarray:
        """The decoder's picture of ``state [1 k*c]``, uint8 [h w channels]."""
        picture = self.run.world_model.decoder(state)[0].movedim(0, -1)
        return picture.clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


class RealWorld:
    """The real environment, and what the world model expects of it, as :class:`GLAMPolicy` does.

    Args:
        env: of no batch dimensions, with the keys of :func:`torchrl_glam.envs.adapt_env`.
        agent: looks on.
    """

    def __init__(self, env: EnvBase, agent: Agent) -> None:
        self._env, self._agent, run = env, agent, agent.run
        remembered, imagined = run.config.agent.context_length, run.config.imagination.context_length
        self._tokens: deque[tuple[Tensor, Tensor]] = deque(maxlen=remembered)  # z_t, a_t
        self._records: deque[tuple[Tensor, Tensor]] = deque(maxlen=imagined)  # x_t, a_t
        self.reset()

    def reset(self) -> None:
        """Begin another episode."""
        self._tokens.clear()
        self._records.clear()
        self._now = self._env.reset()
        self._latent = self._encode()
        self._expected: Tensor | None = None
        self.moment: TensorDict | None = None

    @property
    def picture(self) -> np.ndarray:
        """The current frame, uint8 [h w channels]."""
        return self._now["pixels"].cpu().numpy()

    @property
    def aside(self) -> np.ndarray | None:
        """The frame that the world model expected."""
        return None if self._expected is None else self._agent.draw(self._expected)

    @property
    def steps_seen(self) -> int:
        """How many steps :attr:`context` has."""
        return len(self._records)

    @property
    def context(self) -> tuple[Tensor, Tensor]:
        """The last frames ``[1 t h w channels]`` of this episode and the actions taken at them ``[1 t a]``."""
        pixels, actions = zip(*self._records, strict=True)
        device = self._agent.device
        return torch.stack(pixels)[None].to(device), torch.stack(actions)[None].to(device)

    def step(self, action: Tensor) -> Outcome:
        """Take ``action [a]``."""
        self._records.append((self._now["pixels"].clone(), action))
        self._tokens.append((self._latent[0], action.to(self._agent.device)))
        following = self._env.step(self._now.set("action", action))
        self._now = self._env.step_mdp(following)
        after = following["next"]
        self._latent = self._encode()
        belief = self._recall()
        predicted, termination = self._agent.predict(belief)
        return Outcome(
            after["reward"].item(), predicted, termination, after["done"].any().item(), after["life_loss"].any().item()
        )

    def _recall(self) -> Tensor:
        """Belief ``[1 d]`` after the steps remembered; from here on that is what is known of the current frame."""
        run = self._agent.run
        states, actions = (torch.stack(entries)[None] for entries in zip(*self._tokens, strict=True))
        belief, _ = run.world_model.dynamics.prefill(run.world_model.embedding(states, actions))
        self._expected = run.world_model.predict_state(belief)
        state = self._expected if run.policy.sees == "prior" else self._latent
        self.moment = TensorDict({"state": state, "belief": belief}, [1])
        return belief

    def _encode(self) -> Tensor:
        return self._agent.run.world_model.encode(self._now["pixels"][None].to(self._agent.device))


class ImaginedWorld:
    """Imagination from one context on; without an end, unless the world model predicts one.

    Args:
        agent: has the world model.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._env = make_endless_env(agent.run)

    def begin(self, context: tuple[Tensor, Tensor], origin: np.ndarray) -> None:
        """Start after the real frames and actions of ``context``; ``origin`` is the frame that followed."""
        self._context, self.aside = context, origin
        self.reset()

    def reset(self) -> None:
        """Start once more from the same context; what is sampled differs."""
        self._now: TensorDictBase = self._env.start(*self._context)

    @property
    def picture(self) -> np.ndarray:
        """The decoder's picture of the current state, uint8 [h w channels]."""
        return self._agent.draw(self._now["state"])

    @property
    def moment(self) -> TensorDictBase:
        """The current state and belief."""
        return self._now.select("state", "belief")

    def step(self, action: Tensor) -> Outcome:
        """Imagine the step that ``action [a]`` leads to."""
        after = self._env.step(self._now.set("action", action[None].to(self._agent.device)))["next"]
        self._now = after.exclude("reward")
        reward, termination = self._agent.predict(after["belief"])
        return Outcome(None, reward, termination, after["terminated"].item())


def make_endless_env(run: LoadedRun) -> GLAMImaginedEnv:
    """One imagined environment in which one can stay for longer than the run's sequences.

    A Transformer has no more positions than that, and a class of the user's is held to no more: they restart on their
    last tokens once they have seen so many.
    """
    env = run.make_imagined_env(1)
    options, group = run.config.world_model.dynamics, GROUPS["dynamics"]
    endless = group.name_of(options) in group.choices and not hasattr(options, "max_length")
    if endless or isinstance(env.transition.dynamics, SlidingWindow):
        return env
    window = SlidingWindow(run.world_model.dynamics, run.config.longest_sequence())
    return GLAMImaginedEnv(run.world_model, run.action_spec, batch_size=1, dynamics=window)
