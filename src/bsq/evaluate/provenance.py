"""When, where and with which sources a result came about. What enters: nothing. What leaves: `Provenance`."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

import bsq

SOURCES = Path(bsq.__file__).resolve().parent
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Provenance:
    """`commit` is that of the checkout that bsq runs from, with "+changes" where its files are not the commit's; None
    for an installed package.
    """

    date: str  # UTC, "2025-03-01T12:00:00+00:00"
    commit: str | None
    machine: str
    processor: str
    processors: int
    accelerator: str | None

    def words(self) -> str:
        """One line for readers."""
        place = f"{self.processor}, {self.processors} processors"
        place += "" if self.accelerator is None else f", {self.accelerator}"
        source = "an installed bsq" if self.commit is None else f"commit {self.commit}"
        return f"Measured on {self.date[:10]} with {source}, on {self.machine} ({place})."


def provenance() -> Provenance:
    """Of this moment and this machine."""
    return Provenance(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit_of(SOURCES),
        machine=platform.platform(),
        processor=_processor(),
        processors=os.cpu_count() or 1,
        accelerator=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )


def commit_of(sources: Path) -> str | None:
    """The first twelve digits of the commit of a checkout that holds `sources`; None where git knows nothing of them,
    as of a package that is installed somewhere below another project.
    """
    if _git(sources, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit, changes = _git(sources, "rev-parse", "HEAD"), _git(sources, "status", "--porcelain", "--", ".")
    return None if commit is None else commit[:12] + ("+changes" if changes else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    """Its model where Linux tells it, else its kind."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()
