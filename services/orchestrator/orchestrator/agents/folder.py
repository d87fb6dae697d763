"""What is in a folder of manifests, without reading it; and what of it cannot be looked at."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (".yaml", ".yml")
"""Endings of the files that are read."""

Stamp = tuple[int, int, int]
"""Tells one version of a file from the next: modification time, size, inode (a rename changes the inode)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one look at a folder found."""

    stamps: Mapping[Path, Stamp] = field(default_factory=dict)
    """Its manifest files."""

    unreadable: Mapping[Path, str] = field(default_factory=dict)
    """Folders and files that could not be looked at, and why: nobody knows what they hold."""

    def hides(self, path: Path) -> bool:
        """Whether `path` is, or is below, something that could not be looked at."""
        return any(hidden == path or hidden in path.parents for hidden in self.unreadable)


def look_at(folder: Path) -> Found:
    """Look for manifest files in `folder` and its subfolders. Raises nothing that the file system does."""
    stamps: dict[Path, Stamp] = {}
    unreadable: dict[Path, str] = {}

    def note(error: OSError) -> None:
        path = Path(error.filename)
        if not isinstance(error, FileNotFoundError):
            unreadable[path] = error.strerror or type(error).__name__
        elif path == folder:  # a subfolder is just gone, between the listing and the look
            unreadable[path] = "it is not there"

    for parent, _, names in os.walk(folder, onerror=note):
        for name in names:
            path = Path(parent, name)
            if path.suffix not in SUFFIXES or name.startswith("."):
                continue
            try:
                status = path.stat()
            except OSError as error:
                note(error)
                continue
            if stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer
                stamps[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return Found(stamps, unreadable)
