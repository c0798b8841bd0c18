"""The data set on disk: what was labelled is there, whatever happened to the process or a file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from playground.samples import COMPACT_FROM, JOURNALS, Samples
from trainloop import LabError


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, 784).astype(np.uint8)


def fill(home: Path, count: int = 12) -> None:
    samples = Samples(home)
    for number in range(count):
        samples.add(image(number), number % 10)
    samples.close()


def content(home: Path) -> list[tuple[int, int, bytes]]:
    samples = Samples(home)
    found = [(one.number, one.label, one.image.tobytes()) for one in samples]
    samples.close()
    return found


EXPECTED = [(n + 1, n % 10, image(n).tobytes()) for n in range(12)]


def test_samples_are_there_again_in_their_order(tmp_path):
    fill(tmp_path)
    assert content(tmp_path) == EXPECTED
    samples = Samples(tmp_path)
    assert samples.notes == []
    assert samples.counts() == [2, 2, *[1] * 8]
    samples.close()


@pytest.mark.parametrize("name", JOURNALS)
@pytest.mark.parametrize("damage", ["cut", "gone", "garbage", "bit", "empty"])
def test_one_damaged_file_costs_nothing(name, damage, tmp_path):
    fill(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    broken = {
        "cut": whole[: len(whole) // 3],
        "garbage": b"\0\xff\n" * 1000,
        "bit": whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:],
        "empty": b"",
    }
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(broken[damage])
    assert content(tmp_path) == EXPECTED
    assert path.read_bytes() == whole, "and the file is mended"
    if damage in ("cut", "garbage"):
        assert list(tmp_path.glob(f"{name}.damaged-1")), "what was there is kept"


def test_different_lines_damaged_in_both_cost_nothing(tmp_path):
    fill(tmp_path)
    for name, line in zip(JOURNALS, (3, 8), strict=True):
        lines = (tmp_path / name).read_bytes().split(b"\n")
        lines[line] = lines[line][:-5] + b"xxxxx"
        (tmp_path / name).write_bytes(b"\n".join(lines))
    assert content(tmp_path) == EXPECTED


def test_a_line_cut_at_any_byte_costs_only_itself(tmp_path):
    fill(tmp_path, 3)
    paths = [tmp_path / name for name in JOURNALS]
    whole = paths[0].read_bytes()
    second = whole.index(b"\n", whole.index(b"\n") + 1) + 1
    for length in range(second, len(whole), 97):
        paths[0].write_bytes(whole[:length])  # the process was killed while writing the first
        paths[1].write_bytes(whole[:second])
        samples = Samples(tmp_path)
        assert len(samples) == 2
        assert samples.notes == []
        samples.add(image(2), 2)
        samples.close()
        assert len(content(tmp_path)) == 3


def test_removed_samples_stay_removed(tmp_path):
    fill(tmp_path)
    samples = Samples(tmp_path)
    assert samples.remove({2, 5, 999}) == 2
    added = samples.add(image(50), 7)
    samples.close()
    assert added.number == 13
    (tmp_path / JOURNALS[1]).unlink()  # mending must not bring them back
    kept = [one for one in EXPECTED if one[0] not in (2, 5)]
    assert content(tmp_path) == [*kept, (13, 7, image(50).tobytes())]
    assert content(tmp_path)[:-1] == kept


def test_many_removed_ones_leave_the_files(tmp_path, drawn):
    samples = Samples(tmp_path)
    for _ in range(4):
        samples.add_all(drawn, "mnist")
    samples.remove(range(1, COMPACT_FROM + 300))
    samples.close()
    before = (tmp_path / JOURNALS[0]).stat().st_size
    kept = content(tmp_path)
    assert len(kept) == 1600 - COMPACT_FROM - 299
    assert (tmp_path / JOURNALS[0]).stat().st_size < before / 3
    assert content(tmp_path) == kept


def test_every_fifth_of_each_digit_is_held_out_for_ever(tmp_path, drawn):
    samples = Samples(tmp_path)
    samples.add_all(drawn, "mnist")
    held = samples.labelled(held_out=True)
    assert np.bincount(held.labels).tolist() == [8] * 10
    assert len(samples.labelled(held_out=False).labels) == 320
    numbers = {one.number for one in samples if one.held_out}
    samples.remove({1, 2, 3})
    samples.close()
    samples = Samples(tmp_path)
    assert {one.number for one in samples if one.held_out} == numbers
    samples.close()


def test_a_full_disk_is_said_and_leaves_no_trace(tmp_path, monkeypatch):
    fill(tmp_path)
    samples, write = Samples(tmp_path), os.write

    def full(file: int, data: bytes) -> int:
        if file == samples._files[1]:
            raise OSError(28, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LabError, match="not saved: No space left"):
        samples.add(image(99), 3)
    monkeypatch.undo()
    assert len(samples) == 12
    samples.close()
    assert content(tmp_path) == EXPECTED


def test_two_windows_cannot_share_a_folder(tmp_path):
    samples = Samples(tmp_path)
    with pytest.raises(LabError, match="open in another window"):
        Samples(tmp_path)
    samples.close()
    Samples(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write"):
        Samples(tmp_path / "file")


def test_killed_while_labelling_loses_nothing(tmp_path):
    command = [sys.executable, "-m", "playground.labeller", str(tmp_path)]
    told = []
    for count in (1, 4, 9):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        told += [int(process.stdout.readline()) for _ in range(count)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
        process.stdout.close()
    there = {one[0] for one in content(tmp_path)}
    assert set(told) <= there
    assert len(told) >= 14
