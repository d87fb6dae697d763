"""Looks for canaries in what was built: every byte of an archive or a store, unpacked as far as it can be.

Documents with configuration and history are files of an archive like its layers.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.canaries import found_in

STEM = "canary-of-the-build-5d1e"
"""How every canary of a build starts: one search tells whether there is any."""

COMPRESSED = {b"\x1f\x8b\x08": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ\x00": lzma.decompress}
"""How a compressed file starts, and what unpacks it."""

ZIPPED = b"PK\x03\x04"
"""How a zip file starts, and a wheel."""

Part = tuple[str, bytes]
"""Where it was found, and what is there."""


def parts(where: str, content: bytes) -> Iterator[Part]:
    """Content as it is, and whatever is packed in it."""
    yield where, content
    for magic, unpack in COMPRESSED.items():
        if content.startswith(magic):
            yield from parts(f"{where} (unpacked)", unpack(content))
    if content.startswith(ZIPPED):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for name in packed.namelist():
                yield from parts(f"{where}: {name}", packed.read(name))
    elif content[257:262] == b"ustar":
        yield from members(where, io.BytesIO(content))


def members(where: str, archive: io.BufferedIOBase) -> Iterator[Part]:
    """The files of a tar archive, and what is packed in them."""
    with tarfile.open(fileobj=archive) as opened:
        for member in opened:
            inside = f"{where}: {member.name}"
            yield f"{inside} (name)", f"{member.name} {member.linkname} {member.pax_headers}".encode()
            if stream := opened.extractfile(member) if member.isreg() else None:
                yield from parts(inside, stream.read())


def archived(archive: Path) -> Iterator[Part]:
    """Everything in an image's archive: documents and layers."""
    with archive.open("rb") as stream:
        yield from members(archive.name, stream)


def stored(store: Path) -> Iterator[Part]:
    """Everything in a store of podman or buildah: every step of every stage, and the documents."""
    for path in store.rglob("*"):
        inside = str(path.relative_to(store))
        yield f"{inside} (name)", inside.encode()
        if path.is_symlink():
            yield f"{inside} (link)", str(path.readlink()).encode()
        elif path.is_file():
            yield from parts(inside, path.read_bytes())


def leaks(searched: Iterator[Part], canaries: tuple[str, ...]) -> dict[str, list[str]]:
    """Return which canaries are there, each with where it is; fail if nothing was searched."""
    found: dict[str, list[str]] = {}
    count = 0
    for where, content in searched:
        count += 1
        if found_in(content, (STEM,)):
            for canary in found_in(content, canaries) or [STEM]:
                found.setdefault(canary, []).append(where)
    assert count > 3, "there was nothing to search"
    return found
