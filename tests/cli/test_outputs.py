"""Files that commands write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jensen.cli.outputs import claim, free, put, write_arrays, write_images
from jensen.errors import JensenError


def test_free_counts_on(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert free(path) == path
    path.touch()
    assert free(path) == tmp_path / "a-2.png"
    (tmp_path / "a-2.png").touch()
    assert free(path) == tmp_path / "a-3.png"


def test_claim(tmp_path: Path) -> None:
    default, there = tmp_path / "default.png", tmp_path / "there.png"
    there.touch()
    assert claim(None, default, (".png",), force=False) == default
    assert claim(tmp_path / "new.PNG", default, (".png",), force=False) == tmp_path / "new.PNG"
    assert claim(there, default, (".png",), force=True) == there
    with pytest.raises(JensenError, match=r"there\.png exists already; .* --force"):
        claim(there, default, (".png",), force=False)
    with pytest.raises(JensenError, match=r"should end in \.png or \.npz"):
        claim(tmp_path / "a.gif", default, (".png", ".npz"), force=True)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(JensenError, match="is a directory"):
        claim(tmp_path / "folder.png", default, (".png",), force=True)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("new, but")
        raise OSError(28, "No space left on device")

    with pytest.raises(JensenError, match=r"cannot write .*a\.txt: No space left on device"):
        put(path, half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JensenError, match="cannot write"):
        write_arrays(tmp_path / "file" / "a.npz", {"a": np.zeros(3)})


def test_images_are_written_pixel_for_pixel(tmp_path: Path) -> None:
    images = torch.arange(24).reshape(2, 1, 3, 4) / 255 * 5
    paths = write_images(tmp_path / "out", images, ["a", "b"], force=False)
    assert paths == [tmp_path / "out" / "a.png", tmp_path / "out" / "b.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])), np.arange(12, 24).reshape(3, 4) * 5)
    colour = torch.rand(1, 3, 3, 4) * 1.5 - 0.2  # clipped
    (path,) = write_images(tmp_path / "out", colour, ["c"], force=False)
    expected = np.rint(np.clip(colour[0].numpy(), 0, 1) * 255).transpose(1, 2, 0)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)


def test_images_over_others_need_force(tmp_path: Path) -> None:
    images = torch.zeros(2, 1, 3, 4)
    write_images(tmp_path, images[:1], ["b"], force=False)
    with pytest.raises(JensenError, match=r"b\.png exists already"):
        write_images(tmp_path, images, ["a", "b"], force=False)
    assert not (tmp_path / "a.png").exists()
    write_images(tmp_path, images, ["a", "b"], force=True)
    with pytest.raises(JensenError, match="is a file; give a folder"):
        write_images(tmp_path / "a.png", images, ["a", "b"], force=True)
