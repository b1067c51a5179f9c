"""Play whole episodes of a run's game by its policy, and write their returns to a file.

    python examples/evaluate.py run_dir=runs/pong
    python examples/evaluate.py run_dir=runs/pong protocol=standard seed=1 greedy=true video=true

Options that are not given are as in the run. The same options give the same returns, and the same JSON file.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torchrl.envs import EnvBase

from torchrl_glam import factory
from torchrl_glam.command.cli import resolve_device
from torchrl_glam.command.options import small_command
from torchrl_glam.config import Device, GLAMConfig, Protocol
from torchrl_glam.errors import UsageError, check_least, make_writable
from torchrl_glam.runs.files import write_file
from torchrl_glam.runs.foreign import read_json
from torchrl_glam.runs.loading import LoadedRun, load_run
from torchrl_glam.runs.provenance import package_versions
from torchrl_glam.tools.pictures.media import write_episode
from torchrl_glam.training.evaluation import FirstEpisode, Score, play_episodes

FPS = 15  # an Atari game's speed at frame skip 4


@dataclass
class EvaluateOptions:
    """Options of examples/evaluate.py."""

    run_dir: str  # folder of a run, or of an export
    weights: str = "newest"  # newest, or best: the checkpoint with the highest return in training
    trust: bool = False  # import the classes and environments that the run names, which may run any code
    protocol: Protocol | None = None  # glam or standard; null: the run's
    episodes: int | None = None  # null: as many as the run plays, else the protocol's number
    seed: int | None = None  # null: the run's
    greedy: bool | None = None  # the most likely actions instead of samples; null: as in the run
    device: Device = Device.auto
    out: str | None = None  # JSON file; null: run_dir/evaluation-FRAME-PROTOCOL-seedSEED.json
    video: bool = False  # the first episode as a GIF, of a vector as traces: in run_dir/media, or beside out


@small_command(EvaluateOptions)
def main(options: EvaluateOptions) -> None:
    """Play whole episodes of a run's game by its policy, and write their returns to a file."""
    device = resolve_device(options.device)
    run = load_run(options.run_dir, weights=options.weights, device=device, trust=options.trust)
    config = change(run.config, options)
    question = describe(run, config)
    name = f"{run.frame}-{config.env.protocol.value}-seed{config.seed}{'-greedy' * config.evaluation.greedy}"
    out = make_writable("out", Path(options.out or run.folder / f"evaluation-{name}.json"))
    refuse_other_content(out, question)
    film = out.with_suffix(".gif") if options.out else run.folder / "media" / f"episode-{name}.gif"
    first = FirstEpisode() if options.video and make_writable("video", film) else None

    factory.set_seeds(config.seed)
    env = make_env(run, config)
    number, greedy = question["episodes"], config.evaluation.greedy
    played = play_episodes(env, run.policy, number, greedy=greedy, progress=True, on_step=first)
    env.close()

    score = Score(config.env.name, config.env.protocol.value, [episode.episode_return for episode in played])
    print(f"evaluation: {score} | {run.frame} frames of training | {out}")
    answer = {
        "returns": score.returns,
        "lengths": [episode.length for episode in played],
        "cut": sum(episode.cut for episode in played),
        "mean": score.mean,
        "standard_deviation": score.standard_deviation,
        "human_normalised": score.human_normalised,
    }
    write_file(out, f"{json.dumps({**question, **answer}, indent=2)}\n".encode())
    if first is not None:
        written = write_episode(film, first.observations, fps=FPS, scale=4)
        print(f"the first episode: {', '.join(map(str, written))}")


def change(config: GLAMConfig, options: EvaluateOptions) -> GLAMConfig:
    """Return the run's options with those of the evaluation."""
    check_least(options, {"episodes": 1, "seed": 0})
    greedy = config.evaluation.greedy if options.greedy is None else options.greedy
    return replace(
        config,
        seed=config.seed if options.seed is None else options.seed,
        env=replace(config.env, protocol=options.protocol or config.env.protocol),
        evaluation=replace(config.evaluation, greedy=greedy, episodes=options.episodes or config.evaluation.episodes),
    )


def describe(run: LoadedRun, config: GLAMConfig) -> dict[str, Any]:
    """Return everything that the returns depend on."""
    return {
        "env": config.env.name,
        "protocol": config.env.protocol.value,
        "frame": run.frame,
        "episodes": factory.num_evaluation_episodes(config),
        "seed": config.seed,
        "greedy": config.evaluation.greedy,
        "device": next(run.policy.parameters()).device.type,
        "versions": package_versions(),
    }


def refuse_other_content(out: Path, question: dict[str, Any]) -> None:
    """Raise UsageError if the file holds anything but an earlier result of the same evaluation."""
    if not out.exists():
        return
    try:
        there = read_json(out)
        other = [f"{name}={there[name]}"[:100] for name, value in question.items() if there[name] != value]
    except (ValueError, KeyError, TypeError):  # a UsageError is a ValueError
        other = ["or something else"]
    if other:
        raise UsageError(f"out={out} holds another evaluation ({other[0]}): remove it, or choose another file, out=...")


def make_env(run: LoadedRun, config: GLAMConfig) -> EnvBase:
    """Make the run's environment.

    Raises:
        UsageError: if its name makes none, or one with other actions.
    """
    name, how = config.env.name, "for one of your own call torchrl_glam.training.evaluate with load_run(...).policy"
    try:
        env = factory.make_evaluation_env(config)
    except UsageError as error:
        raise UsageError(f"env.name={name} makes no environment ({error}): {how}") from error
    made, wanted = env.action_spec, run.action_spec
    if (made.shape, made.domain) != (wanted.shape, wanted.domain):
        raise UsageError(f"env.name={name} makes an environment with other actions than the run's: {how}")
    return env


if __name__ == "__main__":
    main()
