"""Downloads with checksum and cache."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from jensen.data.npz import cache_directory
from jensen.errors import DataError

__all__ = ["BASE_URLS", "FILES", "Remote", "download"]


class Remote(NamedTuple):
    """A file on a server."""

    name: str
    checksum: str
    """"algorithm:hexadecimal" of the published file"""


BASE_URLS: dict[str, tuple[str, ...]] = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "fashion-mnist": (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    "omniglot": ("https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
}
"""Mirrors of each data set, tried in turn; each URL ends with a slash."""

FILES: dict[str, tuple[Remote, ...]] = {
    "mnist": (
        Remote("train-images-idx3-ubyte.gz", "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        Remote("train-labels-idx1-ubyte.gz", "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        Remote("t10k-images-idx3-ubyte.gz", "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        Remote("t10k-labels-idx1-ubyte.gz", "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
    "fashion-mnist": (
        Remote("train-images-idx3-ubyte.gz", "sha256:3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        Remote("train-labels-idx1-ubyte.gz", "sha256:a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        Remote("t10k-images-idx3-ubyte.gz", "sha256:346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        Remote("t10k-labels-idx1-ubyte.gz", "sha256:67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
    # published as MD5 only
    "omniglot": (
        Remote("images_background.zip", "md5:68d2efa1b9178cc56df9314c21c6e718"),
        Remote("images_evaluation.zip", "md5:6b91aef0f799c5bb55b94e3f2daec811"),
    ),
    # the binary version: the other one is pickled, and unpickling runs whatever code is in it
    "cifar10": (
        Remote("cifar-10-binary.tar.gz", "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
    ),
}

TIMEOUT = 30.0
"""seconds without an answer after which a mirror counts as down"""


def download(name: str, offer: str) -> list[Path]:
    """The files of a data set, from the cache where they are whole, else from the first mirror that has them.

    `offer` is what a user may put into a folder instead, for the error message. A download is checked before it
    takes its place in the cache. Raises `DataError` if no mirror gives the right file.
    """
    return [_retrieve(name, remote, offer) for remote in FILES[name]]


def _retrieve(name: str, remote: Remote, offer: str) -> Path:
    import pooch

    folder = cache_directory() / name
    target = folder / remote.name
    if target.is_file() and pooch.hashes.hash_matches(str(target), remote.checksum):
        return target
    failures = []
    for base in BASE_URLS[name]:
        url = base + remote.name
        try:
            found = pooch.retrieve(
                url,
                known_hash=remote.checksum,
                fname=remote.name,
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=TIMEOUT),
            )
        except ValueError as error:  # pooch's only word for a checksum that differs; it has removed the file
            failures.append(f"{url}: {' '.join(str(error).split())}")
        except OSError as error:  # what requests raises, too
            failures.append(f"{url}: {error}")
        else:
            return Path(found)
    raise DataError(
        f"cannot download {remote.name} of {name} (expected {remote.checksum}): {'; '.join(failures)}. "
        f"Try again later, or put {offer} into a folder and name it with JENSEN_DATA or data.directory"
    )
