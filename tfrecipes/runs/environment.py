"""Where a run ran: machine, versions and commit, as one JSON object."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

# Distributions whose version can change a run's numbers or its files.
PACKAGES = (
    "tfrecipes",
    "tensorflow",
    "keras",
    "numpy",
    "ml_dtypes",
    "safetensors",
    "keras-tuner",
    "tensorboard",
    "matplotlib",
)

_GIT_PATIENCE_S = 5.0


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(directory: Path, *arguments: str) -> str | None:
    """What git answers in one line, or None: no git, no repository, or no answer in time."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def collect_environment(
    devices: Sequence[str] = (), directory: str | os.PathLike[str] = "."
) -> dict[str, Any]:
    """Describes this process's machine and libraries, without importing any of them.

    Args:
        devices: What the run computes on, in the caller's words ("GPU:0 NVIDIA H100").
        directory: Whose git commit is noted: the user's code, by default the current folder.

    Returns:
        JSON-able: `started_at` (UTC, ISO 8601), `python`, `platform`, `cpu_count`, `devices`,
        `packages` (name to version, installed ones only), `git_commit` (None outside a
        repository), `git_modified` (True with uncommitted changes to tracked files).

    Example:
        >>> facts = collect_environment(devices=["CPU:0"])
        >>> facts["devices"], sorted(facts["packages"])[0] <= "tfrecipes"
        (['CPU:0'], True)
    """
    where = Path(directory)
    commit = _git(where, "rev-parse", "HEAD")
    status = _git(where, "status", "--porcelain", "--untracked-files=no") if commit else None
    versions = {package: _version(package) for package in PACKAGES}
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": list(devices),
        "packages": {package: version for package, version in versions.items() if version},
        "git_commit": commit,
        "git_modified": None if status is None else bool(status),
    }
