"""Images made without a container engine: one layer of chosen files each, in an archive for containerd."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SEARCHED = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Environment of every image: how a pod's command is found."""


@dataclass(frozen=True)
class Layer:
    """Some of an image's files."""

    files: Mapping[str, Path]
    """Where each file comes from, by its path in the image."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Symbolic links: target by path."""


@dataclass(frozen=True)
class Image:
    """What one image is made of."""

    name: str
    """Its full name, as pods ask for it."""
    layers: Sequence[Layer]
    """Its files, lowest layer first. Images that have an equal one share it."""
    entrypoint: Sequence[str] = ()
    """Its program, for pods that name none."""


def write(images: Sequence[Image], archive: Path) -> None:
    """Write the images as `docker load` and its like take them."""
    manifest = []
    written: set[str] = set()
    with tarfile.open(archive, "w") as outer:

        def add(content: bytes, suffix: str) -> str:
            digest = hashlib.sha256(content).hexdigest()
            if digest not in written:
                entry = tarfile.TarInfo(f"{digest}{suffix}")
                entry.size = len(content)
                outer.addfile(entry, io.BytesIO(content))
                written.add(digest)
            return digest

        for image in images:
            layers = [add(_packed(layer), ".tar") for layer in image.layers]
            config = add(json.dumps(_config(image, layers)).encode(), ".json")
            manifest.append(
                {
                    "Config": f"{config}.json",
                    "RepoTags": [image.name],
                    "Layers": [f"{digest}.tar" for digest in layers],
                }
            )
        listed = json.dumps(manifest).encode()
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(listed)
        outer.addfile(entry, io.BytesIO(listed))


def _packed(layer: Layer) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        folders = {
            str(folder)
            for path in (*layer.files, *layer.links)
            for folder in Path(path.lstrip("/")).parents
            if folder.name
        }
        for path in sorted(folders):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            packed.addfile(entry)
        for path, source in sorted(layer.files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = source.stat().st_size, 0o755
            with source.open("rb") as content:
                packed.addfile(entry, content)
        for path, target in sorted(layer.links.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            packed.addfile(entry)
    return buffer.getvalue()


def _config(image: Image, layers: Sequence[str]) -> dict[str, Any]:
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Env": [SEARCHED], "Entrypoint": list(image.entrypoint)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in layers]},
    }
