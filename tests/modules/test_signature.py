"""Constructors that pass keyword arguments on show them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from torchrl_glam.modules import GLAMDynamics, GMamba
from torchrl_glam.modules.dynamics import ResidualMamba
from torchrl_glam.modules.signature import passes_on


def base(first: int, *, depth: int = 1, rate: float = 0.5) -> None: ...


def test_keyword_options_are_shown_once_with_their_defaults_and_types():
    @passes_on(base)
    def init(self, *inputs: Any, rate: float = 0.25, **options: Any) -> None: ...

    parameters = inspect.signature(init).parameters
    assert list(parameters) == ["self", "inputs", "rate", "depth"]
    assert (parameters["rate"].default, parameters["depth"].default) == (0.25, 1), "its own default counts"
    assert init.__annotations__["depth"] is int


def test_a_constructor_that_passes_nothing_on_is_a_mistake():
    def init(self, depth: int = 1) -> None: ...

    with pytest.raises(AssertionError, match="passes no keywords on"):
        passes_on(base)(init)


@pytest.mark.parametrize("part", [GLAMDynamics, GMamba])
def test_backbones_show_the_options_of_their_layers(part):
    shown, wanted = inspect.signature(part).parameters, inspect.signature(ResidualMamba).parameters
    options = [each.name for each in wanted.values() if each.kind is each.KEYWORD_ONLY]
    assert options
    assert all(shown[name].default == wanted[name].default for name in options)
