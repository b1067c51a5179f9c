"""The action of the keys that are held. Keys have the names of a browser's ``KeyboardEvent.code``."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torchrl.data import TensorSpec
from torchrl.envs import EnvBase

from torchrl_glam.modules.one_hot_blocks import block_sizes

BUTTONS = {
    "UP": ("ArrowUp", "KeyW"),
    "DOWN": ("ArrowDown", "KeyS"),
    "LEFT": ("ArrowLeft", "KeyA"),
    "RIGHT": ("ArrowRight", "KeyD"),
    "FIRE": ("Space",),
}
SHOWN = {"UP": "↑ W", "DOWN": "↓ S", "LEFT": "← A", "RIGHT": "→ D", "FIRE": "Space"}
DIGITS = {f"{row}{digit}": digit for row in ("Digit", "Numpad") for digit in range(10)}
CODES = (*(code for codes in BUTTONS.values() for code in codes), *DIGITS)
"""All keys that can mean an action."""
VERTICAL_IS_HORIZONTAL = {"UP": "RIGHT", "DOWN": "LEFT"}


class Controls:
    """The keys of one environment.

    Discrete actions have the number keys; of several at once, each has its own, held together. Actions that the ALE's
    words name (``UPRIGHTFIRE``) also have arrows or WASD and space, held together. Where no action says up or down, as
    in Pong, up is right and down is left. Of continuous actions, arrows move the first two dimensions to a bound; if
    there is only one dimension, all four move it.

    Args:
        action_spec: one-hot, of one or several blocks, or a bounded vector of floats, without batch dimensions.
        meanings: the names of discrete actions, if the environment has them.

    Examples:
        >>> from torchrl.data import OneHot
        >>> from torchrl_glam.tools.player.controls import Controls
        >>> controls = Controls(OneHot(4), ["NOOP", "FIRE", "RIGHT", "LEFT"])
        >>> controls.action({"ArrowLeft"})
        tensor([0, 0, 0, 1])
    """

    def __init__(self, action_spec: TensorSpec, meanings: Sequence[str] | None = None) -> None:
        self.spec = action_spec
        self.discrete = action_spec.domain == "discrete"
        self.size = action_spec.shape[-1]
        self._blocks = block_sizes(action_spec) if self.discrete else []
        named = meanings is not None and len(meanings) == self.size and self.discrete
        self.names = list(meanings or ()) if named else [str(number) for number in range(self.size)]
        self._wanted = {index: read_buttons(name) for index, name in enumerate(self.names)} if named else {}
        known = frozenset[str]().union(*(buttons or () for buttons in self._wanted.values()))
        self._aliases = {} if known & {"UP", "DOWN"} or not known else VERTICAL_IS_HORIZONTAL

    def action(self, held: Collection[str]) -> Tensor:
        """Return the action ``[a]`` of the keys held, one-hot as int64; no key is action 0 (NOOP) or no motion."""
        pressed = {button for button, codes in BUTTONS.items() if not set(codes).isdisjoint(held)}
        if not self.discrete:
            return self._push(pressed)
        if len(self._blocks) > 1:
            return self._choose({DIGITS[code] for code in held if code in DIGITS})
        digits = [DIGITS[code] for code in CODES if code in held and DIGITS.get(code, self.size) < self.size]
        number = digits[0] if digits else self._match(frozenset(self._aliases.get(key, key) for key in pressed))
        return torch.nn.functional.one_hot(torch.tensor(number), self.size)

    def name(self, action: Tensor) -> str:
        """Return the name of the action ``[a]``."""
        if self.discrete:
            chosen = [int(block.argmax()) for block in action.split(self._blocks)]
            return self.names[chosen[0]] if len(chosen) == 1 else ", ".join(map(str, chosen))
        return ", ".join(f"{value:+.2f}" for value in action.tolist())

    def describe(self) -> list[tuple[str, str]]:
        """Return each key with what it does, for people."""
        if not self.discrete:
            if self.size == 1:
                return [("← ↓ A S", "action to -1"), ("→ ↑ D W", "action to +1")]
            return [("← A  → D", "dimension 1 to -1, +1"), ("↓ S  ↑ W", "dimension 2 to -1, +1")]
        if len(self._blocks) > 1:
            return [(keys, f"action {number}") for number, keys in enumerate(self._block_keys())]
        buttons = frozenset[str]().union(*(wanted or () for wanted in self._wanted.values()))
        also = {wanted: f" {SHOWN[key]}" for key, wanted in self._aliases.items()}
        lines = [(SHOWN[key] + also.get(key, ""), key) for key in SHOWN if key in buttons]
        last = min(self.size, 10) - 1
        numbers = ", ".join(self.names[: last + 1]) if buttons else "the action of that number"
        return [*lines, (f"0-{last}", numbers)]

    def _choose(self, digits: set[int]) -> Tensor:
        """Return the action whose blocks have the choices of these keys; a block without one has its first."""
        action = torch.zeros(self.size, dtype=torch.long)
        for first, size in zip(self._firsts(), self._blocks, strict=True):
            action[min(digits & set(range(first, first + size)), default=first)] = 1
        return action

    def _block_keys(self) -> list[str]:
        """Return the number keys of each block."""
        ends = [min(first + size, 10) - 1 for first, size in zip(self._firsts(), self._blocks, strict=True)]
        return [f"{first}-{end}" if first <= end else "none" for first, end in zip(self._firsts(), ends, strict=True)]

    def _firsts(self) -> list[int]:
        """Return the place of each block's first choice."""
        return [0, *accumulate(self._blocks)][:-1]

    def _match(self, pressed: frozenset[str]) -> int:
        """Return the action that uses most of the buttons pressed and no other."""
        used = {index: len(wanted) for index, wanted in self._wanted.items() if wanted and wanted <= pressed}
        return max(used, key=lambda index: used[index]) if used else 0

    def _push(self, pressed: set[str]) -> Tensor:
        right, up = (
            float(more in pressed) - float(less in pressed) for more, less in (("RIGHT", "LEFT"), ("UP", "DOWN"))
        )
        action = torch.zeros(self.size, dtype=self.spec.dtype)
        if self.size == 1:
            action[0] = right or up
        else:
            action[0], action[1] = right, up
        return self.spec.project(action)


def read_buttons(name: str) -> frozenset[str] | None:
    """Return the buttons in one of the ALE's words, an empty set for ``NOOP``; ``None`` for another word."""
    if name == "NOOP":
        return frozenset()
    found = re.fullmatch(r"(UP|DOWN)?(LEFT|RIGHT)?(FIRE)?", name)
    return frozenset(filter(None, found.groups())) if found else None


def action_meanings(env: EnvBase | None) -> list[str] | None:
    """Return the names of the actions of the Gymnasium game within ``env``; ``None`` if it has none."""
    while (inner := getattr(env, "base_env", None)) is not None:
        env = inner
    game = getattr(getattr(env, "_env", None), "unwrapped", None)
    meanings = getattr(game, "get_action_meanings", None)
    return list(meanings()) if meanings is not None else None
