"""RUN/sweep.json: what was asked for, and with what it was run."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from leakbench.bench.trial import SCHEMA_VERSION
from leakbench.core.errors import UserError
from leakbench.sweeps.parts import write_whole
from leakbench.sweeps.spec import Sweep
from leakbench.sweeps.tables import FORMAT, TRIALS, Table

MANIFEST = "sweep.json"
PACKAGES = ("leakbench", "torch", "torchvision", "numpy", "pandas", "scikit-image", "pyarrow")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `sweep.json` holds.

    Raises:
        UserError: unreadable, or of another version of the program.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable: {error}") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT or not {"file", "sweep", "trials", "sessions"} <= manifest.keys():
        text = f"{path}: expected format {FORMAT}, got {found!r}"
        raise UserError(f"{text}; it is from another version of leakbench: choose another folder with --out")
    return manifest


def new_manifest(sweep: Sweep) -> dict[str, Any]:
    """The manifest of a sweep that has not been run yet."""
    return {"format": FORMAT, "created": _now(), "sessions": {}, **_request(sweep)}


def with_session(
    manifest: dict[str, Any],
    table: Table,
    sweep: Sweep,
    devices: list[str],
    hardware: Iterable[str],
    kept: int,
) -> dict[str, Any]:
    """The manifest with one more session of filling a table: when, where, with what, and what was there."""
    request = _request(sweep)
    session = {
        "began": _now(),
        "sha256": request["sha256"],
        "kept": kept,
        "timeout": sweep.trial_timeout if table is TRIALS or not sweep.training else sweep.training.timeout,
        "devices": devices,
        "hardware": sorted(set(hardware)),
        "host": platform.node(),
        "versions": {"python": platform.python_version(), **package_versions()},
        "commit": _commit(),
    }
    sessions = manifest["sessions"]
    own = [*sessions.get(table.name, []), session]
    return {**manifest, **request, "sessions": {**sessions, table.name: own}}


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Put the manifest in its place, whole.

    Raises:
        OSError: it cannot be written.
    """
    content = json.dumps(manifest, indent=2).encode()
    write_whole(folder / MANIFEST, lambda file: file.write(content))


def what_changed(manifest: dict[str, Any], table: Table, hardware: Iterable[str]) -> list[str]:
    """`torch 2.6.0 (begun with 2.5.1)` for each package, and the hardware, that is another than at first."""
    computed = [session for session in manifest["sessions"].get(table.name, []) if session["devices"]]
    if not computed:
        return []
    begun = {**computed[0]["versions"], "hardware": ", ".join(computed[0]["hardware"])}
    now = {**package_versions(), "hardware": ", ".join(sorted(set(hardware)))}
    return [
        f"{what} {own} (begun with {begun[what]})" for what, own in now.items() if begun.get(what, own) != own
    ]


def asked_for(sweep: Sweep) -> Any:
    """What decides the rows, as JSON gives it back: tuples and lists compare equal."""
    return json.loads(json.dumps({"schema": SCHEMA_VERSION, **sweep.canonical()}))


def package_versions() -> dict[str, str]:
    """{package: its version} of the installed ones among PACKAGES."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _request(sweep: Sweep) -> dict[str, Any]:
    text = sweep.file.read_text(encoding="utf-8")
    return {
        "file": str(sweep.file),
        "options": sweep.changes.typed,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "text": text,
        "sweep": asked_for(sweep),
        "defenses": [str(choice.value) for choice in sweep.defenses],
        "trials": len(sweep),
        "by_defense": sweep.by_defense,
        "trainings": sweep.trainings,
        "verdicts": sweep.scale.settings(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """The git commit that the program runs from, `-dirty` where files were changed; None outside git."""
    project = Path(__file__).parents[1]
    if not (project / "pyproject.toml").is_file():  # installed, perhaps inside a repository of the user's
        return None
    arguments = ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
