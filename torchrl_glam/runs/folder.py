"""The folder of one run: for one process at a time, and for one set of options."""

from __future__ import annotations

import contextlib
import functools
import json
import uuid
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import torchrl_glam
from torchrl_glam.config import RunConfig
from torchrl_glam.config.flat import flatten_options, plain_options
from torchrl_glam.errors import DamagedError, Stopped, UsageError, one_line
from torchrl_glam.runs.checkpoint.checkpoints import CHECKPOINTS, newest_first, run_id_of
from torchrl_glam.runs.files import write_text
from torchrl_glam.runs.provenance import describe_run, describe_version, git_state, package_versions

CONFIG, RECORD, RESULT = "config.yaml", "run.json", "result.json"
SIGNED = "# torchrl_glam "  # then the version: the first line of config.yaml
SHOWN = 10  # differences in a line


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
            self._lock = FileLock(self.path / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(
                f"run_dir={self.path} is in use by another process: wait until it ends, or choose another folder"
            ) from error
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"run_dir={self.path} cannot be written ({reason}): choose another folder") from error
        self.holds_run = (self.path / CONFIG).exists()
        try:
            self._check_resume()
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
        """The id that tells this run's checkpoints from others; of the newest checkpoint where the record is lost."""
        if known := self._read_json(RECORD).get("id"):
            return str(known)
        for checkpoint in newest_first(self.path / CHECKPOINTS):
            with contextlib.suppress(DamagedError):
                return run_id_of(checkpoint)
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

    def _check_resume(self) -> None:
        wanted, path = self._config.resume, self.path
        if not self.holds_run:
            if wanted == "true":
                raise UsageError(f"resume=true, but run_dir={path} holds no run: check the path, or leave resume out")
            return
        if wanted == "false":
            raise UsageError(f"run_dir={path} already holds a run: choose another, or leave resume=false out")
        differences = self._differences()
        if differences and wanted != "force":
            more = f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
            raise UsageError(
                f"run_dir={path} holds a run with other options ({'; '.join(differences[:SHOWN])}{more})"
                f"{_writer(path)}: give the same ones, choose another run_dir, or insist by resume=force"
            )
        self._stop_if_finished()

    def _differences(self) -> list[str]:
        """Return how the options of the run in the folder differ from those given now."""
        path = self.path / CONFIG
        try:
            loaded = OmegaConf.to_container(OmegaConf.load(path))
        except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
            raise UsageError(f"{path} cannot be read: restore it, or choose another run_dir") from error
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
            raise Stopped(f"run_dir={self.path} is finished: {steps} steps, {evaluation}. {self._config.AGAIN}")

    def _read_json(self, name: str) -> dict[str, Any]:
        """Return the object in a JSON file; an empty one if the file is missing or damaged."""
        with contextlib.suppress(OSError, ValueError):
            if isinstance(read := json.loads((self.path / name).read_text()), dict):
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
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        newest = json.loads((folder / RECORD).read_text())["processes"][-1]
        return one_line(describe_version(newest["versions"], newest["git"]))
    with contextlib.suppress(OSError, ValueError):
        first, _, _ = (folder / CONFIG).read_text().partition("\n")
        if first.startswith(SIGNED):
            return f"torchrl_glam {one_line(first.removeprefix(SIGNED))}"
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
