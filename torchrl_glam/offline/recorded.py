"""The environment that a dataset was recorded in, with its arguments, its time limit and its wrappers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gymnasium.envs.registration import EnvSpec

from torchrl_glam.envs.gymnasium import is_ale
from torchrl_glam.errors import UsageError, one_line

REBUILT = (
    "ClipAction",
    "ClipReward",
    "DtypeObservation",
    "FilterObservation",
    "FlattenObservation",
    "FrameStackObservation",
    "OrderEnforcing",
    "PassiveEnvChecker",
    "RecordEpisodeStatistics",
    "RescaleAction",
    "RescaleObservation",
    "ReshapeObservation",
    "ResizeObservation",
    "StickyAction",
    "TimeAwareObservation",
    "TimeLimit",
)
"""Gymnasium's wrappers that a dataset may ask for: they touch no files, open no windows and keep no statistics."""


def recorded_spec(dataset_id: str, own: EnvSpec, recorded: EnvSpec | None, *, pixels: bool) -> EnvSpec:
    """Return what to make the environment of, so that a policy is evaluated in the one that the dataset is of.

    Args:
        dataset_id: for errors.
        own: the specification of that name here. Only its entry point is imported, never the dataset's.
        recorded: the dataset's; ``None`` is ``own``.
        pixels: the environment will observe frames, which for ALE games is what ``env.protocol`` says.

    Raises:
        UsageError: if the environment cannot be made as it was recorded.
    """
    if recorded is None:
        return own
    if pixels and is_ale(own) and (differences := _differences(own, recorded)):
        raise UsageError(
            f"the dataset {dataset_id} was recorded in {own.id} with {one_line(differences)}, which env.protocol does "
            "not say: write the dataset without its environment, and give env.name"
        )
    for wrapper in recorded.additional_wrappers:
        if not wrapper.entry_point.startswith("gymnasium.wrappers.") or wrapper.name not in REBUILT:
            raise UsageError(
                f"the dataset {dataset_id} was recorded through the wrapper {one_line(wrapper.entry_point)}, which is "
                "not made again: write the dataset without its environment, register one that has the wrapper, and "
                "give its name as env.name"
            )
    return replace(
        own,
        kwargs=_without_rendering(recorded),
        max_episode_steps=recorded.max_episode_steps,
        additional_wrappers=tuple(recorded.additional_wrappers),
    )


def _differences(own: EnvSpec, recorded: EnvSpec) -> str:
    """Return in words what the recorded environment has otherwise, empty if nothing."""
    before, after = own.kwargs, _without_rendering(recorded)
    found = [f"{name}={after.get(name)}" for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    if own.max_episode_steps != recorded.max_episode_steps:
        found.append(f"max_episode_steps={recorded.max_episode_steps}")
    return ", ".join([*found, *_names(recorded.additional_wrappers)])


def _without_rendering(spec: EnvSpec) -> dict[str, Any]:
    """Return the arguments of the constructor, but for how whoever recorded watched."""
    return {name: value for name, value in spec.kwargs.items() if name != "render_mode"}


def _names(wrappers: Sequence[Any]) -> list[str]:
    return [wrapper.name for wrapper in wrappers]
