"""GLAM on a pixel game: collect, extend, update world model, imagine, update policy, log; evaluate at the end.

    python examples/glam_atari.py env.name=ALE/Pong-v5

Options are `key=value`: those of a run are in torchrl_glam/config, those of a part its constructor's arguments.
"""

from __future__ import annotations

import torchrl_glam.command.interrupt  # noqa: F401  # isort: skip (the imports below take seconds)

from pathlib import Path

from torchrl.envs import EnvBase

from torchrl_glam import factory
from torchrl_glam.command.cli import command_line, resolve_device
from torchrl_glam.config import GLAMConfig, Starts
from torchrl_glam.data import newest_records
from torchrl_glam.runs.check import report_machine
from torchrl_glam.runs.checkpoint import TrainedNetworks
from torchrl_glam.runs.estimate import estimate_seconds
from torchrl_glam.runs.glam import GLAMRun
from torchrl_glam.runs.progress import replay_age
from torchrl_glam.tools.pictures.media import MEDIA, write_episode, write_media
from torchrl_glam.training.evaluation import FirstEpisode, play_episodes

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PICTURED = 16  # imagined frames in a picture


@command_line(CONFIGS, "glam_atari")
def main(config: GLAMConfig) -> None:
    """Train and evaluate one agent on the environment that the options name."""
    factory.set_seeds(config.seed)
    train(config, factory.make_env(config), factory.make_evaluation_env(config))


def train(config: GLAMConfig, env: EnvBase, evaluation_env: EnvBase) -> None:
    """Train one agent on ``env``, and evaluate it on ``evaluation_env``, which is a single one."""
    device = resolve_device(config.device)
    if config.check:
        return report_machine(config, env, device)
    action_spec = env.action_spec_unbatched

    # The networks, and the same world model as an environment.
    world_model = factory.make_world_model(config, action_spec, device, **factory.observed_sizes(env))
    actor = factory.make_actor(config, world_model, action_spec)
    policy = factory.make_policy(config, world_model, actor, action_spec)
    imagined_env = factory.make_imagined_env(config, world_model, action_spec)

    # The two updates, and the data for them: one storage seen as long sequences and as short contexts.
    update_policy = factory.make_policy_update(config, imagined_env, actor)
    update_world_model = factory.make_world_model_update(config, world_model)
    sequences, contexts = factory.make_replay(config, env, device)
    collector = factory.make_collector(config, env, policy)

    # The run's folder: what is in it from an earlier process is gone on with, from the same numbers on.
    run = GLAMRun(config)
    run.announce(env, world_model, update_policy.objective, estimate_seconds(config, env, device))
    networks = TrainedNetworks({"world_model": world_model, **update_policy.networks}, action_spec)
    run.resume(networks, sequences, world_model=update_world_model, policy=update_policy, collector=collector)

    def show(frame: int) -> None:
        """Write pictures of what the world model imagines now, after the newest real frames."""
        held = len(sequences) // env.batch_size.numel()
        number = min(config.imagination.context_length + PICTURED, config.longest_sequence(), held)
        context_length = min(config.imagination.context_length, number // 2)
        records = newest_records(sequences, number).to(device)
        dynamics = imagined_env.transition.dynamics
        write_media(run.folder, run.loggers, frame, world_model, records, context_length, dynamics=dynamics)

    schedule, replay_starts = config.training, config.imagination.starts is Starts.replay
    metrics = run.progress.metrics
    with run:
        for frames, step in run.collect(collector):
            sequences.extend(step)
            for frame in frames:  # one, but for several environments
                if frame <= schedule.warmup_frames:
                    continue
                if replay_starts and frame % schedule.policy_every == 0:
                    contexts.draw()  # and, where the replay is not on the device, gather during the next update
                if frame % schedule.world_model_every == 0:
                    batch = sequences.sample().to(device, non_blocking=True)
                    world_model_metrics, latents = update_world_model(batch)
                    metrics["world_model"] = world_model_metrics.set("replay_age", replay_age(batch, sequences))
                if frame % schedule.policy_every == 0:
                    starts = contexts.sample() if replay_starts else latents
                    metrics["policy"] = update_policy(starts, config.imagination.horizon_at(frame))
                if frame % schedule.log_every == 0:
                    run.log_updates(frame)
                if schedule.media_every and frame % schedule.media_every == 0:
                    show(frame)
        collector.shutdown()
        contexts.shutdown()

        # What it can do, and what it imagines.
        if not schedule.media_every or config.total_frames % schedule.media_every:
            show(config.total_frames)
        first_episode = FirstEpisode()
        episodes = factory.num_evaluation_episodes(config)
        greedy = config.evaluation.greedy
        played = play_episodes(evaluation_env, policy, episodes, greedy=greedy, progress=True, on_step=first_episode)
        run.finish(played)
        if played:
            write_episode(run.folder / MEDIA / "evaluation.gif", first_episode.observations)


if __name__ == "__main__":
    main()
