"""The two classifiers: what they compute, and how they are kept."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F

from diffusion import extractor as module
from diffusion.extractor import (
    BUILD,
    RECIPE,
    Classifier,
    Extractor,
    augment,
    build_extractor,
    load_or_train,
    load_or_train_judge,
    reference_distance,
    to_unit,
)
from diffusion.frechet import mean_and_covariance
from trainloop import LabError, load_images


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    """A data folder with both classifiers of scikit-learn's digits, trained for 8 epochs."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_DATA", str(folder))
        patch.setitem(module.EPOCHS, "digits", 8)
        load_or_train("digits")
        load_or_train_judge("digits")
    return folder / "diffusion"


@pytest.fixture
def kept(home, tmp_path, monkeypatch) -> Path:
    """A copy of it, and nobody may train."""
    (tmp_path / "diffusion").mkdir()
    for path in home.glob("*.safetensors"):
        (tmp_path / "diffusion" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setenv("LAB_DATA", str(tmp_path))
    monkeypatch.setattr(module, "fit", lambda *_: pytest.fail("trained"))
    return tmp_path / "diffusion"


@pytest.fixture
def extractor(kept) -> Extractor:
    return load_or_train("digits")


@pytest.fixture
def short(monkeypatch, tmp_path) -> Path:
    """A data folder without anything, and trainings of a second."""
    monkeypatch.setenv("LAB_DATA", str(tmp_path))
    monkeypatch.setitem(module.EPOCHS, "digits", 1)
    return tmp_path / "diffusion"


# --- what they compute ---------------------------------------------------------------------------


def test_both_have_learned(extractor):
    judge = load_or_train_judge("digits")
    images, labels = load_images("digits", "test")
    for classifier in (extractor, judge):
        log_prob = classifier.log_probabilities(to_unit(images))
        accuracy = (log_prob.argmax(1) == labels).double().mean().item()
        assert classifier.accuracy == accuracy > 0.9
        assert torch.allclose(log_prob.exp().sum(1), torch.ones(len(images)), atol=1e-5)
        assert f"{accuracy:.2%}" in str(classifier) and classifier.sha256[:8] in str(classifier)
    assert type(judge) is Classifier
    assert extractor.sha256 != judge.sha256


@pytest.mark.parametrize("role", BUILD)
@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 32, 32), (1, 16, 20)])
def test_nets_take_these_images(role, shape):
    net = BUILD[role](shape)
    images = torch.rand(4, *shape) * 2 - 1
    assert net(images).shape == (4, 10)
    assert net.body(images).shape == (4, {"extractor": 32, "judge": 128}[role])
    F.cross_entropy(net(images), torch.arange(4)).backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())


def test_shapes_in_the_comments():
    shapes = {}
    for name, build in BUILD.items():
        x = torch.zeros(2, 1, 28, 28)
        shapes[name] = [tuple((x := layer(x)).shape[1:]) for layer in build((1, 28, 28)).body]
    assert [shapes["extractor"][i] for i in (1, 4, 6)] == [(8, 14, 14), (16, 7, 7), (32, 5, 5)]
    assert shapes["judge"][1:6] == [(8, 24, 24), (8, 12, 12), (32, 8, 8), (32, 4, 4), (512,)]
    assert sum(p.numel() for p in build_extractor((1, 28, 28)).parameters()) == 18_018


def test_nets_pad_with_black():
    """A black image stays the same to its very edge, so BatchNorm's input has no variance."""
    first = build_extractor((1, 28, 28)).body[:2]
    assert first[1][0](first[0](-torch.ones(1, 1, 28, 28))).abs().max() == 0


def test_features_are_those_before_the_last_layer(extractor):
    images = to_unit(load_images("digits", "test")[0])
    features = extractor.features(images)
    logits = extractor.net.head(features / extractor.scale)
    expected = extractor.log_probabilities(images)
    assert torch.allclose(logits.log_softmax(1), expected, atol=1e-4)
    assert features.min() >= 0
    assert not features.requires_grad


def test_features_do_not_depend_on_the_batch(extractor):
    images = to_unit(load_images("digits", "train")[0][:1200])
    whole = extractor.features(images)
    assert torch.allclose(whole[700:731], extractor.features(images[700:731]), rtol=1e-4, atol=1e-4)
    assert extractor.features(images[:0]).shape == (0, 32)


def test_what_is_brighter_than_white_is_white(extractor):
    images = to_unit(load_images("digits", "test")[0][:20])
    wild = torch.where(images > 0.9, images + 3, images)
    clamped = wild.clamp(-1, 1)
    assert torch.equal(extractor.features(wild), extractor.features(clamped))


def test_images_of_another_size(extractor):
    with pytest.raises(ValueError, match=r"reads images of \(1, 8, 8\), not \(1, 28, 28\)"):
        extractor.features(torch.zeros(2, 1, 28, 28))


# --- the distance --------------------------------------------------------------------------------


def test_moments_are_those_of_the_training_images(extractor):
    images, _ = load_images("digits", "train")
    found = mean_and_covariance(extractor.features(to_unit(images)))
    assert torch.allclose(found.mean, extractor.moments.mean, rtol=1e-4)
    assert torch.allclose(found.covariance, extractor.moments.covariance, rtol=1e-3, atol=1e-2)
    assert extractor.moments.count == 1500
    assert extractor.moments.covariance.trace().item() == pytest.approx(1000, rel=1e-4)


def test_distance_orders_images_as_an_eye_does(extractor):
    test = to_unit(load_images("digits", "test")[0])
    noise = torch.rand(test.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    generator = torch.Generator().manual_seed(1)
    noisy = test + 0.3 * torch.randn(test.shape, generator=generator)
    clean, worse, worst, blank = map(
        extractor.distance, (test, noisy, noise, -torch.ones(99, 1, 8, 8))
    )
    assert clean < worse < worst
    assert blank >= 1000, "no variance at all"
    assert extractor.distance(test[:50]) > clean, "fewer images, more bias"
    assert reference_distance(extractor) == pytest.approx(clean, rel=1e-9)  # in another order
    assert reference_distance(extractor, 50) > clean
    assert reference_distance(extractor, 50) != reference_distance(extractor, 50, seed=1)
    assert reference_distance(extractor, 10_000) == pytest.approx(clean, rel=1e-9)


def test_diverged_images(extractor):
    images = torch.zeros(5, 1, 8, 8)
    images[2] = torch.nan
    with pytest.raises(LabError, match="NaN or infinity"):
        extractor.distance(images)


# --- training ------------------------------------------------------------------------------------


def test_training_does_not_depend_on_threads_or_on_what_was_drawn_before(short):
    threads = torch.get_num_threads()
    try:
        hashes = []
        for count in (1, 2):
            torch.set_num_threads(count)
            torch.rand(count)
            state = torch.get_rng_state()
            hashes.append(load_or_train("digits").sha256)
            assert torch.get_num_threads() == count
            assert torch.equal(torch.get_rng_state(), state)
            next(short.glob("*.safetensors")).unlink()
    finally:
        torch.set_num_threads(threads)
    assert hashes[0] == hashes[1]


def test_augment_moves_by_a_pixel_and_mirrors():
    torch.manual_seed(0)
    images = torch.arange(1, 64 * 2 + 1, dtype=torch.uint8).view(1, 2, 8, 8).repeat(300, 1, 1, 1)
    for mirror in (False, True):
        moved = augment(images, mirror)
        expected = set()
        for image in (images[0], images[0].flip(-1)) if mirror else (images[0],):
            padded = F.pad(image, (1, 1, 1, 1))
            expected |= {
                padded[:, r : r + 8, c : c + 8].numpy().tobytes()
                for r in range(3)
                for c in range(3)
            }
        assert {one.contiguous().numpy().tobytes() for one in moved} == expected


# --- keeping -------------------------------------------------------------------------------------


def test_kept_and_read_again(kept):
    """Nobody trains; and what is read is what was written."""
    first, again = load_or_train("digits"), load_or_train("digits")
    assert first.sha256 == again.sha256
    images = to_unit(load_images("digits", "test")[0])
    assert torch.equal(first.features(images), again.features(images))
    with safe_open(kept / f"extractor-digits-{RECIPE}.safetensors", "pt") as file:
        about = file.metadata()
    assert about["sha256"] == first.sha256
    assert float(about["accuracy"]) == first.accuracy
    assert (about["data"], about["role"], about["recipe"]) == ("digits", "extractor", RECIPE)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)


def claim_more(path: Path) -> None:
    content = path.read_bytes()
    at = content.index(b'"accuracy":"0.') + len(b'"accuracy":"0.')
    path.write_bytes(content[:at] + b"9" * 2 + content[at + 2 :])


def swap_roles(path: Path) -> None:
    path.write_bytes(path.with_name(path.name.replace("extractor", "judge")).read_bytes())


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (cut, "damaged"), (empty, "damaged"), (flip_a_bit, "its sha256 is another"),
        (claim_more, "its sha256 is another"), (swap_roles, "is not the extractor of digits"),
    ],
)  # fmt: skip
def test_a_harmed_file_is_named_and_made_anew(kept, harm, said, monkeypatch, capsys):
    path = kept / f"extractor-digits-{RECIPE}.safetensors"
    whole, sha256 = path.read_bytes(), load_or_train("digits").sha256
    harm(path)
    assert path.read_bytes() != whole
    monkeypatch.setattr(module, "_make", lambda role, data, path: path.write_bytes(whole))
    assert load_or_train("digits").sha256 == sha256
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line and said in line and "training it anew" in line


def test_two_at_once_train_once(short, monkeypatch):
    """Threads here; flock parts them as it does processes, since each opens the lock anew."""
    trained, fit = [], module.fit

    def slow_fit(*one):
        trained.append(one)
        time.sleep(0.5)
        return fit(*one)

    monkeypatch.setattr(module, "fit", slow_fit)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(load_or_train, ["digits"] * 3))
    assert len({one.sha256 for one in found}) == 1
    assert len(trained) == 1
    assert {path.suffix for path in short.iterdir()} == {".safetensors", ".lock"}


def test_killed_while_training_leaves_nothing(short, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "Ema", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            load_or_train("digits")
    assert not list(short.glob("*.safetensors"))
    assert load_or_train("digits").data == "digits"


def test_no_labels_no_classifier(short):
    with pytest.raises(LabError, match="no extractor for 'toy2d': it needs labels"):
        load_or_train("toy2d")
    with pytest.raises(LabError, match="no judge for"):
        load_or_train_judge("/some/folder")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "file"))
    with pytest.raises(LabError, match="LAB_DATA") as caught:
        load_or_train("digits")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("load", "sha256", "accuracy"),
    [
        (load_or_train, "0baf7b64b81650325a4c573679fe92c0a18d2076667d303cdfdb5d778ef74986", 0.9939),
        (
            load_or_train_judge,
            "93eb58e5d9e55b0b6df187e57dac579de5b3608b5f39afbd46a9aadb68e1a5c4",
            0.9944,
        ),
    ],
)
def test_those_of_mnist_are_shipped(load, sha256, accuracy, short):
    """Figures of two machines compare only if they come from the very same extractor."""
    kept = load("mnist")
    assert (kept.sha256, kept.accuracy) == (sha256, accuracy)
    assert not short.exists(), "nothing was trained"


@pytest.mark.network
def test_the_shipped_ones_read_real_digits():
    """What the files say of themselves, on a thousand test images."""
    images, labels = load_images("mnist", "test")
    for load in (load_or_train, load_or_train_judge):
        found = load("mnist").log_probabilities(to_unit(images[:1000])).argmax(1)
        assert (found == labels[:1000]).float().mean() > 0.98


def test_a_harmed_shipped_file_is_named_and_left_out(short, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "SHIPPED", tmp_path)
    (tmp_path / f"judge-digits-{RECIPE}.safetensors").write_bytes(b"no weights")
    load_or_train_judge("digits")
    assert "is damaged" in capsys.readouterr().err
    assert (short / f"judge-digits-{RECIPE}.safetensors").exists()
