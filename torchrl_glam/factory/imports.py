"""Classes of the user's, named on the command line."""

from __future__ import annotations

import pkgutil
from typing import Any

from torchrl_glam.errors import UsageError


def make_from_path(option: str, path: str, base: type, *args: Any, **kwargs: Any) -> Any:
    """Import the class ``path``, ``package.module.Class``, and make one.

    Args:
        option: the option that named it, for errors.
        path: of the class.
        base: what it must be a subclass of.
        args, kwargs: of its constructor.

    Raises:
        UsageError: if it cannot be imported, is no such class, or refuses the arguments.
    """
    try:
        found = pkgutil.resolve_name(path)
    except Exception as error:  # whatever somebody's module may raise while it is imported
        raise UsageError(f"{option}={path} cannot be imported ({error}): give package.module.Class") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{option}={path} is no subclass of {base.__module__}.{base.__name__}: make it one")
    try:
        return found(*args, **kwargs)
    except UsageError:
        raise
    except Exception as error:  # or while one is made
        given = ", ".join([*(type(arg).__name__ for arg in args), *(f"{name}=..." for name in kwargs)])
        raise UsageError(f"{option}={path} cannot be made as {found.__name__}({given}): {error}") from error
