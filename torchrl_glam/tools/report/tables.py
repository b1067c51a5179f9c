"""What the runs came to, game by game, as Markdown and as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torchrl_glam.envs.scores import game_name
from torchrl_glam.machine.terminal import duration
from torchrl_glam.offline.results.spread import Spread
from torchrl_glam.presentation import NOTHING, csv_text, markdown
from torchrl_glam.tools.report.limits import MIN_SEEDS
from torchrl_glam.tools.report.methods import Method, mean_or_none
from torchrl_glam.tools.report.panels import count
from torchrl_glam.tools.report.references import Scale, benchmark_game, normalise
from torchrl_glam.tools.report.runs import AtariRun
from torchrl_glam.tools.report.statistics import better_than_random

RUN_COLUMNS = (
    *("method", "env", "protocol", "seed", "steps", "actions", "episodes", "cut", "mean", "human_normalised"),
    *("p_random", "steps_per_second", "seconds", "evaluation_seconds", "device", "config_hash", "path"),
)


def methods_table(methods: Sequence[Method]) -> str:
    """What each method is, and how much of it was run."""
    rows = []
    for method in methods:
        run, seeds = method.first, [len(runs) for runs in method.games.values()]
        rows.append(
            [
                method.label,
                f"{run.protocol}, {'greedy' if run.greedy else 'sampled'} actions",
                f"{run.total_frames:,}",
                str(len(seeds)),
                _span(seeds),
                _span([len(run.returns) for run in method.runs]),
                run.config_hash or NOTHING,
                ", ".join(sorted({run.device for run in method.runs if run.device})) or NOTHING,
            ]
        )
    titles = ["method", "protocol", "steps", "games", "seeds per game", "episodes per seed", "options", "device"]
    return markdown(titles, rows)


def games_table(methods: Sequence[Method], scale: Scale) -> str:
    """A row for each game and method: the mean over seeds of their mean returns, and what it cost."""
    rows = []
    for method, env in played(methods, scale):
        runs = method.games[env]
        spread, game = Spread.of(method.scores(env)), benchmark_game(env, scale)
        ends = (
            NOTHING if spread.seeds == 1 else f"{points(min(method.scores(env)))} to {points(max(method.scores(env)))}"
        )
        rows.append(
            [
                show_env(env),
                method.label,
                runs[0].protocol,
                show_spread(spread),
                ends,
                few(spread.seeds),
                _span([len(run.returns) for run in runs]),
                NOTHING if game is None else f"{normalise(game, spread.mean, scale):.3f}",
                show(mean_or_none(run.steps_per_second for run in runs), "{:.3g}"),
                show_time(mean_or_none(run.seconds for run in runs)),
            ]
        )
    titles = [
        "game",
        "method",
        "protocol",
        "score ± over seeds",
        "lowest to highest seed",
        "seeds",
        "episodes per seed",
    ]
    return markdown([*titles, "human-normalised", "steps/s", "wall clock"], rows)


def random_table(methods: Sequence[Method], random: Sequence[AtariRun], scale: Scale) -> str | None:
    """Each seed's episodes against those of random play, where there is some of the game and the protocol."""
    rows = []
    for method, env in played(methods, scale):
        if reference := random_returns(method.games[env][0], random):
            tests = [f"{run.seed}: {p_value(better_than_random(run.returns, reference))}" for run in method.games[env]]
            mean = sum(reference) / len(reference)
            played_at_random = f"{points(mean)} ({count(len(reference), 'episode')})"
            score = points(Spread.of(method.scores(env)).mean)
            row = [show_env(env), method.label, method.first.protocol, score, played_at_random, "; ".join(tests)]
            rows.append(row)
    titles = ["game", "method", "protocol", "score", "random play, measured", "seed: p"]
    return markdown(titles, rows) if rows else None


def random_returns(run: AtariRun, random: Sequence[AtariRun]) -> list[float]:
    """Returns of all episodes of random play in the run's game under its protocol."""
    own = [other for other in random if (other.env, other.protocol) == (run.env, run.protocol)]
    return [value for other in own for value in other.returns]


def runs_csv(methods: Sequence[Method], random: Sequence[AtariRun], scale: Scale) -> str:
    """A line for each run."""
    rows = []
    for method in methods:
        for run in method.runs:
            game, reference = benchmark_game(run.env, scale), random_returns(run, random)
            normalised = None if game is None else f"{normalise(game, run.mean, scale):.6g}"
            p = f"{better_than_random(run.returns, reference):.3g}" if reference else None
            how = [run.env, run.protocol, run.seed, run.total_frames, "greedy" if run.greedy else "sampled"]
            score = [len(run.returns), run.cut, f"{run.mean:.6g}", normalised, p]
            cost = [run.steps_per_second, run.seconds, run.evaluation_seconds]
            shown = [None if value is None else f"{value:.5g}" for value in cost]
            rows.append([method.label, *how, *score, *shown, run.device, run.config_hash, run.path])
    return csv_text(RUN_COLUMNS, rows)


def games_csv(methods: Sequence[Method], scale: Scale) -> str:
    """A line for each game and method."""
    rows = []
    for method, env in played(methods, scale):
        spread, game = Spread.of(method.scores(env)), benchmark_game(env, scale)
        normalised = None if game is None else f"{normalise(game, spread.mean, scale):.6g}"
        deviation = None if spread.deviation is None else f"{spread.deviation:.6g}"
        first = method.games[env][0]
        how = [env, method.label, first.protocol, first.total_frames, spread.seeds]
        rows.append([*how, f"{spread.mean:.6g}", deviation, normalised])
    return csv_text(["env", "method", "protocol", "steps", "seeds", "mean", "deviation", "human_normalised"], rows)


def played(methods: Sequence[Method], scale: Scale) -> Iterator[tuple[Method, str]]:
    """Every method of every environment: games of the benchmark first, in its order, then others by their names."""
    order = {game: place for place, game in enumerate(scale)}
    environments = {env for method in methods for env in method.games}
    for env in sorted(environments, key=lambda env: (order.get(game_name(env) or "", len(order)), env)):
        for method in methods:
            if env in method.games:
                yield method, env


def show_env(env: str) -> str:
    """A game by its name, any other environment by its own."""
    return game_name(env) or env


def points(value: float) -> str:
    """Game points, with as many places as their size wants.

    Examples:
        >>> points(32680.4), points(-19.5), points(0.25)
        ('32,680', '-19.5', '0.25')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def show_spread(spread: Spread) -> str:
    """Mean ± standard deviation over seeds.

    Examples:
        >>> show_spread(Spread.of([2100.0, 2300.0])), show_spread(Spread.of([7.0]))
        ('2,200 ± 141.4', '7.00')
    """
    return points(spread.mean) + ("" if spread.deviation is None else f" ± {points(spread.deviation)}")


def few(seeds: int) -> str:
    """A number of seeds, and whether they are too few."""
    return f"{seeds} (too few)" if seeds < MIN_SEEDS else str(seeds)


def p_value(p: float) -> str:
    """Two digits.

    Examples:
        >>> p_value(0.0471), p_value(3.21e-8), p_value(1.0)
        ('0.047', '3.2e-08', '1')
    """
    return f"{p:.2g}"


def show(value: float | None, form: str) -> str:
    """A number by a format, or that there is none."""
    return NOTHING if value is None else form.format(value)


def show_time(seconds: float | None) -> str:
    """Wall clock, or that it is not known."""
    return NOTHING if seconds is None else duration(seconds)


def _span(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"
