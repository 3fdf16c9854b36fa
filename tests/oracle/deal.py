#!/usr/bin/env python3
"""Deal the lines of one file of events to several files, as a broker deals records to partitions.

    deal.py IN OUT --files 6

Shape: IN/events.ndjson and IN/keys.txt in; OUT/events-0.ndjson, events-1.ndjson, ... out, and beside each its
events-N.lines: the number, from 0, that each of its lines has in IN/events.ndjson.

Invariants: lines of one key share a file; within a file the order is the old one; every line is dealt once, byte for byte.
A line without a key goes by its own bytes, so that equal lines still share a file.
"""
import argparse, pathlib, sys, zlib


def lines_of(path):
    """The lines of a file without their newline; only a newline ends a line."""
    with open(path, "rb") as f:
        for line in f:
            yield line[:-1] if line.endswith(b"\n") else line


def deal(source, out, files):
    """Deals, and returns the paths with the old numbers of their lines: {path: [number, ...]}."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"events-{n}.ndjson" for n in range(files)]
    numbers = [[] for _ in paths]
    events, keys = source / "events.ndjson", lines_of(source / "keys.txt")
    written = [open(path, "wb") for path in paths]
    try:
        with open(events, "rb") as f:
            for number, line in enumerate(f):  # with its newline, which the very last line may lack
                key = next(keys, None)
                if key is None:
                    sys.exit(f"{source}/keys.txt has fewer lines than events.ndjson: generate both anew")
                file = zlib.crc32(key or line.rstrip(b"\n")) % files
                written[file].write(line)
                numbers[file].append(number)
    finally:
        for f in written:
            f.close()
    if next(keys, None) is not None:
        sys.exit(f"{source}/keys.txt has more lines than events.ndjson: generate both anew")
    for path, old in zip(paths, numbers):
        path.with_suffix(".lines").write_text("".join(f"{n}\n" for n in old))
    return dict(zip(paths, numbers))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", metavar="IN", type=pathlib.Path)
    p.add_argument("out", metavar="OUT", type=pathlib.Path)
    p.add_argument("--files", type=int, default=6)
    a = p.parse_args()
    if a.files < 1:
        p.error("--files is a number of files, 1 or more")
    for path, numbers in deal(a.source, a.out, a.files).items():
        print(f"{path}: {len(numbers)} lines")


if __name__ == "__main__":
    main()
