"""The folder of one run: for one process at a time, and for one set of options."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import uuid
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

import torchrl_glam
from torchrl_glam.config import RunConfig
from torchrl_glam.config.flat import flatten_options, plain_options
from torchrl_glam.errors import DamagedError, Stopped, UsageError, one_line
from torchrl_glam.machine.invocation import other_command
from torchrl_glam.runs.checkpoint.checkpoints import CHECKPOINTS, newest_first, run_id_of
from torchrl_glam.runs.contents import CONFIG, RECORD, RESULT, check_links, check_unused
from torchrl_glam.runs.files import write_text
from torchrl_glam.runs.foreign import read_json, read_text, read_yaml
from torchrl_glam.runs.provenance import describe_run, describe_version, git_state, package_versions

SIGNED = "# torchrl_glam "  # then the version: the first line of config.yaml
SHOWN = 10  # differences in a line
ID = re.compile(r"\w+")  # of a run; parts of file names


class RunFolder:
    """The folder ``config.run_dir``, taken for this process.

    Args:
        config: the run's options.

    Raises:
        UsageError: if it cannot be made or written, another process uses it, or it holds a run that these options do
            not resume.
        Stopped: if it holds a run that is finished.
    """

    def __init__(self, config: RunConfig) -> None:
        self.path, self._config = Path(config.run_dir), config
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            check_links(self.path)
            self._lock = FileLock(self.path / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(
                f"run_dir={self.path} is in use by another process: wait until it ends, or choose another folder"
            ) from error
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"run_dir={self.path} cannot be written ({reason}): choose another folder") from error
        try:
            self.holds_run = self._is_run()
            self._check_resume()
        except OSError as error:
            self._lock.release()
            raise UsageError(f"run_dir={self.path} cannot be read ({error.strerror or error})") from error
        except Exception:
            self._lock.release()
            raise

    def take(self) -> None:
        """Write the options, and add this process to the record of those that ran here.

        Raises:
            OSError: if they cannot be written.
        """
        processes = self._read_json(RECORD).get("processes")
        before = processes if isinstance(processes, list) else []
        record = {"id": self.run_id, "processes": [*before, describe_run(self._config)]}
        write_text(self.path / RECORD, json.dumps(record, indent=2) + "\n")
        write_options(self.path, self._config)

    @functools.cached_property
    def run_id(self) -> str:
        """The id that tells this run's files from others; of the newest checkpoint where the record is lost."""
        if known := self._recorded_id():
            return known
        for checkpoint in newest_first(self.path / CHECKPOINTS):
            with contextlib.suppress(DamagedError):
                if ID.fullmatch(known := run_id_of(checkpoint)):
                    return known
        return uuid.uuid4().hex

    def write_result(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, which marks the run as finished.

        Raises:
            OSError: if it cannot be written.
        """
        write_text(self.path / RESULT, json.dumps(result, indent=2) + "\n")

    def release(self) -> None:
        """Let other processes use the folder."""
        self._lock.release()

    def _is_run(self) -> bool:
        """Return True if something here can only be a run's: checkpoints, or options with the record of a run."""
        has_options = (self.path / CONFIG).exists() and self._recorded_id() is not None
        return has_options or bool(newest_first(self.path / CHECKPOINTS))

    def _recorded_id(self) -> str | None:
        known = self._read_json(RECORD).get("id")
        return known if isinstance(known, str) and ID.fullmatch(known) else None

    def _check_resume(self) -> None:
        wanted, path = self._config.resume, self.path
        if not self.holds_run:
            check_unused(path, is_record=self._recorded_id() is not None)
            if wanted == "true":
                raise UsageError(f"resume=true, but run_dir={path} holds no run: check the path, or leave resume out")
            return
        if wanted == "false":
            raise UsageError(f"run_dir={path} already holds a run: choose another, or leave resume=false out")
        self._check_options(insist=wanted == "force")
        self._stop_if_finished()

    def _check_options(self, *, insist: bool) -> None:
        """Raise UsageError unless the options of the run in the folder are those given now, or the user insists."""
        path = self.path
        if not (path / CONFIG).exists():
            if insist:
                return
            raise UsageError(
                f"run_dir={path} holds checkpoints, and {CONFIG} with their options is missing: restore it, choose "
                "another run_dir, or insist by resume=force that the options given now are theirs"
            )
        differences = self._differences()
        if differences and not insist:
            more = f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
            raise UsageError(
                f"run_dir={path} holds a run with other options ({'; '.join(differences[:SHOWN])}{more})"
                f"{_writer(path)}: give the same ones, choose another run_dir, or insist by resume=force"
            )

    def _differences(self) -> list[str]:
        """Return how the options of the run in the folder differ from those given now."""
        path = self.path / CONFIG
        try:
            loaded = read_yaml(path)
        except UsageError as error:
            raise UsageError(f"{path} cannot be read ({error}): restore it, or choose another run_dir") from error
        before = flatten_options(loaded) if isinstance(loaded, dict) else {}
        if self._config.LENGTH not in before:
            raise UsageError(
                f"{path} holds no options of this command ({self._config.LENGTH} is not among them): restore it, or "
                "choose another run_dir"
            )
        now = defining_options(self._config)
        names = {name for name in before if not is_harmless(name, self._config)} | set(now)
        return [
            f"{name}={before.get(name, 'nothing')}, now {now.get(name, 'nothing')}"
            for name in sorted(names)
            if before.get(name, "nothing") != now.get(name, "nothing")
        ]

    def _stop_if_finished(self) -> None:
        result, option = self._read_json(RESULT), self._config.LENGTH
        try:
            steps = int(result[option])
            evaluation = "no evaluation" if result["mean"] is None else f"evaluation {float(result['mean']):.2f}"
        except (ValueError, KeyError, TypeError):
            return  # it is written last, and whole
        if self._config.num_steps <= steps:
            again = self._config.AGAIN.format(evaluate=other_command(self._config.EVALUATE))
            raise Stopped(f"run_dir={self.path} is finished: {steps} steps, {evaluation}. {again}")

    def _read_json(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file; an empty one if the file is missing or damaged."""
        with contextlib.suppress(UsageError):
            if isinstance(read := read_json(self.path / name), dict):
                return read
        return {}


def write_options(folder: Path, config: Any) -> None:
    """Write ``config.yaml``, whose first line says which version of the package wrote it.

    Raises:
        OSError: if it cannot be written.
    """
    options = OmegaConf.to_yaml(OmegaConf.structured(config))
    write_text(folder / CONFIG, f"{SIGNED}{torchrl_glam.__version__}\n{options}")


def written_by(folder: Path) -> str:
    """Return which version of the package wrote the options in ``folder``, in words."""
    with contextlib.suppress(UsageError, LookupError, TypeError):
        newest = read_json(folder / RECORD)["processes"][-1]
        return one_line(describe_version(newest["versions"], newest["git"]))[:80]
    with contextlib.suppress(UsageError):
        first, _, _ = read_text(folder / CONFIG).partition("\n")
        if first.startswith(SIGNED):
            return f"torchrl_glam {one_line(first.removeprefix(SIGNED))[:80]}"
    return "an earlier version"


def this_version() -> str:
    """Return the version of the package that runs now, in words."""
    return describe_version(package_versions(), git_state(Path(torchrl_glam.__file__)))


def defining_options(config: RunConfig) -> dict[str, Any]:
    """Return the options that a run's numbers depend on, by their dotted names."""
    options = flatten_options(plain_options(config))
    return {name: value for name, value in options.items() if not is_harmless(name, config)}


def is_harmless(name: str, config: RunConfig | type[RunConfig]) -> bool:
    """Return True if an option may differ when a run is resumed."""
    return any(name == option or name.startswith(f"{option}.") for option in config.HARMLESS)


def _writer(folder: Path) -> str:
    """Return a clause on the version that wrote the options, if it is another one."""
    wrote, now = written_by(folder), this_version()
    return "" if wrote == now else f", which {wrote} wrote, this is {now}"
