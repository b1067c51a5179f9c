"""The world model as a TorchRL environment: one imagined step at a time.

``b`` imagined environments, ``n`` horizon, ``k c`` categoricals and classes, ``d`` width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule
from torch import Tensor
from torchrl.data import TensorSpec
from torchrl.envs import ImaginedEnv, ModelBasedEnvBase
from torchrl.envs.utils import ExplorationType, set_exploration_type

from torchrl_glam.envs.imagined_specs import set_imagined_specs
from torchrl_glam.errors import UsageError
from torchrl_glam.machine.compilation import COMPILED, CapturedPerConstants
from torchrl_glam.modules.continuation import Continuation
from torchrl_glam.modules.dynamics import SequenceBackbone
from torchrl_glam.modules.world_model import GLAMWorldModel, LatentTransition

STATE = ("state", "belief", "memory")  # what a step starts from


class GLAMImaginedEnv(ImaginedEnv):
    """Imagination in GLAM's world model (section "Policy learning"), behind TorchRL's environment interface.

    State: ``state`` z_t ``[b k*c]``, ``belief`` h_{t-1} ``[b d]`` and the backbone's ``memory``. A step reads
    ``action`` and writes the next three, ``reward`` (raw units), ``terminated`` and ``done`` (termination logit > 0).
    Rewards, terminations and latents come from a ``torchrl.modules.WorldModelWrapper``. An imagined episode that
    terminates is not reset: imagination continues to its horizon, and the flags say where to cut. A ``TransformedEnv``
    round it, or a collector, does reset it: give ``starts``.

    Parameters are shared with ``world_model``. Keep that in eval mode while imagining (BatchNorm).

    ``torchrl.objectives.DreamerV3ActorLoss`` starts from only a state and a belief, and would lose the memory: call
    ``loss.set_keys(state="start", belief="start")``, and then ``loss(TensorDict({"start": env.start(..)}, [b]))``.

    ``torchrl.modules.CEMPlanner`` and ``MPPIPlanner`` plan in an env without a batch size, from what :meth:`start`
    returns, for continuous actions (those of torchrl 0.14.1 cannot draw one-hot ones). Call them without gradients.

    Args:
        world_model: the model to imagine with.
        action_spec: the real environment's action spec, without batch dimensions.
        batch_size: number of imagined environments ``b``, or their shape; any shape if not given.
        dynamics: a stand-in for the world model's backbone, such as a ``SlidingWindow`` over it.
        starts: returns a start for all ``b``, as :meth:`start` does, to a reset that is given none; by default such a
            reset leads to an empty memory and a random state.
        keep_memory: let ``rollout`` return the memory, twice per step, as the specs say.
        compiled: make one compiled graph of a step (15 s once on a CPU; two where gradients flow) with the plain one's
            draws, and on CUDA a CUDA graph of ``imagine`` for each policy and horizon. (torchrl 0.14.1 takes arguments
            named ``compile`` from all environments.)

    Raises:
        UsageError: if ``action_spec`` has another shape than the world model's actions.

    Examples:
        >>> import torch
        >>> from torchrl.data import OneHot
        >>> from torchrl_glam.envs import GLAMImaginedEnv
        >>> from torchrl_glam.modules import GLAMWorldModel, make_actor
        >>> world_model = GLAMWorldModel(action_size=6).eval()
        >>> env = GLAMImaginedEnv(world_model, OneHot(6), batch_size=2)
        >>> pixels = torch.zeros(2, 16, 64, 64, 3, dtype=torch.uint8)
        >>> action = torch.zeros(2, 16, 6)
        >>> actor = make_actor(world_model.state_size, 256, env.action_spec)
        >>> with torch.no_grad():
        ...     rollout = env.imagine(env.start(pixels, action), actor, horizon=5)
        >>> rollout["next", "reward"].shape
        torch.Size([2, 5, 1])
    """

    def __init__(
        self,
        world_model: GLAMWorldModel,
        action_spec: TensorSpec,
        *,
        batch_size: int | Sequence[int] | None = None,
        dynamics: SequenceBackbone | None = None,
        starts: Callable[[], TensorDictBase] | None = None,
        keep_memory: bool = True,
        compiled: bool = False,
    ) -> None:
        # ImaginedEnv.__init__ (torchrl 0.14.1) insists on a mean/var observation and a base env: go round it.
        ModelBasedEnvBase.__init__(
            self,
            world_model.make_wrapper(dynamics),
            device=next(world_model.parameters()).device,
            batch_size=torch.Size([batch_size] if isinstance(batch_size, int) else batch_size or ()),
            allow_done_after_reset=True,
        )
        set_imagined_specs(self, world_model, action_spec, self._initial_memory(self.batch_size))
        self._starts = starts
        self.keep_memory = keep_memory
        step = super(ImaginedEnv, self)._step
        self._run_step = torch.compile(step, **COMPILED) if compiled else step
        self._unroll = CapturedPerConstants(self._imagine) if compiled and self.device.type == "cuda" else self._imagine

    @property
    def keep_memory(self) -> bool:
        """True if ``rollout`` returns the memory, twice per step."""
        return self._post_step_mdp_hooks is None

    @keep_memory.setter
    def keep_memory(self, keep: bool) -> None:
        self._post_step_mdp_hooks = None if keep else self._forget

    @property
    def transition(self) -> LatentTransition:
        """The latent transition module inside the world-model wrapper."""
        return self.world_model.get_transition_model_operator().module

    def _initial_memory(self, batch: torch.Size) -> TensorDictBase:
        return self.transition.dynamics.initial_memory(batch.numel()).reshape(batch)

    def start(self, observation: Tensor | TensorDictBase, action: Tensor, is_init: Tensor | None = None) -> TensorDict:
        """Read real contexts and return where imagination starts.

        Args:
            observation: of consecutive steps ``[b t]``: pixels ``[b t h w channels]`` uint8, vectors ``[b t n]``, or of
                a world model that reads several entries a TensorDict of them.
            action: ``[b t a]``, the action taken at each.
            is_init: bool ``[b t 1]``, the steps that begin an episode, for a world model that marks them.

        Returns:
            ``state`` (sampled prior of the frame after the context), ``belief``, ``memory`` and flags, for ``reset``
            or ``imagine``. Any ``b`` will do for ``imagine``; ``reset`` wants the env's own.
        """
        return self._as_start(*self.transition.start(observation, action, is_init))

    def start_within(
        self, state: Tensor, action: Tensor, *, number: int, first: int = 0, is_init: Tensor | None = None
    ) -> TensorDict:
        """Choose starts among the time steps of sequences that the world model has encoded already (Dreamer's way).

        Args:
            state: posterior samples ``[b t k*c]`` of consecutive frames.
            action: ``[b t a]``, the action taken at each.
            number: how many starts, drawn without replacement.
            first: the first time step whose belief counts.
            is_init: as for :meth:`start`.

        Returns:
            What :meth:`start` returns, ``number`` times, with the posterior sample of the frame itself as ``state``.

        Raises:
            UsageError: if the sequences have fewer steps than ``number``.
        """
        batch, time = state.shape[:2]
        if number > (steps := batch * (time - 1 - first)):
            raise UsageError(f"{number} starts are wanted of {batch} sequences with {steps} steps to start from")
        state, belief, memory = self.transition.unroll(state, action, first, is_init)
        chosen = torch.randperm(steps, device=state.device)[:number]
        return self._as_start(state[chosen], belief[chosen], memory[chosen])

    def _as_start(self, state: Tensor, belief: Tensor, memory: TensorDictBase) -> TensorDict:
        return self._with_flags(TensorDict({"state": state, "belief": belief, "memory": memory}, memory.shape))

    def _with_flags(self, start: TensorDictBase) -> TensorDictBase:
        flag = torch.zeros(*start.shape, 1, dtype=torch.bool, device=self.device)
        return start.to(self.device).update({"done": flag, "terminated": flag.clone()})

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        """Start from what is given, also under ``start``, else where ``starts`` says."""
        given = None if tensordict is None else tensordict.pop("start", tensordict)  # a rollout would carry it along
        if given is not None and "memory" in given:
            return self._with_flags(given.select(*STATE))
        if self._starts is not None:
            return self._with_flags(self._starts().select(*STATE))
        batch = self.batch_size if given is None else given.shape
        belief = self.observation_spec["belief"].zero(batch[: len(batch) - len(self.batch_size)])
        state = self.transition.world_model.predict_state(belief)
        return self._as_start(state, belief, self._initial_memory(batch))

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        inputs = tensordict.select("state", "action", "memory")
        if inputs.ndim == 1:  # as the backbone wants it
            return self._run_step(inputs)
        return self._run_step(inputs.reshape(-1)).reshape(tensordict.shape)

    @staticmethod
    def _forget(tensordict: TensorDictBase, following: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """Leave the memory out of what a rollout stacks; what ``following`` steps from keeps it."""
        return tensordict.exclude("memory", ("next", "memory")), following

    def _rollout_nonstop(self, **options: Any) -> list[TensorDictBase]:
        *steps, last = super()._rollout_nonstop(**options)
        if self._post_step_mdp_hooks is not None:  # torchrl 0.14.1 does not call it after the last step
            last, _ = self._post_step_mdp_hooks(last, last)
        return [*steps, last]

    def make_continuation_model(self) -> TensorDictModule:
        """For ``torchrl.objectives.DreamerV3ActorLoss``: reads ``belief``, writes ``continuation`` ``[.. 1]``.

        That is the probability that the episode did not end on the way to this state.
        """
        head = self.transition.world_model.termination_head
        return TensorDictModule(Continuation(head), in_keys=["belief"], out_keys=["continuation"])

    def _set_seed(self, seed: int | None) -> None:
        """Imagination draws from torch's global generator: seed that with ``torch.manual_seed``."""

    def imagine(
        self, start: TensorDictBase, policy: Callable[[TensorDictBase], TensorDictBase], horizon: int
    ) -> TensorDict:
        """Roll out ``policy`` for ``horizon`` steps under random exploration, keeping the memory of the last step only.

        The same as ``rollout(auto_reset=False, break_when_any_done=False)`` from ``start``, without the memories, which
        ``rollout`` stores twice per step, and with ``("next", state)`` and ``("next", belief)`` as views of the root's
        storage. Gradients flow if they are enabled.

        Args:
            start: what :meth:`start` or ``reset`` returned, batch size ``[b]``.
            policy: reads ``state`` and ``belief``, writes ``action``.
            horizon: number of steps ``n``.

        Returns:
            ``[b n]`` with ``state``, ``belief``, whatever the policy wrote, and ``next`` (``state``, ``belief``,
            ``reward``, ``terminated``, ``done``).

        Raises:
            UsageError: if ``horizon`` is below 1, or ``start`` is something else.
        """
        if horizon < 1:
            raise UsageError(f"horizon is {horizon}: imagine wants at least one step")
        if missing := [key for key in STATE if key not in start]:
            raise UsageError(f"start has no {missing[0]}: give what env.start or env.reset returned")
        return self._split(self._unroll(start.select(*STATE), policy, horizon))

    def _imagine(
        self, tensordict: TensorDictBase, policy: Callable[[TensorDictBase], TensorDictBase], horizon: int
    ) -> TensorDict:
        """``state`` and ``belief`` ``[b n+1 x]``, and a ``rollout [b n]`` of the rest."""
        visited, outcomes = [], []
        with set_exploration_type(ExplorationType.RANDOM):
            for _ in range(horizon):
                tensordict = policy(tensordict)
                following = self._step(tensordict)
                visited.append(tensordict.exclude("memory"))
                outcomes.append(following.select("reward", "terminated", "done"))
                tensordict = following.select(*STATE)
        rollout = TensorDict.stack([step.exclude("state", "belief") for step in visited], 1)
        rollout.set("next", TensorDict.stack(outcomes, 1))
        states = {
            key: torch.stack([*(step.get(key) for step in visited), tensordict.get(key)], 1)
            for key in ("state", "belief")
        }
        return TensorDict({**states, "rollout": rollout}, batch_size=tensordict.batch_size, device=self.device)

    @staticmethod
    def _split(imagined: TensorDictBase) -> TensorDict:
        """Put views of the states into the rollout: outside the graph, whose outputs are copied one by one."""
        rollout = imagined.get("rollout")
        for key in ("state", "belief"):
            rollout.set(key, imagined.get(key)[:, :-1])
            rollout.set(("next", key), imagined.get(key)[:, 1:])
        return rollout
