"""Files of samples, splits, and batches by step."""

import json

import numpy as np
import pytest

from playground.data import Labelled, Shuffles, read_samples, splits, unit, write_samples
from trainloop import LabError


@pytest.mark.parametrize("name", ["my.npz", "data.json"])
def test_both_forms_give_back_what_was_written(name, drawn, tmp_path):
    write_samples(tmp_path / name, drawn)
    again = read_samples(tmp_path / name)
    np.testing.assert_array_equal(again.images, drawn.images)
    np.testing.assert_array_equal(again.labels, drawn.labels)


def test_floats_and_other_names_are_understood(drawn, tmp_path):
    rows = [
        {"label": int(label), "input": (image / 255).tolist()}
        for image, label in zip(*drawn.take(slice(5)), strict=True)
    ]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    np.testing.assert_array_equal(read_samples(tmp_path / "data.json").images, drawn.images[:5])
    square = drawn.images[:5].reshape(-1, 28, 28) / 255
    np.savez(tmp_path / "a.npz", images=square, labels=drawn.labels[:5].astype(np.uint8))
    np.testing.assert_array_equal(read_samples(tmp_path / "a.npz").images, drawn.images[:5])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"samples": [{"label": 1, "pix', "cut short"),
        ("[" * 100_000, "cut short"),
        ('{"rows": []}', "cut short, or no data.json"),
        ("[]", "0 images"),
        ('[{"label": 1}]', "no data.json"),
        ('[{"label": 1, "pixels": [1, 2]}]', "28x28 numbers"),
        (json.dumps([{"label": 11, "pixels": [0] * 784}]), "labels must be digits"),
        (json.dumps([{"label": 1.5, "pixels": [0] * 784}]), "labels must be digits"),
        (json.dumps([{"label": 1, "pixels": [300] * 784}]), "pixels must be"),
        (json.dumps([{"label": 1, "pixels": ["a"] * 784}]), "28x28 numbers"),
        ('[{"label": 1, "pixels": [NaN' + ", 0" * 783 + "]}]", "pixels must be"),
    ],
)
def test_a_bad_json_is_one_line(text, said, tmp_path):
    path = tmp_path / "data.json"
    path.write_text(text)
    with pytest.raises(LabError, match=said) as caught:
        read_samples(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"weight0": np.zeros(3)}, "not images and labels"),
        ({"images": np.zeros((2, 784)), "labels": np.zeros(3)}, "2 images, 3 labels"),
        ({"images": np.zeros((2, 28, 27)), "labels": np.zeros(2)}, "28x28"),
        ({"images": np.array([{}], object), "labels": np.zeros(1)}, "plain arrays"),
    ],
)
def test_a_bad_npz_is_one_line(arrays, said, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(LabError, match=said):
        read_samples(tmp_path / "a.npz")


def test_other_names_are_refused(tmp_path, drawn):
    for act in (read_samples, lambda path: write_samples(path, drawn)):
        with pytest.raises(LabError, match=r"npz"):
            act(tmp_path / "data.csv")
    with pytest.raises(LabError, match="no file"):
        read_samples(tmp_path / "gone.npz")


def test_splits_of_a_file_are_disjoint_complete_and_balanced(drawn, tmp_path):
    marked = drawn.images.copy()
    marked[:, 0], marked[:, 1] = np.arange(400) % 256, np.arange(400) // 256  # each its own
    write_samples(tmp_path / "my.npz", Labelled(marked, drawn.labels))
    parts = splits(str(tmp_path / "my.npz"), 0)
    seen = np.concatenate(
        [part.images[:, 0] + 256 * part.images[:, 1].astype(int) for part in parts]
    )
    assert sorted(seen.tolist()) == list(range(400))
    for part, share in zip(parts, (28, 6, 6), strict=True):
        assert np.bincount(part.labels).tolist() == [share] * 10
    other = splits(str(tmp_path / "my.npz"), 1)
    assert not np.array_equal(other[0].images, parts[0].images)


def test_two_samples_are_too_few(drawn, tmp_path):
    write_samples(tmp_path / "my.npz", drawn.take(slice(2)))
    with pytest.raises(LabError, match="too few"):
        splits(str(tmp_path / "my.npz"), 0)


def test_batches_are_looked_up_by_step():
    count, size = 10, 4
    one = Shuffles(count, size, seed=3)
    forward = [one.at(step) for step in range(1, 11)]
    for epoch in range(4):
        seen = np.concatenate(forward)[epoch * count : (epoch + 1) * count]
        assert sorted(seen.tolist()) == list(range(count))
    again = Shuffles(count, size, seed=3)
    for step in (7, 2, 10):
        np.testing.assert_array_equal(again.at(step), forward[step - 1])
    assert not np.array_equal(Shuffles(count, size, seed=4).at(1), forward[0])


def test_pixels_become_shares():
    row = np.array([[0, 51, 255] + [0] * 781], np.uint8)
    assert unit(row).dtype == np.float32
    np.testing.assert_allclose(unit(row)[0, :3], [0, 0.2, 1])
