"""Signatures of constructors that pass keyword arguments on to another one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_type_hints

Init = TypeVar("Init", bound=Callable[..., None])


def passes_on(to: Callable[..., Any], *, without: Sequence[str] = ()) -> Callable[[Init], Init]:
    """Show the keyword-only options of ``to`` in the signature of a constructor that passes ``**options`` on to it.

    So they have one home, and whoever reads the signature, such as a command line, finds them.

    Args:
        to: the other constructor, or its class.
        without: options that the constructor does not take.

    Examples:
        >>> import inspect
        >>> from torchrl_glam.modules import GLAMDynamics
        >>> "d_state" in inspect.signature(GLAMDynamics).parameters
        True
    """

    constructor = to.__init__ if isinstance(to, type) else to  # type: ignore[misc]
    hints = get_type_hints(constructor)

    def decorate(init: Init) -> Init:
        *own, rest = inspect.signature(init).parameters.values()
        assert rest.kind is rest.VAR_KEYWORD, f"{init.__qualname__} passes no keywords on"
        known = {parameter.name for parameter in own}.union(without)
        theirs = [option for option in inspect.signature(to).parameters.values() if option.kind is option.KEYWORD_ONLY]
        added = [option for option in theirs if option.name not in known]
        init.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        init.__annotations__ = {**init.__annotations__, **{option.name: hints[option.name] for option in added}}
        return init

    return decorate
