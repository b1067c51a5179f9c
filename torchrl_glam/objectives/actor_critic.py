"""The critic's loss and value targets. (The actor's loss is TorchRL's own.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase, TensorDictParams, unravel_key
from tensordict.nn import TensorDictModule, dispatch
from tensordict.utils import NestedKey
from torch import Tensor
from torchrl.objectives import LossModule, ValueEstimators

from torchrl_glam.errors import UsageError
from torchrl_glam.modules.heads import symlog_two_hot_loss
from torchrl_glam.objectives.batch import check_keys, check_padding
from torchrl_glam.objectives.returns import check_bootstrap, lambda_return, make_lambda_estimator


class GLAMCriticLoss(LossModule):
    """Two-hot critic loss with a slow critic (STORM Eq. 11, used by GLAM).

    ``CE(logits, G) + CE(logits, G_slow)`` where ``G`` is the lambda return under the critic and ``G_slow`` the one
    under its slowly updated copy; both on a grid that is uniform in symlog space. The copy lives in this module
    (``target_critic_network_params``); move it with ``torchrl.objectives.SoftUpdate(loss, tau=0.02)``.

    Args:
        critic_network: reads the state, writes two-hot logits and the decoded value
            (:func:`~torchrl_glam.modules.make_critic`).
        bins: the grid, ``[bins]``, in symlog space; ``critic_network.bins`` if not given.
        gamma: discount.
        lmbda: lambda of the return.
        bootstrap: ``next`` for the lambda return with ``V_{t+1}``; ``current`` for the released code's ``V_t`` in its
            place.

    Raises:
        UsageError: at construction, if ``bootstrap`` is neither or no bins are found; in ``forward``, if the rollout is
            padded, lacks a key, or is flat and without targets.

    Examples:
        >>> import torch
        >>> from tensordict import TensorDict
        >>> from torchrl.objectives import SoftUpdate
        >>> from torchrl_glam.modules import make_critic
        >>> from torchrl_glam.objectives import GLAMCriticLoss
        >>> critic = make_critic(state_size=8, width=4, hidden=16)
        >>> loss = GLAMCriticLoss(critic)
        >>> updater = SoftUpdate(loss, tau=0.02)
        >>> def states():
        ...     return {"state": torch.zeros(2, 5, 8), "belief": torch.zeros(2, 5, 4)}
        >>> flags = {key: torch.zeros(2, 5, 1, dtype=torch.bool) for key in ("done", "terminated")}
        >>> outcome = {**states(), **flags, "reward": torch.ones(2, 5, 1)}
        >>> rollout = TensorDict({**states(), "next": outcome}, [2, 5])
        >>> sorted(loss(rollout).keys())
        ['loss_critic', 'loss_slow_critic', 'value_error']
    """

    @dataclass
    class _AcceptedKeys:
        """Configurable keys.

        Attributes:
            value: the critic's decoded value ``[b n 1]``.
            value_logits: its two-hot logits ``[b n bins]``.
            value_target: lambda return under the critic ``[b n 1]``.
            slow_value_target: lambda return under the slow critic ``[b n 1]``.
            advantage: ``value_target - value``.
            reward, done, terminated: read below ``"next"``, ``[b n 1]``.
        """

        value: NestedKey = "state_value"
        value_logits: NestedKey = "state_value_logits"
        value_target: NestedKey = "value_target"
        slow_value_target: NestedKey = "slow_value_target"
        advantage: NestedKey = "advantage"
        reward: NestedKey = "reward"
        done: NestedKey = "done"
        terminated: NestedKey = "terminated"

    default_keys = _AcceptedKeys
    default_value_estimator = ValueEstimators.TDLambda
    tensor_keys: _AcceptedKeys
    critic_network: TensorDictModule
    critic_network_params: TensorDictParams
    target_critic_network_params: TensorDictParams
    bins: Tensor
    out_keys = ["loss_critic", "loss_slow_critic", "value_error"]  # noqa: RUF012  (as TorchRL declares it)

    def __init__(
        self,
        critic_network: TensorDictModule,
        bins: Tensor | None = None,
        *,
        gamma: float = 0.985,
        lmbda: float = 0.95,
        bootstrap: str = "next",
    ) -> None:
        super().__init__()
        check_bootstrap(bootstrap)
        if bins is None and (bins := getattr(critic_network, "bins", None)) is None:
            raise UsageError(f"{type(critic_network).__name__} has no bins: give the grid of its logits as bins=...")
        self.convert_to_functional(critic_network, "critic_network", create_target_params=True)
        self.register_buffer("bins", bins.clone(), persistent=False)
        self.bootstrap = bootstrap
        self.gamma = gamma
        self.lmbda = lmbda
        self.make_value_estimator()

    @property
    def in_keys(self) -> list[NestedKey]:
        """Keys that ``forward`` reads."""
        states = list(self.critic_network.in_keys)
        outcome = [self.tensor_keys.reward, self.tensor_keys.done, self.tensor_keys.terminated]
        return [*states, *(unravel_key(("next", key)) for key in [*states, *outcome])]

    def make_value_estimator(self, value_type: Any = None, **hyperparams: Any) -> GLAMCriticLoss:
        """Change the return, as for TorchRL's losses: ``make_value_estimator(gamma=0.99, lmbda=0.9)``.

        Args:
            value_type: ``ValueEstimators.TDLambda``, the default, or an estimator of one's own without value network.
            hyperparams: of the estimator; ``gamma`` and ``lmbda`` stay as they are if not given.

        Raises:
            NotImplementedError: for TorchRL's other types; TD(0) and TD(1) are ``lmbda=0`` and ``lmbda=1``.
        """
        if value_type not in (None, ValueEstimators.TDLambda):
            return super().make_value_estimator(value_type, **hyperparams)
        self.gamma = hyperparams.pop("gamma", self.gamma)
        self.lmbda = hyperparams.pop("lmbda", self.lmbda)
        options = {"device": self.bins.device, **hyperparams}
        self._value_estimator = make_lambda_estimator(self.gamma, self.lmbda, **options)
        self._forward_value_estimator_keys()
        return self

    @torch.no_grad()
    def estimate(self, tensordict: TensorDictBase, *, consecutive: bool = False) -> TensorDictBase:
        """Write value, advantage and both lambda returns into ``tensordict [b n]``, without gradient.

        ``advantage`` and ``value_target`` are what TorchRL's policy losses look for.

        Args:
            tensordict: the rollout.
            consecutive: each next state is the state of the following step, as imagination returns them. The critic
                then evaluates each state once.

        Raises:
            UsageError: if a key is missing, or there is no time to look ahead in.
        """
        keys = self.tensor_keys
        if tensordict.ndim < 2:  # the returns would run on from one rollout into the next
            raise UsageError(
                f"the rollout has shape {tuple(tensordict.shape)}: {type(self).__name__} wants [b n] for its lambda "
                "returns; call estimate before you flatten"
            )
        check_keys(self, tensordict)
        target, value = self._lambda_return(tensordict, self.critic_network_params, consecutive)
        slow_target, _ = self._lambda_return(tensordict, self.target_critic_network_params, consecutive)
        tensordict.set(keys.value, value)
        tensordict.set(keys.value_target, target)
        tensordict.set(keys.slow_value_target, slow_target)
        tensordict.set(keys.advantage, target - value)
        return tensordict

    def _lambda_return(
        self, tensordict: TensorDictBase, params: TensorDictParams, consecutive: bool
    ) -> tuple[Tensor, Tensor]:
        """Lambda return and value ``[b n 1]`` under ``params``."""
        return lambda_return(
            lambda states: self._critic(states, params).get(self.tensor_keys.value),
            tensordict,
            self.value_estimator,
            bootstrap=self.bootstrap,
            lmbda=self.lmbda,
            consecutive=consecutive,
        )

    def _critic(self, tensordict: TensorDictBase, params: TensorDictParams) -> TensorDictBase:
        with params.to_module(self.critic_network, preserve_module_state=False):
            return self.critic_network(tensordict.select(*self.critic_network.in_keys))

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Return ``loss_critic``, ``loss_slow_critic`` and the detached mean absolute ``value_error``, for ``[b n]``.

        Targets that are already in ``tensordict`` (from :meth:`estimate`) are used, and then any shape will do; others
        are computed.
        """
        keys = self.tensor_keys
        check_padding(self, tensordict)
        if any(tensordict.get(key, None) is None for key in (keys.value_target, keys.slow_value_target)):
            tensordict = self.estimate(tensordict.copy())
        target = tensordict.get(keys.value_target)
        output = self._critic(tensordict, self.critic_network_params)
        logits = output.get(keys.value_logits)
        terms = {
            "loss_critic": symlog_two_hot_loss(logits, target, self.bins),
            "loss_slow_critic": symlog_two_hot_loss(logits, tensordict.get(keys.slow_value_target), self.bins),
            "value_error": (output.get(keys.value).detach() - target).abs().mean(),
        }
        return TensorDict(terms, batch_size=[])
