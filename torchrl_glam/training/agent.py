"""The numbers that an agent and the ways to train it share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class AgentConfig:
    """Actor and critic (STORM section 3.3 and Table 5)."""

    hidden: int = 512
    num_layers: int = 2
    gamma: float = 0.985
    lmbda: float = 0.95  # not discrete_sac
    entropy_coeff: float = 3e-4  # glam, a2c, ppo, dreamer_v3
    entropy_target: float | None = None  # share of the most that is possible, to hold by adapting the coefficient; glam
    slow_critic_rate: float = 0.02  # 1 - decay 0.98; wherever there are target parameters
    replay_value_coeff: float = 0.0  # weight of the critic's loss on real returns (DreamerV3: 0.3); glam, starts=batch
    return_norm_rate: float = 0.01  # 1 - decay 0.99; glam, dreamer_v3
    return_percentiles: str = "interpolated"  # or order_statistic, as the released code; glam
    bootstrap: str = "next"  # next: V_{t+1} in the lambda return; current: V_t in its place, as the released code
    sees: str = "prior"  # of the current real frame: the prior's sample (STORM), or the posterior's
    context_length: int = 16  # real steps remembered while acting
    keep_context: bool = False  # that memory outlives an episode, as in the released code
