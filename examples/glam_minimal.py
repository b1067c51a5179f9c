"""GLAM in one file of plain PyTorch: world model, imagination, actor, critic, and a game that it learns.

    python examples/glam_minimal.py seed=1    # options are the names in Config
GLAM: "Global-Local Variation Awareness in Mamba-based World Model", AAAI 2025, arXiv 2501.11949. STORM: 2310.09615.
Mamba: 2312.00752. tests/examples/test_glam_minimal.py shows that the package computes the same from the same weights.
    x_t       frame                                             b    batch
    z_t       latent: k one-hot vectors of c classes            t    time
    a_t       action, one-hot                                   k c  categoricals of z_t, their classes
    e_t       token of z_t and a_t                              a    actions
    d_t       variation of the tokens, e_t - e_{t-1}            d    width of e_t, u_t and h_t
    u^g_t     output of GMamba: what is about to change         i j  Mamba's inner width (2 d) and state size
    u^l_t     output of LMamba: where things stand              w s  windows of LMamba, tokens in each (4)
    h_t       belief, u^g_t + u^l_t                             m    bins of a two-hot distribution
    r_t, c_t  reward after a_t, end of the episode (0 or 1)     n    horizon of imagination
    Delta_t   change of z from t to t+1, as a distribution      f    width of [z_t, h_{t-1}], the state of the agent
h_t knows e_0 .. e_t; from it the heads predict r_t, c_t and z_{t+1}. "Differs" marks a difference from the paper.
"""

from __future__ import annotations

import math
import re
import sys
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical


class Config:
    """Sizes for a small game on one CPU core, the paper's in brackets; options of `main` replace them."""

    seed, frames, warmup, every = 0, 5000, 1000, 2  # [100000, 1024, 1] frames: in all, at random, between updates
    channels, k, c, d = (16, 16, 32, 64), 16, 8, 64  # [(32, 64, 128, 256), 32, 32, 256]
    batch, length, model_lr = 8, 16, 1e-3  # [32, 64, 1e-4]
    starts, context, horizon, hidden, agent_lr = 64, 4, 16, 128, 3e-4  # [1024, 16, 16, 512, 3e-5]


def trunk(inputs: int, hidden: int, layers: int = 2) -> nn.Sequential:
    """Return STORM's MLP."""
    widths = pairwise([inputs] + [hidden] * layers)
    return nn.Sequential(*(m for i, o in widths for m in (nn.Linear(i, o, bias=False), nn.LayerNorm(o), nn.ReLU())))


def sample(log_p: Tensor) -> Tensor:
    """Draw one-hot vectors [.. k*c] from log_p [.. k c]; the gradient is that of p (straight-through)."""
    p = log_p.exp()
    index = (p.detach().cumsum(-1) <= torch.rand_like(p[..., :1])).sum(-1).clamp_max(p.shape[-1] - 1)  # [.. k]
    return (F.one_hot(index, p.shape[-1]) + (p - p.detach())).flatten(-2)


def kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    """Return KL(q || p) of [b t k c], summed over k, at least 1. Differs: the mean comes before the maximum."""
    return (log_q.exp() * (log_q - log_p)).sum((-1, -2)).mean().clamp_min(1)


class TwoHot(nn.Module):
    """Head for a scalar, a distribution over m bins that are uniform in symlog space (DreamerV3, arXiv 2301.04104)."""

    def __init__(self, inputs: int, hidden: int, m: int = 255) -> None:
        super().__init__()
        self.trunk, self.logits = trunk(inputs, hidden), nn.Linear(hidden, m)
        nn.init.zeros_(self.logits.weight)  # it predicts 0 at first (DreamerV3)
        nn.init.zeros_(self.logits.bias)
        self.bins = nn.Buffer(torch.linspace(-20, 20, m), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Predict a scalar [..] from [.. d]: symexp of the mean bin."""
        y = self.logits(self.trunk(inputs)).softmax(-1) @ self.bins
        return y.sign() * y.abs().expm1()

    def loss(self, inputs: Tensor, value: Tensor) -> Tensor:
        """Return the mean cross-entropy to value [..]; the two bins next to symlog(value) share the target."""
        y = (value.sign() * value.abs().log1p()).clamp(-20, 20)
        target = (1 - (y[..., None] - self.bins).abs() / (self.bins[1] - self.bins[0])).clamp_min(0)  # [.. m]
        return -(target * self.logits(self.trunk(inputs)).log_softmax(-1)).sum(-1).mean()


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return y and the last h: h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t, y_t = C_t h_t (Mamba, Algorithm 2)."""
    y = []  # u, delta, y [b t i], A [i j], B C [b t j]; h [b i j] is Mamba's state, not the belief
    for t in range(u.shape[1]):
        h = torch.exp(delta[:, t, :, None] * A) * h + (delta[:, t] * u[:, t])[:, :, None] * B[:, t, None, :]
        y.append((h @ C[:, t, :, None]).squeeze(-1))
    return torch.stack(y, 1), h


class MambaLayer(nn.Module):
    """u = e + Norm(Mamba(Norm(e))) (Eq. 6), with the parameters of `mamba_ssm.Mamba` (Mamba-1; Mamba, Fig. 3)."""

    def __init__(self, d: int, j: int = 16, conv: int = 4) -> None:
        super().__init__()
        self.rank, i = math.ceil(d / 16), 2 * d
        self.norm, self.post_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.in_proj, self.out_proj = nn.Linear(d, 2 * i, bias=False), nn.Linear(i, d, bias=False)
        self.conv1d = nn.Conv1d(i, i, conv, groups=i)
        self.x_proj, self.dt_proj = nn.Linear(i, self.rank + 2 * j, bias=False), nn.Linear(self.rank, i)
        self.D, self.A_log = nn.Parameter(torch.ones(i)), nn.Parameter(torch.arange(1.0, j + 1).log().repeat(i, 1))
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        delta = torch.empty(i).uniform_(math.log(1e-3), math.log(1e-1)).exp()  # the first step sizes
        self.dt_proj.bias.data = delta + torch.log(-torch.expm1(-delta))  # inverse of softplus

    def forward(self, e: Tensor, memory: Any = None) -> tuple[Tensor, Any]:
        """Map e [b t d] to u [b t d] and a memory, from which the next call continues: a step is a call with t = 1."""
        signal, gate = self.in_proj(self.norm(e)).chunk(2, -1)  # [b t i] each
        (b, t, i), (_, j) = signal.shape, self.A_log.shape
        past, h = memory or (signal.new_zeros(b, self.conv1d.kernel_size[0] - 1, i), signal.new_zeros(b, i, j))
        signal = torch.cat([past, signal], 1)  # [b 3+t i]
        u = F.silu(self.conv1d(signal.mT).mT)  # [b t i]
        rank, B, C = self.x_proj(u).split([self.rank, j, j], -1)  # delta, B and C depend on u: the selection
        y, h = selective_scan(u, F.softplus(self.dt_proj(rank)), -self.A_log.exp(), B, C, h)
        return e + self.post_norm(self.out_proj((y + self.D * u) * F.silu(gate))), (signal[:, t:], h)


class Dynamics(nn.Module):
    """GMamba and LMamba side by side (Fig. 2)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.gmamba, self.lmamba, self.local_output = MambaLayer(d), MambaLayer(d), nn.Linear(d, d, bias=False)
        self.global_output = nn.Sequential(nn.Linear(d, d, bias=False), nn.LayerNorm(d), nn.SiLU())

    def forward(self, e: Tensor, memory: Any = None) -> tuple[Tensor, Tensor, Any]:
        """Map e [b t d] to h [b t d], u^g [b t d] and a memory, from which the next call continues."""
        previous, state, recent = memory or (None, None, e[:, :0])
        # GMamba reads how the tokens change. There is no d_0, so u^g_0 = 0.
        u = e.diff(dim=1, prepend=previous)  # d_1 .. d_t: [b t-1 d]; with a memory [b t d]
        u, state = self.gmamba(u, state) if u.shape[1] else (u, state)
        u_g = F.pad(self.global_output(u), (0, 0, e.shape[1] - u.shape[1], 0))  # [b t d]
        # LMamba reads the last s = 4 tokens at each t, from a zero state. The first windows of a sequence are shorter.
        recent = torch.cat([recent, e], 1)  # [b 3+t d]
        windows = recent.unfold(1, min(4, recent.shape[1]), 1).mT  # [b w s d]
        u = self.lmamba(windows.flatten(0, 1))[0].unflatten(0, windows.shape[:2])  # [b w s d]
        u = torch.cat([u[:, 0], u[:, 1:, -1]], 1)  # [b 3+t d]: each output of the first window, the last of the others
        u_l = self.local_output(u[:, -e.shape[1] :])  # [b t d]
        return u_g + u_l, u_g, (e[:, -1:], state, recent[:, -3:])


class WorldModel(nn.Module):
    """Encoder, decoder, dynamics and heads. It is in eval mode (BatchNorm) except in its update."""

    def __init__(self, actions: int, config: Config) -> None:
        super().__init__()
        widths, self.latent, z, d = config.channels, (config.k, config.c), config.k * config.c, config.d
        self.encoder = nn.Sequential()
        for i, o in pairwise((3, *widths)):  # 64x64, 32x32, 16x16, 8x8, 4x4
            self.encoder.extend([nn.Conv2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()])
        self.encoder.extend([nn.Flatten(), nn.Linear(16 * widths[-1], z)])
        self.decoder = nn.Sequential(nn.Linear(z, 16 * widths[-1], bias=False), nn.Unflatten(1, (widths[-1], 4, 4)))
        for i, o in pairwise(widths[::-1]):
            self.decoder.extend([nn.BatchNorm2d(i), nn.ReLU(), nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False)])
        self.decoder.extend([nn.BatchNorm2d(widths[0]), nn.ReLU(), nn.ConvTranspose2d(widths[0], 3, 4, 2, 1)])
        self.embedding = nn.Sequential(*trunk(z + actions, d, layers=1), nn.Linear(d, d, bias=False))
        self.dynamics = Dynamics(d)
        self.prior_head = nn.Linear(d, z)  # Differs: the paper's "MLP" is one layer, here and behind both branches
        self.reward_head, self.termination_head = TwoHot(d, d), nn.Sequential(*trunk(d, d), nn.Linear(d, 1))

    def unimix(self, logits: Tensor) -> Tensor:
        """Map logits [.. k*c] to log-probabilities [.. k c], with a uniform share of 1 % (STORM)."""
        return (0.99 * logits.unflatten(-1, self.latent).softmax(-1) + 0.01 / self.latent[1]).log()

    def encode(self, x: Tensor) -> Tensor:
        """Map x [b t 64 64 3] to log q(z|x) [b t k c]."""
        return self.unimix(self.encoder(x.movedim(-1, -3).flatten(0, 1) / 255).unflatten(0, x.shape[:2]))

    def beliefs(self, z: Tensor, a: Tensor, memory: Any = None) -> tuple[Tensor, Tensor, Any]:
        """Map z [b t k*c] and a [b t a] to h, u^g [b t d] and the memory."""
        return self.dynamics(self.embedding(torch.cat([z, a], -1)), memory)

    def loss(self, x: Tensor, a: Tensor, r: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms of Eq. 12 for x [b t 64 64 3], a [b t a], r and c [b t]."""
        log_q = self.encode(x)
        z = sample(log_q)  # [b t k*c]
        h, u_g, _ = self.beliefs(z, a)
        log_p, log_g = self.unimix(self.prior_head(h)), self.unimix(self.prior_head(u_g))  # [b t k c]
        x_hat = self.decoder(z.flatten(0, 1)).movedim(1, -1).unflatten(0, x.shape[:2])  # [b t 64 64 3]
        return {  # beliefs count from t = 3 on, the first full window
            "reconstruction": (x_hat - x / 255).square().sum((2, 3, 4)).mean(),
            "reward": self.reward_head.loss(h[:, 3:], r[:, 3:]),
            "termination": F.binary_cross_entropy_with_logits(self.termination_head(h[:, 3:]).squeeze(-1), c[:, 3:]),
            "dynamics": 0.5 * kl(log_q[:, 4:].detach(), log_p[:, 3:-1]),  # Eq. 9
            "representation": 0.1 * kl(log_q[:, 4:], log_p[:, 3:-1].detach()),
            # Eq. 10. Differs: its Delta_t = z_{t+1} - z_t is no distribution; ours is softmax(l_{t+1} - l_t), l = log q
            "variation": 0.1 * kl(log_q.diff(dim=1)[:, 3:].log_softmax(-1).detach(), log_g[:, 3:-1]),
        }


@torch.no_grad()
def imagine(world: WorldModel, actor: nn.Module, n: int, z: Tensor, a: Tensor) -> tuple[Tensor, ...]:
    """Imagine n steps after contexts z [b t k*c], a [b t a]: return states [b n+1 f], a [b n a], r and c [b n]."""
    h, _, memory = world.beliefs(z, a)
    h, steps = h[:, -1:], []
    z = sample(world.unimix(world.prior_head(h)))  # [b 1 k*c]
    for _ in range(n):
        state = torch.cat([z, h], -1)  # [b 1 f]
        a = F.one_hot(Categorical(logits=actor(state)).sample(), a.shape[-1])  # [b 1 a]
        h, _, memory = world.beliefs(z, a, memory)  # [b 1 d]; Differs: GMamba knows its whole past, not l = 16 tokens
        z = sample(world.unimix(world.prior_head(h)))
        steps.append((state, a, world.reward_head(h), world.termination_head(h).squeeze(-1) > 0))
    states, a, r, c = (torch.cat(parts, 1) for parts in zip(*steps, strict=True))
    return torch.cat([states, torch.cat([z, h], -1)], 1), a, r, c


def lambda_return(r: Tensor, c: Tensor, v: Tensor, gamma: float = 0.985, lmbda: float = 0.95) -> Tensor:
    """G_t = r_t + gamma (1 - c_t) ((1 - lambda) v_{t+1} + lambda G_{t+1}), G_n = v_n: r, c, G [b n], v [b n+1]."""
    g = [v[:, -1]]
    for t in reversed(range(r.shape[1])):
        g.append(r[:, t] + gamma * ((1 - lmbda) * v[:, t + 1] + lmbda * g[-1]) * ~c[:, t])
    return torch.stack(g[:0:-1], 1)


class Agent(nn.Module):
    """STORM's actor and critic, a slow copy of the critic, and averages of the 5 % and 95 % quantiles of returns."""

    def __init__(self, inputs: int, hidden: int, actions: int) -> None:
        super().__init__()
        self.actor = nn.Sequential(*trunk(inputs, hidden), nn.Linear(hidden, actions))
        self.critic, self.slow_critic = TwoHot(inputs, hidden), TwoHot(inputs, hidden).requires_grad_(False)
        self.slow_critic.load_state_dict(self.critic.state_dict())
        self.quantiles = nn.Buffer(torch.zeros(2))

    def loss(self, states: Tensor, a: Tensor, r: Tensor, c: Tensor) -> dict[str, Tensor]:
        """Return the terms for what `imagine` returned: REINFORCE with entropy bonus, and the critic's two targets."""
        with torch.no_grad():
            v = self.critic(states)  # [b n+1]
            g, g_slow = lambda_return(r, c, v), lambda_return(r, c, self.slow_critic(states))  # [b n]
            self.quantiles.lerp_(g.quantile(self.quantiles.new_tensor([0.05, 0.95])), 0.01)
            advantage = (g - v[:, :-1]) / (self.quantiles[1] - self.quantiles[0]).clamp_min(1)
        states, policy = states[:, :-1], Categorical(logits=self.actor(states[:, :-1]))
        reinforce, entropy = -(policy.log_prob(a.argmax(-1)) * advantage).mean(), policy.entropy().mean()
        critic = self.critic.loss(states, g) + self.critic.loss(states, g_slow)
        return {"actor": reinforce - 3e-4 * entropy, "critic": critic}


class CatchBall:
    """An episode: a paddle catches five balls, +1 each, which fall for 12 steps. Random play returns 1.3 on average."""

    def __init__(self) -> None:
        self.t, self.paddle, self.balls = 0, 24, (4 * torch.randint(14, (5,))).tolist()  # their left edges

    def draw(self) -> Tensor:  # [64 64 3]
        x, left, bottom = torch.zeros(64, 64, 3).byte(), self.balls[self.t // 12], 58 - 46 * (12 - self.t % 12) // 12
        x[bottom - 12 : bottom, left : left + 12, :2] = x[58:, self.paddle : self.paddle + 16, 1:] = 255
        return x

    def step(self, action: int) -> tuple[float, bool]:
        """Move the paddle (0 stay, 1 left, 2 right), let the ball fall; return r and c."""
        self.t, self.paddle = self.t + 1, min(max(self.paddle + (0, -8, 8)[action], 0), 48)
        return float(self.t % 12 == 0 and abs(self.balls[self.t // 12 - 1] - self.paddle - 2) <= 8), self.t == 60


def update(adam: torch.optim.Optimizer, terms: dict[str, Tensor], max_norm: float) -> None:
    """Take a gradient step on the sum of the terms, the norm of the gradient clipped."""
    adam.zero_grad()
    torch.stack([*terms.values()]).sum().backward()
    nn.utils.clip_grad_norm_(adam.param_groups[0]["params"], max_norm)
    adam.step()


def main(**options: Any) -> list[float]:
    """Train on CatchBall; every 500 frames print the mean return of the last 20 episodes; return all returns."""
    config = Config()
    vars(config).update({name: type(getattr(config, name))(value) for name, value in options.items()})
    torch.manual_seed(config.seed)
    world, agent = WorldModel(3, config).eval(), Agent(config.k * config.c + config.d, config.hidden, 3)
    model_adam = torch.optim.Adam(world.parameters(), config.model_lr)
    agent_adam = torch.optim.Adam([*agent.actor.parameters(), *agent.critic.parameters()], config.agent_lr, eps=1e-5)
    x, a = torch.zeros(config.frames, 64, 64, 3, dtype=torch.uint8), torch.zeros(config.frames, 3)  # the replay
    (r, c), game, returns, context = torch.zeros(2, config.frames), CatchBall(), [0.0], list[Any]()
    for t in range(config.frames):
        x[t], action = game.draw(), F.one_hot(torch.randint(3, (1, 1)), 3)  # [1 1 a]
        if t >= config.warmup and context:  # acting is the first step of imagination, after the last 16 real steps
            action = imagine(world, agent.actor, 1, *map(torch.hstack, zip(*context[-16:], strict=True)))[1]
        context.append((sample(world.encode(x[None, t : t + 1])).detach(), action))
        a[t], (r[t], c[t]) = action[0, 0], game.step(int(action.argmax()))
        returns[-1] += float(r[t])
        if c[t]:
            game, returns, context = CatchBall(), [*returns, 0.0], []
        if t >= config.warmup and t % config.every == 0:
            steps = torch.randint(t + 2 - config.length, (config.batch, 1)) + torch.arange(config.length)  # [b t]
            update(model_adam, world.train().loss(x[steps], a[steps], r[steps], c[steps]), max_norm=1000)
            steps = torch.randint(t + 2 - config.context, (config.starts, 1)) + torch.arange(config.context)  # [b t]
            z = sample(world.eval().encode(x[steps]))  # [b t k*c]
            n = min(config.horizon + 8 * (t // 25_000), 32)  # Eq. 11. Differs: as printed, it reaches its cap at t = 8
            update(agent_adam, agent.loss(*imagine(world, agent.actor, n, z, a[steps])), max_norm=100)
            for slow, new in zip(agent.slow_critic.parameters(), agent.critic.parameters(), strict=True):
                slow.data.lerp_(new.data, 0.02)
        if (t + 1) % 500 == 0:
            print(f"frame {t + 1}: mean return {torch.tensor(returns[-21:-1]).mean():.2f}", flush=True)
    return returns[:-1]


if __name__ == "__main__":
    good = re.compile(r"(?!channels)[a-z]\w*=\d+|\w+_lr=\d*\.?\d+(e-\d+)?").fullmatch
    if wrong := [option for option in sys.argv[1:] if not (good(option) and hasattr(Config, option.split("=")[0]))]:
        sys.exit(print(f"{wrong[0]}: give NAME=NUMBER, a name and a number as in Config", file=sys.stderr) or 2)
    main(**dict(option.split("=") for option in sys.argv[1:]))
