"""A line for each part of a diagnosis: what is wrong, and which options bear on it. The thresholds are here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torchrl_glam.machine.invocation import other_command
from torchrl_glam.presentation import NOTHING
from torchrl_glam.tools.diagnosis.diagnose import HORIZON, Diagnosis
from torchrl_glam.tools.diagnosis.parts import Event, FrameErrors, VectorErrors

FEW = 10  # events, below which nothing is judged
HALF = 0.5  # recall and precision of a model that sees most events, and share of the recall that imagination keeps
KNOWS = 0.8  # ranking of a model that knows when an event is likelier
FLAT = 2.0  # ratio of the prediction where there is a reward to that where there is none, if a model tells them apart
AMOUNT = (2 / 3, 1.5)  # predicted or imagined reward, of the real one: neither too little nor too much
OFTEN = (0.5, 2.0)  # the same of terminations, which are rarer
BLIND = 0.75  # error of a moved pixel, or of a vector, of that of a still one, from which on movement is not drawn
DRIFT = 1.25  # imagined error of a moved pixel, of the reconstructed one, from which on imagination loses its way
CORRELATION = 0.3  # of values and returns
SLOPE = (0.5, 2.0)  # of returns on values
BIAS = 0.25  # of the returns' mean or standard deviation, whichever is more
UNIFORM, CERTAIN = 0.95, 0.1  # entropy, of the largest possible
MIDDLE = 8  # steps of imagination, about half a horizon
LOST = 0.05  # of ranking, from one probe to the next
RANKS = 0.65  # share of pairs of plans in the right order; chance is 0.5
FORGETS = 0.5  # recall on fresh steps, of that on the replay

Errors = TypeVar("Errors", FrameErrors, VectorErrors)

TRAINING = "training.world_model_every, model_optimizer.lr, replay.batch_size, total_frames"
LATENT = "world_model.num_categoricals, world_model.num_classes"
ROLLOUT = (
    "imagination.horizon, imagination.context_length, imagination.memory, model_loss.variation_target, "
    "model_loss.variation_free_nats, world_model.dynamics.post_norm"
)


def judge(found: Diagnosis) -> dict[str, str]:
    """Return a line for each part: its figures, and where they are bad ``look at`` the options that bear on it."""
    parts: dict[str, Callable[[Diagnosis], str]] = {
        "reward": judge_reward,
        "termination": judge_ending,
        "probes": judge_probes,
        "frames": judge_frames,
        "vector": judge_vector,
        "value": judge_value,
        "dream": judge_dream,
        "policy": judge_policy,
    }
    if found.plans is not None:
        parts["plans"] = judge_ranked_plans
    return {name: part(found) for name, part in parts.items()}


def judge_memory(replay: Diagnosis, fresh: Diagnosis) -> str:
    """Judge overfitting: the recall of rewards on fresh steps against that on the replay."""
    if min(replay.rewarded, fresh.rewarded) < FEW:
        return f"{replay.rewarded} rewards in the replay, {fresh.rewarded} in fresh steps: too few to compare"
    trained, new = (at(found.reward, 0).exact.recall or 0.0 for found in (replay, fresh))
    line = f"recall of rewards {trained:.2f} in the replay, {new:.2f} in fresh steps"
    if new < FORGETS * trained:
        options = f"total_frames, training.world_model_every (less), {_latent(replay)}"
        return f"{line}: they are learned by heart; look at {options}"
    return f"{line}: no sign of learning by heart" if trained >= HALF else f"{line}: there is little to be forgotten"


def judge_reward(found: Diagnosis) -> str:
    """Judge the predictions of rewards, from real steps and in imagination."""
    if found.rewarded < FEW:
        return f"{found.rewarded} rewards in {found.number} steps: too few to judge; give more records"
    now, means = at(found.reward, 0).exact, found.means[0]
    options = f"{TRAINING}, then at the {_observed(found)}, {_latent(found)}"
    recall, precision, ranking = now.recall or 0.0, now.precision, now.ranking or 0.0
    line = f"recall {recall:.2f} of {now.real} rewards, precision {_show(precision)}, ranking {_show(now.ranking)}"
    line += f", predicted {_share(means.predicted, means.real)} of the mean reward"
    line += f" ({_share(means.expected, means.real)} expected by the head's distribution)"
    if means.real and AMOUNT[0] < means.expected / means.real < AMOUNT[1] and means.predicted / means.real < AMOUNT[0]:
        line += "; how often is known, when is not, and the symlog mean understates what is uncertain"
    some, none = means.predicted_where_some or 0.0, means.predicted_where_none or 0.0
    if recall >= HALF and (precision or 0.0) >= HALF:
        later = at(found.reward, MIDDLE).near.recall or 0.0
        if later < HALF * recall:
            line += f"; after {MIDDLE} imagined steps recall is {later:.2f} (+-1 step): imagination loses them"
            return f"{line}; look at {ROLLOUT}"
        return f"{line}: most are predicted, {later:.2f} also after {MIDDLE} imagined steps (+-1 step)"
    if recall >= HALF:
        return f"{line}: it predicts rewards that do not come; look at {TRAINING}"
    if abs(some) < FLAT * abs(none):
        return f"{line}: nearly the same is predicted everywhere; look at {options}"
    if ranking >= KNOWS:
        return f"{line}: it knows when they are likely, and is not sure; look at {TRAINING}"
    return f"{line}: the world model misses most rewards; look at {options}"


def judge_ending(found: Diagnosis) -> str:
    """Judge the predictions of terminations from real steps."""
    if not found.terminated:
        return f"none in the {found.number} steps: nothing to judge"
    if found.terminated < FEW:
        return f"{found.terminated} in {found.number} steps: too few to judge; give more records"
    now = at(found.ending, 0).exact
    recall, precision, ranking = now.recall or 0.0, now.precision, now.ranking or 0.0
    line = f"recall {recall:.2f} of {now.real} (base rate {now.real / now.number:.2%}), precision {_show(precision)}"
    line += f", ranking {ranking:.2f}"
    if recall < HALF:
        return f"{line}: imagination plays on where it should end; look at {TRAINING}, replay.newest"
    if (precision or 0.0) < HALF:
        return f"{line}: imagination ends too often; look at {TRAINING}"
    return f"{line}: most are predicted"


def judge_probes(found: Diagnosis) -> str:
    """Name the part where the knowledge of rewards is lost."""
    probes = found.probes
    if probes is None:
        return "too few rewards, or in too few places, to probe; give more records"
    line = f"held-out ranking of {probes.held_out} rewards by a probe of {_observed(found)} {probes.frames:.2f}, of "
    line += f"latents {probes.latents:.2f}, of beliefs {probes.belief:.2f}; the head itself {probes.head:.2f}"
    if probes.frames > probes.head and probes.frames - max(probes.latents, probes.belief) > LOST:
        return f"{line}: {_observed(found)} show what the latents lack; look at {_latent(found)}, {TRAINING}"
    if probes.latents - max(probes.belief, probes.head) > LOST:
        return f"{line}: latents know what the belief lacks; look at world_model.dynamics.width, .window, {TRAINING}"
    if probes.belief - probes.head > LOST:
        return f"{line}: the belief knows what the head does not; look at world_model.head_width, {TRAINING}"
    if max(probes.frames, probes.latents, probes.belief, probes.head) < KNOWS:
        return f"{line}: no part knows them well, nor do the {_observed(found)} tell at once; more data, total_frames"
    return f"{line}: nothing is lost on the way"


def judge_frames(found: Diagnosis) -> str:
    """Judge the drawing of what moves, and its place in imagination."""
    if not found.frames:
        return "no pixels are observed: nothing to judge"
    middle, last = at_step(found.frames, MIDDLE), at_step(found.frames, HORIZON)
    still = last.whole["context frame"]
    line = f"after {HORIZON} steps imagination errs by {last.whole['imagined']:.4f}, a still picture by {still:.4f}"
    if not middle.moved:
        return f"{line}; nothing moved"
    seen, drawn, copied = (middle.moved[name] for name in ("reconstructed", "imagined", "context frame"))
    line += f"; where it moved, after {MIDDLE}: reconstructed {seen:.3f}, imagined {drawn:.3f}, still {copied:.3f}"
    if seen > BLIND * copied:
        return f"{line}: what moves is not drawn, so it is not in the latents; look at {_latent(found)}, {TRAINING}"
    if drawn > DRIFT * seen:
        return f"{line}: imagination loses what moves; look at {ROLLOUT}"
    return f"{line}: imagination is about as good as the reconstruction"


def judge_vector(found: Diagnosis) -> str:
    """Judge the reconstruction of a vector, and its course in imagination."""
    if not found.vector:
        return "no vector that varies is observed: nothing to judge"
    middle, last = at_step(found.vector, MIDDLE), at_step(found.vector, HORIZON)
    still = last.whole["context frame"]
    line = (
        f"after {HORIZON} steps imagination errs by {last.whole['imagined']:.2f} standard deviations, a still vector "
    )
    seen, drawn, copied = (middle.whole[name] for name in ("reconstructed", "imagined", "context frame"))
    line += f"by {still:.2f}; after {MIDDLE}: reconstructed {seen:.2f}, imagined {drawn:.2f}, still {copied:.2f}"
    errors = {dimension: error for dimension, error in enumerate(middle.dimensions["imagined"]) if error is not None}
    if len(errors) > 1:
        worst = max(errors, key=lambda dimension: errors[dimension])
        line += f", the worst dimension {worst}: {errors[worst]:.2f}"
    if seen > BLIND * copied:
        return f"{line}: what changes is not in the latents; look at {_latent(found)}, {TRAINING}"
    if drawn > BLIND * copied:
        return f"{line}: imagination loses what changes; look at {ROLLOUT}"
    return f"{line}: imagination follows what changes"


def judge_value(found: Diagnosis) -> str:
    """Judge the critic: does it order states by their returns, and are its values the right size?"""
    value = found.value
    if value is None:
        return "no critic of states, or no step whose return is known: nothing to judge"
    line = f"{value.number} steps, mean value {value.value_mean:.4g}, mean return {value.return_mean:.4g}"
    line += f", correlation {_show(value.correlation)}, slope {_show(value.slope)}"
    wrong = []
    if value.correlation is None or value.correlation < CORRELATION:
        wrong.append("values do not tell good states from bad ones")
    elif not SLOPE[0] <= (value.slope or 0.0) <= SLOPE[1]:
        wrong.append(f"values differ by too {'much' if (value.slope or 0.0) < 1 else 'little'}")
    if abs(value.bias) > BIAS * max(abs(value.return_mean), value.return_deviation):
        wrong.append(f"they are too {'high' if value.bias > 0 else 'low'}, see the dream")
    if wrong:
        options = "agent_optimizer.lr, agent.slow_critic_rate, agent.bootstrap, training.policy_every"
        return f"{line}: {', and '.join(wrong)}; look at {options}"
    return f"{line}: calibrated"


def judge_dream(found: Diagnosis) -> str:
    """Compare the rewards and terminations of imagination under the policy with those of the real game."""
    dream = found.dream
    line = f"imagined reward per step {dream.reward:.4g}, real {dream.real_reward:.4g}"
    line += f"; terminations per step {dream.ending:.4f}, real {dream.real_ending:.4f}"
    wrong = []
    if found.rewarded < FEW:
        line += f" ({found.rewarded} rewards: too few to judge)"
    elif abs(dream.reward) > AMOUNT[1] * abs(dream.real_reward) or dream.reward * dream.real_reward < 0:
        options = "imagination.horizon, training.world_model_every, training.policy_every, agent.entropy_coeff"
        wrong.append(f"other reward is imagined than there is; look at {options}")
    elif abs(dream.reward) < AMOUNT[0] * abs(dream.real_reward):
        wrong.append(
            "the imagined reward is nearer to 0 than the real one; look at the options that the reward part names"
        )
    if found.terminated >= FEW and not OFTEN[0] <= dream.ending / dream.real_ending <= OFTEN[1]:
        wrong.append(f"it ends too {'often' if dream.ending > dream.real_ending else 'seldom'}, see the termination")
    if not wrong and found.rewarded < FEW and found.terminated < FEW:
        return f"{line}: nothing to judge by; give more records"
    return f"{line}: {'; '.join(wrong) or 'about as in the game'}"


def judge_policy(found: Diagnosis) -> str:
    """Judge the policy's entropy: neither uniform nor fixed."""
    policy = found.policy
    if policy.most is None:
        return f"differential entropy {policy.entropy:.2f} nats: continuous actions, nothing to judge"
    share, favourite = policy.entropy / policy.most, max(range(len(policy.wanted)), key=policy.wanted.__getitem__)
    line = f"entropy {policy.entropy:.2f} of {policy.most:.2f} nats, action {favourite} in {max(policy.wanted):.0%}"
    if share > UNIFORM:
        return (
            f"{line}: nearly uniform, little or nothing was learned: compare its score with {other_command('random')}; "
            "look at the reward, agent_optimizer.lr, agent.entropy_coeff"
        )
    if share < CERTAIN:
        return f"{line}: it no longer explores; look at agent.entropy_coeff, agent_optimizer.lr, agent.return_norm_rate"
    return f"{line}: neither uniform nor fixed"


def at(events: list[Event], step: int) -> Event:
    """Return the event at a step, of the first kind (rewards of any sign)."""
    return next(event for event in events if event.step == step)


def at_step(rows: Sequence[Errors], step: int) -> Errors:
    """Return the errors of frames or of a vector at a step."""
    return next(row for row in rows if row.step == step)


def _observed(found: Diagnosis) -> str:
    return " and ".join(name for name, rows in (("frames", found.frames), ("vectors", found.vector)) if rows)


def _latent(found: Diagnosis) -> str:
    """Return the options of the latents, and of the parts of the encoder that there are."""
    parts = {"world_model.channels": found.frames, "world_model.encoder.hidden": found.vector}
    return ", ".join([*(option for option, rows in parts.items() if rows), LATENT])


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else f"{part:.3g} in place of 0"


def _show(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def judge_ranked_plans(found: Diagnosis) -> str:
    """Judge whether imagination tells better plans from worse ones."""
    plans = found.plans
    if plans is None or plans.ranking is None or plans.pairs < FEW:
        return "the plans played earned the same: nothing to judge; give more of them, or train on"
    line = f"of {plans.pairs} pairs of plans from {plans.moments} moments, the better one is imagined to earn more in "
    line += f"{plans.ranking:.2f}"
    if plans.ranking < RANKS:
        options = "world_model.expected_posterior, model_loss.unroll_steps, model_loss.foreground_weight"
        return (
            f"{line}: it does not know what its actions lead to, and no agent can learn that from it; look at {options}"
        )
    return f"{line}: it knows what its actions lead to"
