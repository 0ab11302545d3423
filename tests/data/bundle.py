"""Makes `netspec/data/bundled/` from the full MNIST: `python tests/data/bundle.py FOLDER`."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

BUNDLED = Path(__file__).parents[2] / "netspec/data/bundled"
FILES = {
    "train-images-idx3-ubyte.gz": 10_000,
    "train-labels-idx1-ubyte.gz": 10_000,
    "t10k-images-idx3-ubyte.gz": 2_000,
    "t10k-labels-idx1-ubyte.gz": 2_000,
}


def excerpt(path: Path, count: int) -> bytes:
    """The IDX file at `path`, unpacked, with its first `count` items only."""
    data = gzip.decompress(path.read_bytes())
    axes = data[3]
    shape = struct.unpack_from(f">{axes}I", data, 4)
    start = 4 + 4 * axes
    item = (len(data) - start) // shape[0]
    return data[:4] + struct.pack(">I", count) + data[8 : start + item * count]


if __name__ == "__main__":
    for name, count in FILES.items():
        packed = gzip.compress(excerpt(Path(sys.argv[1]) / name, count), 9, mtime=0)
        (BUNDLED / name).write_bytes(packed)
        print(f"{name}: {count:,} items, {len(packed):,} bytes")
