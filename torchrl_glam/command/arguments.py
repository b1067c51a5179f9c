"""Arguments beyond Hydra's own: import paths, ``--check``, ``env.name=glob(...)``."""

from __future__ import annotations

import difflib
import re
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException

from torchrl_glam.config.parts import store_imported
from torchrl_glam.envs.scores import atari_100k_games
from torchrl_glam.errors import UsageError

FLAGS = {"--check": "check=true", "--profile": "profile=profile.json"}
PARTS_OPTION = "init_parts"
GAME_OPTION, GAME_NAME = "env.name", "ALE/{}-v5"


def expand_arguments(arguments: list[str]) -> list[str]:
    """Write the arguments as Hydra knows them.

    Raises:
        UsageError: for a glob that matches no game, or a list of names and import paths.
    """
    flags = [FLAGS.get(argument) or _bracket(argument) for argument in arguments]
    store_imported(flags)
    return expand_games(flags)


def study_arguments(arguments: list[str]) -> list[str] | None:
    """Return those arguments of a sweep that are options; None if there is no sweep, or help is wanted.

    Raises:
        UsageError: for another flag.
    """
    flags = {argument for argument in arguments if argument.startswith("-")}
    sweep = {"-m", "--multirun", "hydra.mode=MULTIRUN"}
    if not sweep & set(arguments) or flags & {"-h", "--help", "--hydra-help"}:
        return None
    if other := sorted(flags - sweep):
        raise UsageError(f"{other[0]} does not go with -m: leave one of them out; files: hydra.searchpath=[FOLDER]")
    return [argument for argument in arguments if argument not in sweep]


def expand_games(arguments: list[str]) -> list[str]:
    """Write ``env.name=glob(...)`` as the list of those of Atari 100k's 26 games that match, by Hydra's own rules.

    Hydra itself globs only over files of a config group. A pattern may be for a game's name or an environment's.

    Raises:
        UsageError: if no game matches.

    Examples:
        >>> from torchrl_glam.command.arguments import expand_games
        >>> expand_games(["seed=0,1", "env.name=glob([P*,ALE/Q*],exclude=[Private*])"])
        ['seed=0,1', 'env.name=ALE/Pong-v5,ALE/Qbert-v5']
    """
    return [_expand_game(argument) for argument in arguments]


def _bracket(argument: str) -> str:
    """Write ``init_parts=a,b`` as one list, which Hydra would sweep over."""
    name, _, value = argument.partition("=")
    return f"{name}=[{value}]" if name == PARTS_OPTION and value and value[0] not in "['\"" else argument


def _expand_game(argument: str) -> str:
    if not argument.startswith(f"{GAME_OPTION}=glob("):
        return argument
    try:
        glob: Any = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        return argument  # Hydra will say what is wrong
    games = [game for game in atari_100k_games() if _matches(glob.include, game) and not _matches(glob.exclude, game)]
    if not games:
        raise UsageError(f"{argument} matches none of the 26 games of Atari 100k: {_advise(glob.include)}")
    return f"{GAME_OPTION}={','.join(map(GAME_NAME.format, games))}"


def _matches(patterns: list[str], game: str) -> bool:
    """Return True if one of them matches the game's name or its environment's."""
    return bool(Glob(include=patterns).filter([game, GAME_NAME.format(game)]))


def _advise(patterns: list[str]) -> str:
    games = atari_100k_games()
    words = [re.sub(r"^ALE/|-v\d+$|\W", "", pattern) for pattern in patterns]
    near = [game for word in words for game in difflib.get_close_matches(word, games, n=2, cutoff=0.5)]
    return f"did you mean {' or '.join(near)}?" if near else f"they are {', '.join(games)}"
