#!/usr/bin/env python3
"""Hold the dead letters of a run against those of the oracle.

    letters.py IN WANT GOT [--dealt DIR]

Shape: IN/events.ndjson, WANT/dead_letters.txt and GOT/dead_letters.ndjson in; exit 0 and `N letters`, or exit 1 and the first
complaints. With --dealt the engine read the files that deal.py wrote into DIR, else IN/events.ndjson.

Invariants checked: the letters are exactly the lines that the oracle refused, each once; each has a reason, and the bytes of its
line without the newline. A letter names its file by the path that the engine was given, or by the file's name.
"""
import argparse, base64, binascii, json, pathlib, sys

from deal import lines_of

SHOWN_MAX = 5  # complaints of a kind: enough to see the rule that was broken


def read(path, sources):
    """({number of the line: bytes}, complaints) of a file of letters."""
    places = {}
    for source, numbers in sources.items():
        places[str(source)] = places[pathlib.Path(source).name] = numbers
    letters, wrong = {}, []
    for n, text in enumerate(lines_of(path)):
        try:
            letter = json.loads(text)
            file, line, reason, column = letter["file"], letter["line"], letter["reason"], letter.get("column")
            data = base64.b64decode(letter["bytes"], validate=True)
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as e:
            wrong.append(f"letter {n} is no object of file, line, reason, column and bytes in base64: {type(e).__name__} {e}")
            continue
        if not (isinstance(reason, str) and reason) or not (column is None or isinstance(column, str)):
            wrong.append(f"letter {n} has no reason in words, or its column is no text: {reason!r}, {column!r}")
        if file not in places:
            wrong.append(f"letter {n} names file {file!r}, which the engine was not given")
        elif not isinstance(line, int) or isinstance(line, bool) or not 0 <= line < len(places[file]):
            wrong.append(f"letter {n} names line {line!r} of {file}, which has {len(places[file])} lines counted from 0")
        elif places[file][line] in letters:
            wrong.append(f"line {places[file][line]} has two letters")
        else:
            letters[places[file][line]] = data
    return letters, wrong


def complaints(source, want, got, dealt=None):
    """What is wrong with the letters of a run, in words; nothing if all is well.

    `dealt` holds the files that the engine was given, {path: [number in events.ndjson, ...]}; None: events.ndjson itself."""
    path = got / "dead_letters.ndjson"
    if not path.exists():
        return [f"{path} is missing: the engine writes it, without lines if there are no dead letters"]
    events = source / "events.ndjson"
    if dealt is None:
        dealt = {events: range(sum(1 for _ in lines_of(events)))}
    letters, wrong = read(path, dealt)
    wanted = {int(n) for n in (want / "dead_letters.txt").read_text().split()}
    wrong = wrong[:SHOWN_MAX] + ([f"and {len(wrong) - SHOWN_MAX} more of that kind"] if len(wrong) > SHOWN_MAX else [])
    altered = [n for n, line in enumerate(lines_of(events)) if n in letters and n in wanted and letters[n] != line]
    for what, numbers in (("have no letter", wanted - letters.keys()),
        ("have a letter and are events", letters.keys() - wanted),
                          ("have a letter with other bytes", altered)):
        if numbers:
            wrong.append(f"{len(numbers)} lines {what}: {', '.join(map(str, sorted(numbers)[:SHOWN_MAX]))}")
    return wrong


def dealt_before(folder):
    """What `deal` returned when it wrote into that folder."""
    return {path: [int(n) for n in path.with_suffix(".lines").read_text().split()] for path in sorted(folder.glob("events-*.ndjson"))}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", metavar="IN", type=pathlib.Path)
    p.add_argument("want", metavar="WANT", type=pathlib.Path)
    p.add_argument("got", metavar="GOT", type=pathlib.Path)
    p.add_argument("--dealt", metavar="DIR", type=pathlib.Path)
    a = p.parse_args()
    wrong = complaints(a.source, a.want, a.got, dealt_before(a.dealt) if a.dealt else None)
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len((a.want / 'dead_letters.txt').read_text().split())} letters")


if __name__ == "__main__":
    main()
