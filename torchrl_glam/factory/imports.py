"""Classes of the user's, named on the command line."""

from __future__ import annotations

import pkgutil
from typing import Any

from torch import nn

from torchrl_glam.errors import UsageError, describe_error

ARGUMENTS = {"dynamics": ["width"], "objective": ["actor", "critic"]}  # the first ones, by the names that we give them


def make_from_path(option: str, path: str, base: type[nn.Module], *args: Any, **kwargs: Any) -> Any:
    """Import the class ``path``, ``package.module.Class``, and make one.

    Args:
        option: ``dynamics`` or ``objective``, for errors.
        path: of the class.
        base: what it must be a subclass of.
        args, kwargs: of its constructor.

    Raises:
        UsageError: if it cannot be imported, is no such class, or cannot be made of the arguments.
    """
    try:
        found = pkgutil.resolve_name(path)
    except Exception as error:  # whatever somebody's module may raise while it is imported
        reason = describe_error(error)
        raise UsageError(f"{option}={path} cannot be imported (give package.module.Class): {reason}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{option}={path} is no subclass of {base.__module__}.{base.__name__}: make it one")
    try:
        made = found(*args, **kwargs)
    except UsageError:
        raise
    except Exception as error:  # or while one is made
        names = ARGUMENTS[option]
        given = [*names, *(type(arg).__name__ for arg in args[len(names) :]), *(f"{name}=..." for name in kwargs)]
        call = f"{found.__name__}({', '.join(given)})"
        raise UsageError(f"{option}={path} cannot be made as {call}: {describe_error(error)}") from error
    if "_modules" not in vars(made):
        raise UsageError(f"{option}={path} is no module: call super().__init__ in {found.__name__}.__init__")
    return made
