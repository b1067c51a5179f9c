"""The environment that a dataset was recorded in, with its arguments, its time limit and its wrappers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from torchrl_glam.envs.gymnasium import is_ale
from torchrl_glam.errors import UsageError, one_line
from torchrl_glam.runs.reading import want

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


SIZE = 10_000  # characters of all arguments in JSON, and the largest number among them
LONG = re.compile(r"(.*_)?(steps|seed)")  # names of numbers that take no memory, up to 2**31
CELLS = 2**20  # by how much wrappers may multiply an observation


def check_form(spec: Any) -> None:
    """Raise UsageError unless the content of a specification's JSON has the types that Gymnasium writes."""
    want(isinstance(spec, dict), "its environment has no names")
    want(isinstance(spec.get("id"), str), "its environment has no id")
    want(isinstance(spec.get("kwargs", {}), dict), "the arguments of its environment have no names")
    limit, wrappers = spec.get("max_episode_steps"), spec.get("additional_wrappers") or []
    want(limit is None or isinstance(limit, int), "max_episode_steps of its environment is not a whole number")
    want(isinstance(wrappers, list), "the wrappers of its environment are no list")
    for wrapper in wrappers:
        want(isinstance(wrapper, dict), "a wrapper of its environment has no names")
        want(all(isinstance(wrapper.get(key), str) for key in ("name", "entry_point")), "a wrapper of it has no name")
        want(isinstance(wrapper.get("kwargs") or {}, dict), "the arguments of a wrapper of it have no names")


def check_arguments(dataset_id: str, spec: Mapping[str, Any]) -> None:
    """Refuse arguments of an environment and its wrappers that take all memory, or name a file.

    Args:
        dataset_id: for errors.
        spec: of the form that :func:`check_form` wants.

    Raises:
        UsageError: names the first of them; the user may trust whoever wrote the dataset.
    """
    own = gymnasium.registry.get(spec["id"].rpartition(":")[2])
    known = own.kwargs if own else {}
    arguments = {name: value for name, value in spec.get("kwargs", {}).items() if known.get(name) != value}
    wrappers = spec.get("additional_wrappers") or []
    if len(json.dumps([arguments, wrappers])) > SIZE:
        fault: str | None = f"more than {SIZE:,} characters of arguments"
    else:
        parts = [arguments, *(wrapper.get("kwargs") or {} for wrapper in wrappers)]
        faults = (_find_fault(name, value) for part in parts for name, value in _leaves(part))
        fault = next((fault for fault in faults if fault is not None), None)
        if fault is None and math.prod(map(_factor, wrappers)) > CELLS:
            fault = "wrappers that make huge observations"
    if fault is not None:
        raise UsageError(
            f"the dataset {dataset_id} was recorded in {one_line(spec['id'])[:80]} with {fault}: if you trust whoever "
            "wrote it, add trust=true (in Python, trust=True)"
        )


def _find_fault(name: str, value: Any) -> str | None:
    """Return what is wrong with one argument, in words."""
    if isinstance(value, str) and (name == "xml_file" or "/" in value or "\\" in value):
        return f"{one_line(name)[:80]}={value[:80]!a}, which names a file"
    most = 2**31 - 1 if LONG.fullmatch(name) else SIZE
    if isinstance(value, int | float) and value not in (math.inf, -math.inf) and not abs(value) <= most:
        return f"{one_line(name)[:80]} beyond {most:,}"
    return None


def _factor(wrapper: Mapping[str, Any]) -> int:
    """Return by how much a wrapper may multiply an observation at most."""
    if _kind(wrapper["entry_point"]) == "ReshapeObservation":
        return 1
    leaves = _leaves(wrapper.get("kwargs") or {})
    return math.prod(max(1, abs(value)) for name, value in leaves if type(value) is int and not LONG.fullmatch(name))


def _leaves(arguments: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all numbers and texts in nested arguments, by the innermost name; names are texts too."""
    if isinstance(arguments, Mapping):
        for inner, value in arguments.items():
            yield "name", inner
            yield from _leaves(value, inner)
    elif isinstance(arguments, list):
        for value in arguments:
            yield from _leaves(value, name)
    else:
        yield name, arguments


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
        if not wrapper.entry_point.startswith("gymnasium.wrappers.") or _kind(wrapper.entry_point) not in REBUILT:
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


def _kind(entry_point: str) -> str:
    """Return the class that an entry point names; a wrapper's own name says nothing about it."""
    return entry_point.rpartition(":")[2]


def _names(wrappers: Sequence[Any]) -> list[str]:
    return [wrapper.name for wrapper in wrappers]
