import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from tests.data.written_images import X, Y, class_folders, encoded, idx_folder, load, npz, parquet, with_test

IDX = "train-images-idx3-ubyte"


def archive(**arrays: Any) -> Callable[[Path], Path]:
    return lambda folder: npz(folder, **{"x_train": X, "y_train": Y, **arrays})


def broken(make: Callable[[Path], Path], name: str, keep: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = make(folder)
        file = path / name if name else path
        file.write_bytes(file.read_bytes()[:keep])
        return path

    return write


def added(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = class_folders(folder / "set") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return folder / "set"

    return write


def file(name: str, content: bytes = b"nonsense") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def table(**columns: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / "set.parquet")
        return folder / "set.parquet"

    return write


def npy(folder: Path) -> Path:
    with (folder / "set.npz").open("wb") as stream:
        np.save(stream, X)
    return folder / "set.npz"


def only_x(folder: Path) -> Path:
    return npz(folder, x_train=X)


def misspelt(folder: Path) -> Path:
    return with_test(folder).with_name("sett.npz")


def no_labels(folder: Path) -> Path:
    (idx_folder(folder) / "train-labels-idx1-ubyte").unlink()
    return folder / "idx"


def swapped(folder: Path) -> Path:
    (idx_folder(folder) / "train-images-idx3-ubyte").write_bytes((folder / "idx/train-labels-idx1-ubyte").read_bytes())
    return folder / "idx"


def unknown_class(folder: Path) -> Path:
    class_folders(folder / "set/train", X[:10], Y[:10])
    return class_folders(folder / "set/test").parent


def empty_class(folder: Path) -> Path:
    (class_folders(folder / "set") / "class9").mkdir()
    return folder / "set"


def nameless_parquet(folder: Path) -> Path:
    return parquet(folder / "set/data.parquet", X, Y).parent


def two_configs(folder: Path) -> Path:
    parquet(folder / "set/a/train-0.parquet", X, Y)
    return parquet(folder / "set/b/train-0.parquet", X, Y).parent.parent


def garbled(folder: Path) -> Path:
    path = with_test(folder)
    content = bytearray(path.read_bytes())
    content[300:340] = bytes(40)  # inside x_train's compressed bytes
    path.write_bytes(content)
    return path


def damaged_directory(folder: Path) -> Path:
    path = with_test(folder)
    path.write_bytes(path.read_bytes().replace(b"PK\1\2", b"PK\0\0"))
    return path


def with_test_left_out(folder: Path) -> Path:
    return npz(folder, x_train=X, y_train=Y)


def gzipped_idx_folder(folder: Path) -> Path:
    return idx_folder(folder, ".gz")


def one_parquet(folder: Path) -> Path:
    return parquet(folder / "set.parquet", X, Y)


WITH_NAN = np.where(np.arange(720).reshape(20, 6, 6) == 43, np.nan, X / 255)
TRANSPARENT = encoded(np.dstack([X[0], X[1], X[2], X[3]]))
DEEP = encoded(np.full((6, 6), 3000, np.uint16))
REFUSED: list[tuple[Callable[[Path], Path], str]] = [
    (misspelt, "data.path = '*/sett.npz': no such file or folder (did you mean '*/set.npz'?); give an .npz *"),
    (file("set.csv"), "data.path = '*/set.csv': unknown kind of file '.csv'; give an .npz archive, a .parquet *"),
    (file("set.npz"), "*/set.npz: no .npz archive, or cut short; save it with numpy.savez and the arrays x_train, *"),
    (
        file("set.npz", b""),
        "*/set.npz: no .npz archive, or cut short; save it with numpy.savez and the arrays x_train, *",
    ),
    (
        broken(with_test, "", 900),
        "*/set.npz: no .npz archive, or cut short; save it with numpy.savez and the arrays x_train, *",
    ),
    (damaged_directory, "*/set.npz: not a whole .npz archive (Bad magic number for central directory); save it again"),
    (garbled, "*/set.npz: 'x_train' cannot be read (*); save the archive again"),
    (npy, "*/set.npz: no .npz archive, or cut short; save it with numpy.savez and the arrays x_train, y_train, *"),
    (only_x, "*: no 'y_train' in the archive; found: x_train; needed: x_train, y_train, and both or neither of *"),
    (archive(x_test=X), "*: no 'y_test' in the archive; found: *"),
    (archive(y_train=Y.astype(object)), "*: 'y_train' cannot be read (Object arrays cannot be loaded *"),
    (archive(x_train=np.int64(3)), "*: 'x_train' is a single number; it must have one row an image"),
    (archive(x_train=X[:0], y_train=Y[:0]), "x_train of *: no images; at least one is needed"),
    (archive(y_train=Y[:19]), "x_train of *: 20 images but 19 labels; each image needs one label"),
    (archive(x_train=X.reshape(20, 36)), "x_train of *: shape (20, 36); allowed: (N, H, W), (N, H, W, C) and *"),
    (archive(x_train=np.zeros((20, 6, 6, 4))), "x_train of *: 4 channels; allowed: *; drop transparency first"),
    (archive(x_train=np.zeros((20, 2, 6, 6))), "x_train of *: shape (20, 2, 6, 6): 2 channels; allowed: *"),
    (archive(x_train=np.zeros((20, 3, 6, 3))), "x_train of *: the channels could be axis 1 or 3; save grey *"),
    (archive(x_train=WITH_NAN), "*: 1 NaN or infinite pixels, first in image 1 (channel, row, column (0, 1, 1)); *"),
    (archive(x_train=X * 0 + 7), "x_train of *: every pixel is 7; there is nothing to learn from: check how *"),
    (archive(x_train=X % 2), "x_train of *: uint8 pixels are all 0 or 1, of 255; save two-valued images as bool"),
    (archive(x_train=X.astype(float)), "x_train of *: float64 pixels from 0 to 255; allowed: *; divide by 255 or *"),
    (archive(x_train=X.astype(int) - 9), "x_train of *: int64 pixels from -9 to 2*; allowed: integers 0..255, *"),
    (archive(x_train=X.astype(str)), "x_train of *: pixels of type <U*; allowed: integers 0..255, bool, floats *"),
    (archive(y_train=Y / 2), "x_train of *: labels of type float64 and shape (20,); allowed: integers of shape *"),
    (archive(y_train=np.eye(20)), "x_train of *: labels of type float64 and shape (20, 20); allowed: integers *"),
    (archive(y_train=Y.astype(int) - 1), "x_train of *: labels from -1 to 2; classes are numbered from 0 to *"),
    (archive(y_train=Y.astype(int) * 10**6), "x_train of *: labels from 0 to 3000000; classes are numbered *"),
    (archive(x_test=X / 127.5 - 1, y_test=Y), "set: training pixels lie in (0.0, 1.0), test pixels in (-1.0, 1.0); *"),
    (archive(x_test=X[:, 1:], y_test=Y), "set: training images are (1, 6, 6), test images (1, 5, 6) (chann*"),
    (no_labels, "*/idx: no train-labels-idx1-ubyte or train-labels-idx1-ubyte.gz; found: t10k-images-idx3-*"),
    (swapped, "*/train-images-idx3-ubyte: begins with 00 00 08 01, an idx file of 3 axes of bytes with 00 00 08 03; *"),
    (broken(idx_folder, IDX, 100), f"*/{IDX}: 84 bytes of data where shape (20, 6, 6) needs 720; it is cut short *"),
    (broken(idx_folder, IDX, 6), f"*/{IDX}: 0 bytes of data where shape (0, 0, 0) needs 1; *"),
    (broken(idx_folder, IDX, 0), f"*/{IDX}: begins with nothing, an idx file of 3 axes of bytes with *"),
    (broken(gzipped_idx_folder, f"{IDX}.gz", 300), f"*/{IDX}.gz: not a whole gzip file (*); fetch it again"),
    (added("class0/bad.png", b"nonsense"), "*/class0/bad.png: not a whole image (cannot identify image file *"),
    (added("class0/bad.png", encoded(X[0])[:60]), "*/class0/bad.png: not a whole image (*); replace or remove it"),
    (added("class0/a.png", TRANSPARENT), "*/class0/a.png: has transparent pixels; flatten it onto a background"),
    (added("class0/a.png", DEEP), "*/class0/a.png: mode I;16 has more than 8 bits a channel; convert it to 8 bits"),
    (added("class0/zz.png", encoded(X[0, 1:])), "*: images of different sizes, 6 x 6 (*) and 6 x 5 (*/zz.png); set *"),
    (empty_class, "*/set/class9: no images in this class folder; allowed: .png, .jpg, .jpeg, .bmp, .webp; *"),
    (unknown_class, "*/set/test: class 'class2' is none of the training classes class0, class1"),
    (lambda folder: folder, "*: no sub-folders, idx or parquet files; put the images of each class into a sub-folder"),
    (file("set.parquet"), "*/set.parquet: not a whole parquet file (*); fetch it again"),
    (broken(one_parquet, "", 500), "*/set.parquet: not a whole parquet file (*); fetch it again"),
    (table(picture=[b""], label=[1]), "*/set.parquet: no column image or img; found: picture, label; *"),
    (table(image=[b""], y=[1]), "*/set.parquet: no column label or labels or fine_label; found: image, y; *"),
    (table(image=[None], label=[1]), "*/set.parquet: row 0 holds no image bytes; export the images into *"),
    (table(image=[b"x"], label=[1]), "row 0 of */set.parquet: not a whole image (cannot identify image file*"),
    (table(image=[encoded(X[0])], label=["cat"]), "*: labels of type object and shape (1,); allowed: integers *"),
    (table(image=[encoded(X[0])], label=[None]), "*/set.parquet: labels *; allowed: integers *"),
    (nameless_parquet, "*/set: no train*.parquet; found: data.parquet"),
    (two_configs, "*/set: train*.parquet in several folders: */set/a, */set/b; give one of them"),
]
SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 0}, "data.batch_size = 0: must be at least 1"),
    ({"batch_size": 19}, "data.batch_size = 19: larger than the 18 training images of set; use at most 18"),
    ({"sampling": "random"}, "data.sampling = 'random': unknown order; allowed: shuffled, with_replacement, *"),
    ({"image_size": 0}, "data.image_size = 0: must be at least 1, or null to keep the size"),
    ({"channels": 4}, "data.channels = 4: allowed: 1 (grey), 3 (colour), null (as in the source)"),
    ({"pixels": "byte"}, "data.pixels = 'byte': unknown range; allowed: unit, symmetric"),
    ({"validation_fraction": 1.0}, "data.validation_fraction = 1.0: must lie in (0, 1); 0.1 keeps 10 % to *"),
    ({"validation_fraction": 0.0}, "data.validation_fraction = 0.0: must lie in (0, 1); 0.1 keeps 10 % to *"),
    ({"validation_fraction": 0.99}, "data.validation_fraction = 0.99: leaves none of 20 images to train on; use *"),
]


def as_pattern(message: str) -> str:
    return "^" + ".*".join(re.escape(part) for part in message.split("*")) + "$"


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_a_source_that_cannot_be_trained_on_is_refused_in_one_line(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=as_pattern(message)) as refused:
        load(make(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=as_pattern(message)):
        load(with_test_left_out(tmp_path), **settings)
