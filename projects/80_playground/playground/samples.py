"""Your drawings on disk: each is there, twice, before the window says that it is.

Two append-only journals hold the same lines, `crc32 json`; a line goes to the first, reaches the
disk, then to the second. A process killed at any moment, a line cut in half, or one file damaged or
deleted costs nothing: what either file has is what was labelled.
"""

import base64
import fcntl
import json
import os
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from playground.data import EMPTY, MOST_SAMPLES, Labelled
from playground.net import PIXELS
from trainloop import LabError, atomic_write, check

Source = Literal["drawn", "mnist", "file"]
JOURNALS = ("samples.journal", "samples.backup")
HELD_OUT_EVERY = 5  # of each class, the 3rd, 8th, 13th... is never trained on
COMPACT_FROM = 1000  # removed samples that the journals carry along


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled image; `number` is its own for ever, `held_out` ones are never trained on."""

    number: int
    label: int
    image: UInt8[np.ndarray, " 784"]
    source: Source
    held_out: bool


class Samples:
    """The data set in a folder, open in one process at a time.

    Attributes:
        notes: what was repaired when it was opened, in words.
        version: counts changes, for those who keep something that depends on the samples.
    """

    def __init__(self, home: Path) -> None:
        """Raises LabError where the folder cannot be written or another process has it open."""
        try:
            home.mkdir(parents=True, exist_ok=True)
            self._lock = (home / ".lock").open("w")
        except OSError as error:
            raise LabError(
                f"cannot write to {home} ({error.strerror}): name another --home"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise LabError(
                f"{home} is open in another window: close it, or name another --home"
            ) from None
        self.home, self.notes, self.version = home, [], 0
        self._samples: dict[int, Sample] = {}
        self._cache: dict[tuple, tuple[int, Labelled]] = {}
        self._files = []
        self._open()

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files = []
        self._lock.close()

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterable[Sample]:
        return iter(self._samples.values())

    def add(self, image: UInt8[np.ndarray, " 784"], label: int, source: Source = "drawn") -> Sample:
        """Keep one sample; it is on disk when this returns."""
        return self.add_all(Labelled(image[None], np.array([label])), source)[0]

    def add_all(self, samples: Labelled, source: Source) -> list[Sample]:
        """Keep many with one write; LabError, and none is kept, where they would be too many."""
        check(
            len(self) + len(samples.labels) <= MOST_SAMPLES,
            f"that would be more than {MOST_SAMPLES:,} samples",
        )
        places, number, added = Counter(self._places), self._next, []
        for image, label in zip(samples.images, samples.labels.tolist(), strict=True):
            held_out = places[label] % HELD_OUT_EVERY == 2
            added.append(Sample(number, label, image.copy(), source, held_out))
            places[label] += 1
            number += 1
        self._append([_add_line(sample) for sample in added])
        self._places, self._next = places, number
        self._samples |= {sample.number: sample for sample in added}
        self.version += 1
        return added

    def remove(self, numbers: Iterable[int]) -> int:
        """Forget samples; returns how many there were."""
        gone = [number for number in numbers if number in self._samples]
        if gone:
            self._append([_line({"remove": number}) for number in gone])
            for number in gone:
                del self._samples[number]
            self.version += 1
        return len(gone)

    def counts(self) -> list[int]:
        """Samples of each digit."""
        found = Counter(sample.label for sample in self)
        return [found[digit] for digit in range(10)]

    def labelled(self, held_out: bool | None = None, source: Source | None = None) -> Labelled:
        """The samples as arrays, oldest first; all, or only (not) held-out ones, or of a source."""
        key = (held_out, source)
        version, found = self._cache.get(key, (-1, EMPTY))
        if version != self.version:
            chosen = [
                sample
                for sample in self
                if held_out in (None, sample.held_out) and source in (None, sample.source)
            ]
            found = EMPTY
            if chosen:
                images = np.stack([sample.image for sample in chosen])
                found = Labelled(images, np.array([sample.label for sample in chosen]))
            self._cache[key] = (self.version, found)
        return found

    # --- the journals ------------------------------------------------------------------------

    def _open(self) -> None:
        """Read both journals, mend what differs, and go on with both."""
        paths = [self.home / name for name in JOURNALS]
        read = [_read(path) for path in paths]
        records: dict[tuple[str, int], dict] = {}
        for found, _ in read:
            records |= {_key(record): record for record in found}
        removed = {number for kind, number in records if kind == "remove"}
        for (kind, number), record in sorted(records.items(), key=lambda item: item[0][1]):
            if kind == "add" and number not in removed:
                self._samples[number] = _sample(record)
        self._next = 1 + max((number for _, number in records), default=0)
        self._places = Counter(sample.label for sample in self)

        whole = all(
            damage == 0 and len({_key(record) for record in found}) == len(records)
            for found, damage in read
        )
        if not whole:
            for path, (found, damage) in zip(paths, read, strict=True):
                missing = len(records) - len(found)
                if damage > 1 or missing > 1:  # more than the line that a killed process was at
                    self.notes.append(f"{path.name} was damaged: restored from the other one")
                    if path.exists():
                        shutil.copy(path, _aside(path))
        if not whole or (len(removed) > COMPACT_FROM and len(removed) > len(self)):
            lines = b"".join(_add_line(sample) for sample in self)
            if len(removed) <= COMPACT_FROM:
                lines += b"".join(_line({"remove": number}) for number in sorted(removed))
            for path in paths:
                atomic_write(path, lambda file: file.write(lines))
        self._files = [
            os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) for path in paths
        ]

    def _append(self, lines: list[bytes]) -> None:
        """Add lines to both journals and wait for the disk; a line that fails leaves no trace."""
        content = b"".join(lines)
        lengths = [os.fstat(file).st_size for file in self._files]
        try:
            for file in self._files:
                written = 0
                while written < len(content):
                    written += os.write(file, content[written:])
                os.fsync(file)
        except OSError as error:
            for file, length in zip(self._files, lengths, strict=True):
                os.ftruncate(file, length)
            raise LabError(f"not saved: {error.strerror} ({self.home})") from None


def _line(record: dict) -> bytes:
    content = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _add_line(sample: Sample) -> bytes:
    return _line(
        {
            "add": sample.number,
            "label": sample.label,
            "from": sample.source,
            "held": sample.held_out,
            "image": base64.b64encode(zlib.compress(sample.image.tobytes())).decode(),
        }
    )


def _key(record: dict) -> tuple[str, int]:
    return ("add", record["add"]) if "add" in record else ("remove", record["remove"])


def _read(path: Path) -> tuple[list[dict], int]:
    """The intact records of a journal, and how many lines were not."""
    found, damaged = [], 0
    for line in path.read_bytes().split(b"\n") if path.is_file() else []:
        content = line[9:]
        try:
            if int(line[:8], 16) != zlib.crc32(content):
                raise ValueError
            record = json.loads(content)
            if "add" in record:
                _sample(record)
            _key(record)
            found.append(record)
        except (ValueError, KeyError, TypeError, zlib.error):
            damaged += line != b""
    return found, damaged


def _sample(record: dict) -> Sample:
    """ValueError, KeyError or zlib.error where the record is none of ours."""
    image = np.frombuffer(zlib.decompress(base64.b64decode(record["image"])), np.uint8)
    if image.size != PIXELS or record["label"] not in range(10):
        raise ValueError
    return Sample(record["add"], record["label"], image, record["from"], record["held"])


def _aside(path: Path) -> Path:
    """A name beside a damaged file, for a copy of it that nothing will overwrite."""
    for number in range(1, 1000):
        copy = path.with_name(f"{path.name}.damaged-{number}")
        if not copy.exists():
            return copy
    return copy
