"""A diagnosis as Markdown and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from torchrl_glam.presentation import NOTHING, escape_html, markdown
from torchrl_glam.tools.diagnosis.diagnose import HORIZON, Diagnosis
from torchrl_glam.tools.diagnosis.measures import Calibration
from torchrl_glam.tools.diagnosis.parts import FORGOTTEN, MOVED, Event, PolicyPart
from torchrl_glam.tools.diagnosis.verdicts import MIDDLE, at_step, judge, judge_memory
from torchrl_glam.tools.pictures.traces import MOST

LOCK = ".lock"  # in a run's folder, taken by the process that trains it
SHOWN = (0, 1, 4, 8, HORIZON)  # steps in the tables; all of them are in the JSON file
GUESSES = ("reconstructed", "imagined", "context frame")


def to_json(title: dict[str, Any], found: dict[str, Diagnosis]) -> str:
    """Return the text of the JSON file; a number that does not exist is ``null``."""
    verdicts = {source: judge(diagnosis) for source, diagnosis in found.items()} | _memory(found)
    everything = {**title, "verdicts": verdicts, **{source: asdict(entry) for source, entry in found.items()}}
    return json.dumps(everything, indent=1, allow_nan=False) + "\n"


def to_screen(title: dict[str, Any], found: dict[str, Diagnosis]) -> str:
    """Return the text for the screen: where the run stands, and the verdicts, the last of them on its memory."""
    lines = [f"# {title['env']}: {title['state']}", ""]
    for source, diagnosis in found.items():
        lines += [f"**{source}**, {diagnosis.number} steps:", ""]
        lines += [f"* {part}: {line}" for part, line in judge(diagnosis).items()]
        lines += [""]
    return "\n".join([*lines, *(f"**learned by heart?** {line}\n" for line in _memory(found).values())])


def describe_state(folder: Path, frame: int, total: int) -> str:
    """Return how far the run in ``folder`` is, and whether it is still trained."""
    if frame >= total:
        return f"finished, {frame:,} steps"
    lock = FileLock(folder / LOCK)
    try:
        if (folder / LOCK).exists():
            with lock.acquire(timeout=0):
                pass
    except (OSError, Timeout) as error:
        if isinstance(error, Timeout):
            return f"in training, at {frame:,} of {total:,} steps"
    return f"stopped at {frame:,} of {total:,} steps"


def to_markdown(title: dict[str, Any], found: dict[str, Diagnosis]) -> str:
    """Return the text of the Markdown file: verdicts first, then the tables of each source."""
    lines = [to_screen(title, found)]
    for source, diagnosis in found.items():
        lines += [f"## {source}", "", *_tables(diagnosis)]
    return escape_html("\n".join(lines))


def _memory(found: dict[str, Diagnosis]) -> dict[str, str]:
    return {"memory": judge_memory(*found.values())} if len(found) == 2 else {}


def _tables(found: Diagnosis) -> list[str]:
    some = f"beyond {found.threshold:.3g}, half of the smallest" if found.threshold else "there are none"
    parts = {
        f"Reward ({found.rewarded} of {found.number} steps; predicted: {some})": _event_table(found.reward),
        "Mean reward per step (expected: the mean of the head's distribution, not of its symlog)": _mean_table(found),
        "Probes: held-out ranking of rewards by each part": _probe_table(found),
        f"Termination, a lost life ({found.terminated} of {found.number} steps)": _event_table(found.ending),
        f"Frames, mean absolute error of 1 (moved: by more than {MOVED} of 255)": _frame_table(found),
        "Vector, root mean squared error in standard deviations of the real steps, in symlog space": _vector_table(
            found
        ),
        f"Value (returns known but for a discount of {FORGOTTEN:.0%})": _value_table(found.value),
        f"Dream under the policy ({found.dream.number} x {found.dream.horizon} steps)": _dream_table(found),
        f"Policy in {found.policy.number} real states": _policy_table(found.policy),
    }
    if found.plans is not None:
        parts["Plans: pairs of which the better one is imagined to earn more"] = _table(
            ["moments", "pairs", "ranking"], [list(asdict(found.plans).values())]
        )
    lines = [
        f"Step 0: predicted from {found.context} real steps; step n: after n imagined ones under the actions really "
        "taken. Ranking: the probability that a step with the event scores higher than one without; 0.5 is chance.",
        "",
    ]
    for name, table in parts.items():
        lines += [f"### {name}", "", table or "none in the data", ""]
    return lines


def _event_table(events: list[Event]) -> str:
    if not any(event.exact.real or event.exact.said for event in events):
        return ""
    titles = ["what", "step", "n", "real", "predicted", "recall", "+-1 step", "precision", "+-1 step", "ranking"]
    rows = []
    for event in events:
        exact, near = event.exact, event.near
        tolerant = (near.recall, near.precision) if event.step else (None, None)
        row = [event.what, event.step, exact.number, exact.real, exact.said]
        rows.append([*row, exact.recall, tolerant[0], exact.precision, tolerant[1], exact.ranking])
    return _table(titles, [row for row in rows if row[1] in SHOWN])


def _mean_table(found: Diagnosis) -> str:
    titles = ["step", "real", "predicted", "expected", "real where not 0", "predicted there", "predicted where 0"]
    return _table(titles, [list(asdict(row).values()) for row in found.means if row.step in SHOWN])


def _probe_table(found: Diagnosis) -> str:
    if found.probes is None:
        return "too few rewards"
    titles = ["rewards held out", "frames", "latents", "belief", "the head itself"]
    return _table(titles, [list(asdict(found.probes).values())])


def _frame_table(found: Diagnosis) -> str:
    titles = ["step", *GUESSES, "moved", *(f"{name}, where it moved" for name in GUESSES)]
    rows = [
        [row.step, *map(row.whole.get, GUESSES), f"{row.share:.1%}", *map(row.moved.get, GUESSES)]
        for row in found.frames
        if row.step in SHOWN
    ]
    return _table(titles, rows)


def _vector_table(found: Diagnosis) -> str:
    rows = [[row.step, *map(row.whole.get, GUESSES)] for row in found.vector if row.step in SHOWN]
    if not rows:
        return "none is observed, or none that varies"
    middle = at_step(found.vector, MIDDLE).dimensions
    errors = list(zip(*(middle[name] for name in GUESSES), strict=True))[:MOST]
    dimensions = [[dimension, *of_guesses] for dimension, of_guesses in enumerate(errors)]
    return f"{_table(['step', *GUESSES], rows)}\n\n{_table([f'dimension, step {MIDDLE}', *GUESSES], dimensions)}"


def _value_table(value: Calibration | None) -> str:
    if value is None:
        return "no critic of states, or no step whose return is known"
    titles = ["n", "mean value", "mean return", "bias", "deviation of values", "of returns", "correlation", "slope"]
    row: list[Any] = [value.number, value.value_mean, value.return_mean, value.bias, value.value_deviation]
    row += [value.return_deviation, value.correlation, value.slope]
    curve = [["value", *(pair[0] for pair in value.curve)], ["return", *(pair[1] for pair in value.curve)]]
    parts = ["steps by value", *(f"{number + 1}" for number in range(len(value.curve)))]
    return f"{_table(titles, [row])}\n\n{_table(parts, curve)}"


def _dream_table(found: Diagnosis) -> str:
    dream = found.dream
    rows = [
        ["imagined", dream.reward, dream.ending, dream.target],
        ["real", dream.real_reward, dream.real_ending, found.value and found.value.return_mean],
    ]
    return _table(["", "reward per step", "terminations per step", "mean return (lambda return)"], rows)


def _policy_table(policy: PolicyPart) -> str:
    unit = "share of action" if policy.most is not None else "mean of action"
    rows = [["policy", *policy.wanted], ["really taken", *policy.taken]]
    return _table([unit, *map(str, range(len(policy.wanted)))], rows)


def _table(titles: list[str], rows: list[list[Any]]) -> str:
    return markdown(titles, [[_cell(cell) for cell in row] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return NOTHING
    return f"{value:.4g}" if isinstance(value, float) else str(value)
