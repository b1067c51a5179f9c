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

from torchrl_glam.runs.checkpoint.checkpoints import CHECKPOINTS, newest_first, run_id_of
from torchrl_glam.errors import DamagedError
from torchrl_glam.runs.files import write_whole
from torchrl_glam.config import RunConfig
from torchrl_glam.errors import Stopped, UsageError
from torchrl_glam.config.flat import flatten_options, plain_options
from torchrl_glam.runs.provenance import describe_run

CONFIG, RECORD, RESULT = "config.yaml", "run.json", "result.json"


class RunFolder:
    """Takes ``config.run_dir`` for this process.

    Args:
        config: the run's options.

    Raises:
        UsageError: if it cannot be made or written, another process is in it, or it holds a run that these options
            do not go on with.
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
        """Write the options, and who runs this where; of each process that went on with the run, the newest last.

        Raises:
            OSError: if they cannot be written.
        """
        options = OmegaConf.to_yaml(OmegaConf.structured(self._config))
        record = self._read_record()
        processes = record.get("processes")
        before = processes if isinstance(processes, list) else []
        record = {"id": self.run_id, "processes": [*before, describe_run(self._config)]}
        write_text(self.path / RECORD, json.dumps(record, indent=2) + "\n")
        write_text(self.path / CONFIG, options)

    @functools.cached_property
    def run_id(self) -> str:
        """Tells this run's checkpoints from others; where its record is lost, the newest checkpoint says it."""
        if known := self._read_record().get("id"):
            return str(known)
        for checkpoint in newest_first(self.path / CHECKPOINTS):
            with contextlib.suppress(DamagedError):
                return run_id_of(checkpoint)
        return uuid.uuid4().hex

    def write_result(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, by which the run is finished.

        Raises:
            OSError: if it cannot be written.
        """
        write_text(self.path / RESULT, json.dumps(result, indent=2) + "\n")

    def release(self) -> None:
        """Let others in."""
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
            raise UsageError(
                f"run_dir={path} holds a run with other options ({'; '.join(differences)}): give the same ones, "
                "choose another run_dir, or insist by resume=force"
            )
        self._stop_if_finished()

    def _differences(self) -> list[str]:
        """What the options of the run in the folder are, and what they would be now."""
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
        option = self._config.LENGTH
        try:
            result = json.loads((self.path / RESULT).read_text())
            steps, mean = int(result[option]), float(result["mean"])
        except (OSError, ValueError, KeyError, TypeError):
            return  # it is written last, and whole
        if self._config.num_steps <= steps:
            raise Stopped(
                f"run_dir={self.path} is finished: {steps} steps, evaluation {mean:.2f}. {self._config.AGAIN}"
            )

    def _read_record(self) -> dict[str, Any]:
        try:
            record = json.loads((self.path / RECORD).read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(text))


def defining_options(config: RunConfig) -> dict[str, Any]:
    """The options on which depends what a run computes, by their dotted names."""
    options = flatten_options(plain_options(config))
    return {name: value for name, value in options.items() if not is_harmless(name, config)}


def is_harmless(name: str, config: RunConfig | type[RunConfig]) -> bool:
    """Whether an option may differ when a run goes on."""
    return any(name == option or name.startswith(f"{option}.") for option in config.HARMLESS)
