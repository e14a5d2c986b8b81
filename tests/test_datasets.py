"""Embedded images are the real ones; datasets on disk are read by torchvision itself."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from skimage import data as skimage_data

from leakbench.bench.datasets import DATASETS
from leakbench.bench.datasets.embedded import load_arrays
from leakbench.bench.datasets.folder import pictures_below
from leakbench.bench.embedded.rebuild import HERE, checksum
from leakbench.core.configured import SettingError

EMBEDDED = ["cifar10-sample", "cifar100-sample", "mnist-sample", "fashion-mnist-sample", "mnist-5k"]


@pytest.mark.parametrize("file", sorted(path.name for path in HERE.glob("*.npz")))
def test_embedded_files_are_what_the_checksums_say(file):
    expected = json.loads((HERE / "checksums.json").read_text())
    assert checksum(load_arrays(file)) == expected[Path(file).stem]


@pytest.mark.parametrize(
    ("name", "shape", "classes", "length"),
    [
        ("cifar10-sample", (3, 32, 32), 10, 20),
        ("cifar100-sample", (3, 32, 32), 100, 20),
        ("mnist-sample", (1, 28, 28), 10, 20),
        ("fashion-mnist-sample", (1, 28, 28), 10, 20),
        ("mnist-5k", (1, 28, 28), 10, 5000),
        ("lfw-subset", (1, 25, 25), 2, 200),
    ],
)
def test_embedded_images_need_nothing(name, shape, classes, length, tmp_path):
    images = DATASETS.parse(name).open(tmp_path)
    assert (images.shape, images.classes, len(images)) == (shape, classes, length)
    for index in (0, length - 1):
        image, label = images[index]
        assert image.shape == shape
        assert image.dtype == torch.float32
        assert 0 <= float(image.min()) < float(image.max()) <= 1
        assert 0 <= label < classes
    assert list(tmp_path.iterdir()) == []


def test_labels_that_everybody_knows():
    """The first test images of CIFAR-10 are a cat and two ships; MNIST's are 7, 2, 1, 0, 4."""
    cifar = DATASETS.parse("cifar10-sample").open(Path())
    mnist = DATASETS.parse("mnist-sample").open(Path())
    assert [cifar[i][1] for i in range(3)] == [3, 8, 8]
    assert [mnist[i][1] for i in range(5)] == [7, 2, 1, 0, 4]


def test_any_ten_neighbours_of_mnist_5k_hold_each_digit_once():
    images = DATASETS.parse("mnist-5k").open(Path())
    assert [images[i][1] for i in range(1230, 1240)] == list(range(10))
    assert len({images[i][0].numpy().tobytes() for i in range(5000)}) == 5000


def test_lfw_subset_has_faces_first_in_the_data_and_label_1():
    images = DATASETS.parse("lfw-subset").open(Path())
    assert (images[0][1], images[99][1], images[100][1]) == (1, 1, 0)
    np.testing.assert_allclose(images[7][0][0], skimage_data.lfw_subset()[7], atol=1e-7)


@pytest.mark.parametrize("index", [-1, 20])
def test_an_index_outside_the_data_set(index):
    with pytest.raises(IndexError, match=rf"expected an index in 0..19, got {index}"):
        DATASETS.parse("cifar10-sample").open(Path())[index]


def test_digits_come_in_other_shapes():
    plain = DATASETS.parse("mnist-5k").open(Path())
    other = DATASETS.parse("mnist-5k(size=14, grey=false)").open(Path())
    assert (other.shape, len(other), other[7][1]) == ((3, 14, 14), 5000, 7)
    image, wanted = other[7][0], plain[7][0].reshape(14, 2, 14, 2).mean((1, 3))
    assert all(torch.equal(channel, image[0]) for channel in image)
    assert float((image[0] - wanted).abs().mean()) < 0.04  # another digit: 0.15
    assert DATASETS.parse("mnist-5k(grey=false)").open(Path())[7][0].shape == (3, 28, 28)
    with pytest.raises(SettingError, match="size: expected a whole number >= 1, got 0"):
        DATASETS.parse("mnist-5k(size=0)")


# --- datasets on disk, written here in their own formats from the embedded pictures --------------


def write_idx(folder, prefix, pixels, labels):
    folder.mkdir(parents=True)
    for name, array in (("images-idx3-ubyte", pixels), ("labels-idx1-ubyte", labels)):
        header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
        (folder / f"{prefix}-{name}").write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_mnist_files(tmp_path, name, folder, split, prefix):
    pixels, labels = load_arrays("mnist_sample.npz")
    # torchvision looks for all four files before it reads two of them
    for each in ("train", "t10k"):
        write_idx(tmp_path / each, each, pixels if each == prefix else pixels[:0], labels[: len(pixels)])
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for file in [*(tmp_path / "train").iterdir(), *(tmp_path / "t10k").iterdir()]:
        file.rename(raw / file.name)
    images = DATASETS.parse(f"{name}(split={split})").open(tmp_path)
    expected = DATASETS.parse("mnist-sample").open(tmp_path)
    assert len(images) == 20
    assert torch.equal(images[3][0], expected[3][0])
    assert images[3][1] == expected[3][1]


@pytest.mark.parametrize(
    ("name", "folder", "files", "key", "classes"),
    [
        ("cifar10", "cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], "labels", 10),
        ("cifar100", "cifar-100-python", ["train"], "fine_labels", 100),
    ],
)
def test_cifar_files(tmp_path, monkeypatch, name, folder, files, key, classes):
    from leakbench.bench.datasets.torchvision_import import torchvision_datasets

    datasets = torchvision_datasets()
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)  # of MD5 sums
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: None)
    pixels, labels = load_arrays(f"{name}_sample.npz")
    (tmp_path / folder).mkdir()
    for file, part, own in zip(
        files, np.array_split(pixels, len(files)), np.array_split(labels, len(files)), strict=True
    ):
        content = {"data": part.transpose(0, 3, 1, 2).reshape(len(part), -1), key: own.tolist()}
        (tmp_path / folder / file).write_bytes(pickle.dumps(content))
    images = DATASETS.parse(name).open(tmp_path)
    expected = DATASETS.parse(f"{name}-sample").open(tmp_path)
    assert (images.classes, len(images)) == (classes, 20)
    assert torch.equal(images[11][0], expected[11][0])
    assert images[11][1] == expected[11][1]


def test_svhn_files(tmp_path, monkeypatch):
    from leakbench.bench.datasets.torchvision_import import torchvision_datasets

    monkeypatch.setattr(torchvision_datasets().SVHN, "_check_integrity", lambda self: True)
    pixels, labels = load_arrays("cifar10_sample.npz")
    content = {"X": pixels.transpose(1, 2, 3, 0), "y": labels[:, None]}
    scipy.io.savemat(tmp_path / "test_32x32.mat", content)
    images = DATASETS.parse("svhn(split=test)").open(tmp_path)
    expected = DATASETS.parse("cifar10-sample").open(tmp_path)
    assert torch.equal(images[5][0], expected[5][0])
    assert images[5][1] == expected[5][1]


def test_lfw_is_a_folder_a_person(tmp_path):
    for person, grey in (("Ada", 10), ("Bob", 200)):
        (tmp_path / "lfw" / person).mkdir(parents=True)
        Image.new("RGB", (250, 250), (grey,) * 3).save(tmp_path / "lfw" / person / f"{person}_0001.jpg")
    images = DATASETS.parse("lfw").open(tmp_path)
    assert (images.shape, images.classes, len(images)) == ((3, 32, 32), 2, 2)
    image, label = images[1]
    assert label == 1
    assert float(image.mean()) == pytest.approx(200 / 255, abs=0.01)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("mnist", "mnist: not found: expected MNIST/raw under the data root"),
        ("fashion-mnist", "fashion-mnist: not found: expected FashionMNIST/raw under"),
        ("cifar10", "cifar10: not found: expected cifar-10-batches-py under"),
        ("cifar100", "cifar100: not found: expected cifar-100-python under"),
        ("svhn", "svhn: not found: expected train_32x32.mat or test_32x32.mat under"),
        ("lfw", "lfw: not found: expected one folder per person in"),
    ],
)
def test_data_that_is_not_there_says_what_to_do(tmp_path, name, problem):
    with pytest.raises(SettingError) as caught:
        DATASETS.parse(name).open(tmp_path / "data")
    text = str(caught.value)
    assert text.startswith(problem)
    assert "--data-root" in text
    assert "\n" not in text
    assert not (tmp_path / "data").exists()


def test_a_download_that_fails_is_one_sentence(tmp_path, monkeypatch):
    from leakbench.bench.datasets.torchvision_import import torchvision_datasets

    def no_network(self):
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision_datasets().CIFAR10, "download", no_network)
    with pytest.raises(SettingError, match="cifar10: could not be downloaded .*no route to host") as caught:
        DATASETS.parse("cifar10(download=true)").open(tmp_path)
    assert "\n" not in str(caught.value)


def test_how_data_came_there_is_no_part_of_a_trial():
    there, fetched = (DATASETS.parse(f"cifar10(download={flag})") for flag in ("false", "true"))
    assert fetched.download
    assert there == fetched
    assert there.canonical() == fetched.canonical()
    assert str(there) == str(fetched) == "cifar10"


def test_files_that_torchvision_cannot_read_are_a_sentence(tmp_path):
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "MNIST" / "raw" / f"{part}-ubyte").write_bytes(b"torn")
    with pytest.raises(SettingError, match=r"mnist: not found \(.*Error.*\): expected MNIST/raw"):
        DATASETS.parse("mnist").open(tmp_path)


# --- the user's own pictures ---------------------------------------------------------------------


def picture(path, size=(40, 20), colour=(255, 0, 0), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_a_folder_of_pictures_with_a_sub_folder_a_class(tmp_path):
    picture(tmp_path / "b dogs" / "2.png", colour=(0, 255, 0))
    picture(tmp_path / "a cats" / "1.JPG")
    picture(tmp_path / "a cats" / "0.jpeg", colour=(0, 0, 255))
    (tmp_path / "a cats" / "notes.txt").write_text("no picture")
    images = DATASETS.build("folder", {"path": str(tmp_path), "size": 16}).open(Path())
    assert (images.shape, images.classes, len(images)) == ((3, 16, 16), 2, 3)
    assert [images[i][1] for i in range(3)] == [0, 0, 1]
    assert images[2][0][:, 8, 8].tolist() == [0, 1, 0]
    assert float(images[0][0][2].mean()) == pytest.approx(1, abs=0.02)


def test_pictures_of_any_mode_become_rgb_or_grey(tmp_path):
    for name, mode, colour in (("a", "L", 128), ("b", "RGBA", (128, 128, 128, 255)), ("c", "1", 1)):
        picture(tmp_path / f"{name}.png", colour=colour, mode=mode)
    colour = DATASETS.build("folder", {"path": str(tmp_path), "size": 12}).open(Path())
    grey = DATASETS.build("folder", {"path": str(tmp_path), "size": 12, "grey": True}).open(Path())
    assert colour[0][0].shape == (3, 12, 12)
    assert grey[1][0].shape == (1, 12, 12)
    assert float(grey[1][0].mean()) == pytest.approx(128 / 255)
    assert colour[2][0].min() == 1


def test_pictures_of_16_bits_keep_their_shades(tmp_path):
    ramp = np.linspace(0, 65535, 32, dtype=np.uint16)[None].repeat(32, 0)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    image, _ = DATASETS.parse(f"folder:{tmp_path}").open(Path())[0]
    np.testing.assert_allclose(image[0, 16], ramp[16] / 65535, atol=0.01)


def test_the_path_of_the_short_form_may_hold_anything(tmp_path):
    folder = tmp_path / "my pics (1), old=new"
    picture(folder / "0.png")
    dataset = DATASETS.parse(f"folder:{folder}")
    assert dataset.path == str(folder)
    assert DATASETS.parse(str(dataset)) == dataset


def test_a_folders_pictures_count_by_their_content(tmp_path):
    picture(tmp_path / "0.png")
    first = DATASETS.parse(f"folder:{tmp_path}").canonical()
    picture(tmp_path / "1.png")
    pictures_below.cache_clear()
    assert DATASETS.parse(f"folder:{tmp_path}").canonical() != first


def test_a_folder_that_cannot_be_used(tmp_path):
    with pytest.raises(SettingError, match="path: expected a folder of pictures, found none"):
        DATASETS.parse("folder:nowhere")
    with pytest.raises(SettingError, match="path: expected a folder of pictures, found none"):
        DATASETS.parse("folder:" + 300 * "a")
    with pytest.raises(SettingError, match="size: expected a whole number >= 1, got 0"):
        DATASETS.build("folder", {"path": str(tmp_path), "size": 0})
    with pytest.raises(SettingError, match=r"expected pictures \(.png, .jpg, .jpeg\), found none"):
        DATASETS.parse(f"folder:{tmp_path}").open(Path())
    (tmp_path / "torn.png").write_bytes(b"\x89PNG no more")
    pictures_below.cache_clear()
    with pytest.raises(SettingError, match="torn.png: expected a PNG or JPEG picture"):
        DATASETS.parse(f"folder:{tmp_path}").open(Path())[0]
    picture(tmp_path / "class" / "a.png")
    pictures_below.cache_clear()
    with pytest.raises(SettingError, match="in sub-folders or in the folder itself, found both"):
        DATASETS.parse(f"folder:{tmp_path}").open(Path())
