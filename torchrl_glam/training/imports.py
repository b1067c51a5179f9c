"""Classes of the user's, named by their import paths."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any

from torch import nn

from torchrl_glam.errors import UsageError, describe_error


def import_class(option: str, path: str, *bases: type) -> Any:
    """Import the class ``path``, ``package.module.Class``.

    Args:
        option: the option that names it, for errors.
        path: of the class.
        bases: one of which it must extend.

    Raises:
        UsageError: if it cannot be imported, or extends none of them.
    """
    try:
        found = pkgutil.resolve_name(path)
    except Exception as error:  # whatever somebody's module may raise while it is imported
        reason = describe_error(error)
        raise UsageError(f"{option}={path} cannot be imported (give package.module.Class): {reason}") from error
    if not (isinstance(found, type) and issubclass(found, bases)):
        names = " or ".join(f"{base.__module__}.{base.__name__}" for base in bases)
        raise UsageError(f"{option}={path} is no subclass of {names}: make it one")
    return found


def make_module(option: str, path: str, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Make a module by somebody's class, whose errors become one line.

    Args:
        option, path: for errors.
        make: the class, or a partial of it.
        args, kwargs: of its constructor.

    Raises:
        UsageError: if it cannot be made of the arguments, or does not call ``super().__init__``.
    """
    try:
        made = make(*args, **kwargs)
    except UsageError:
        raise
    except Exception as error:  # whatever somebody's class may raise while one is made
        given = ", ".join([*(type(arg).__name__ for arg in args), *(f"{name}=..." for name in kwargs)])
        call = f"{path.split('.')[-1]}({given})"
        raise UsageError(f"{option}={path} cannot be made as {call}: {describe_error(error)}") from error
    if isinstance(made, nn.Module) and "_modules" not in vars(made):
        raise UsageError(f"{option}={path} is no module: call super().__init__ in {type(made).__name__}.__init__")
    return made
