"""The modules that somebody else's options or dataset would import, and the user's word for them.

A run, an export or a dataset is data. What it names is imported without asking only from this package and TorchRL, and
environments that Gymnasium's and ale-py's own registries hold. A user's own command line is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import gymnasium

from torchrl_glam.errors import UsageError

OWN = ("torchrl_glam",)
TRUSTED = {  # packages of what may be imported, by the options that name it; any other option is trusted in nothing
    re.compile(r"(world_model|world_model\.\w+|model_loss|model)\._target_"): OWN,
    re.compile(r"objective\.(_target_|loss)"): (*OWN, "torchrl"),
}
ENVIRONMENTS = ("gymnasium", "ale_py", "torchrl", *OWN)
FILES = ("RecordVideo", "HumanRendering")  # wrappers of Gymnasium's that write files or open windows
SHOWN = 10


def option_imports(options: Any) -> dict[str, str]:
    """Return the import paths that plain options name beyond this package's and TorchRL's, by the options' names.

    Examples:
        >>> from torchrl_glam.config.trust import option_imports
        >>> option_imports({"env": {"name": "mine:Game-v0"}, "objective": {"loss": "torchrl.objectives.A2CLoss"}})
        {'env.name': 'mine'}
    """
    found = {
        name.removesuffix("._target_"): path
        for name, path in _paths(options)
        if not any(place.fullmatch(name) and _root(path) in packages for place, packages in TRUSTED.items())
    }
    env = options.get("env") if isinstance(options, Mapping) else None
    name = env.get("name") if isinstance(env, Mapping) else None
    if isinstance(name, str) and (path := env_import(name)):
        found["env.name"] = path
    return found


def env_import(name: str) -> str | None:
    """Return the module that making a Gymnasium environment would import, unless it is Gymnasium's or ale-py's own."""
    module, _, short_name = name.rpartition(":")
    spec = gymnasium.registry.get(short_name)
    entry = spec.entry_point if spec else None  # a class is there already
    paths = [module, entry if isinstance(entry, str) else ""]
    return next((path for path in paths if path and _root(path) not in ENVIRONMENTS), None)


def spec_imports(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the import paths that a Gymnasium environment's specification names, beyond those of its registry.

    Gymnasium calls ``entry_point`` with any arguments that the specification gives, so that only the very one is
    trusted that this machine's registry has under the same id. Of its wrappers, those that write files are not.

    Args:
        spec: the content of its JSON.
    """
    name = str(spec.get("id"))
    own = gymnasium.registry.get(name.rpartition(":")[2])
    found = {"env_spec.id": path} if (path := env_import(name)) else {}
    for entry in ("entry_point", "vector_entry_point"):
        if (path := spec.get(entry)) is not None and (own is None or path != getattr(own, entry)):
            found[f"env_spec.{entry}"] = str(path)
    wrappers = spec.get("additional_wrappers")
    for wrapper in wrappers if isinstance(wrappers, list) else ():
        path = str(wrapper.get("entry_point")) if isinstance(wrapper, Mapping) else str(wrapper)
        module, _, name = path.partition(":")
        if not re.fullmatch(r"gymnasium\.wrappers(\.\w+)*", module) or name in FILES:
            found["env_spec.additional_wrappers"] = path
    return found


def check_trust(source: str, imports: Mapping[str, str], trust: bool, named: Iterable[str] = ()) -> None:
    """Refuse to import what somebody else's files name, unless the user says so.

    Args:
        source: of the import paths, for the error.
        imports: from the functions above.
        trust: the user's word.
        named: import paths that the user gave at the same call: what lies in their packages is trusted.

    Raises:
        UsageError: lists everything that would be imported.
    """
    roots = {_root(path) for path in named}
    untrusted = [f"{path[:200]!a} ({name})" for name, path in imports.items() if _root(path) not in roots]
    if untrusted and not trust:
        more = f" and {len(untrusted) - SHOWN} more" if len(untrusted) > SHOWN else ""
        raise UsageError(
            f"{source} would import {', '.join(untrusted[:SHOWN])}{more}, which may run any code: if you trust whoever "
            "wrote it, add trust=true (in Python, trust=True)"
        )


def _root(path: str) -> str:
    return re.split("[.:]", path)[0]


def _paths(options: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the import paths in nested options, with the options' names: of parts, of an objective's loss."""
    if isinstance(options, Mapping):
        for name, value in options.items():
            place = f"{prefix}{name}"
            if str(name) == "_target_" or place == "objective.loss":
                yield place, str(value)
            yield from _paths(value, f"{place}.")
    elif isinstance(options, list):
        for value in options:
            yield from _paths(value, prefix)
