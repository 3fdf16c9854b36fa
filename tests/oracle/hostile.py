#!/usr/bin/env python3
"""Input in which nearly every line attacks the decoder, to the letter of the rules in README.md.

    hostile.py OUT --lines 20000 --seed 1

Shape: writes OUT/events.ndjson, people.ndjson, changes.ndjson and keys.txt, as generate.py does; keys.txt holds the ID in lower
case where the line is an event by the oracle's rules, and nothing where it is none.

Invariants: the same arguments give the same bytes. Every document has a number of its own and an event that names it, every
event an ID of its own unless it repeats one: whatever is read differently, by a byte, shows in the outputs. `after` of a change
is nonsense on purpose: the order in the file counts.
"""
import argparse, pathlib, random

from hostile_documents import FIRST_NUMBER, Units
from hostile_events import HOT, Desk
from oracle import Malformed, read_event

LINES_A_UNIT = 5  # lines of events for each number under attack: most lines are left for attacks on the columns


def documents(r, count):
    """The lines of people.ndjson and of changes.ndjson, and the events that show them."""
    units, rows, events = Units(r), [], []

    def place(lines):  # anywhere, but the lines of a unit in their order
        spots = sorted(r.random() for _ in lines)
        rows.extend((spot, len(rows) + n, name, line) for n, (spot, (name, line)) in enumerate(zip(spots, lines)))
    for number in range(FIRST_NUMBER, FIRST_NUMBER + count):
        lines, shown = units.unit(number)
        place(lines)
        events += shown
    for number in HOT:
        rows.extend((-1, len(rows) + n, name, line) for n, (name, line) in enumerate(units.hot(number, first=True)))
        for _ in range(r.choice((0, 1, 3))):
            place(units.hot(number, first=False))
    rows.sort()
    return [line for *_, name, line in rows if name == "people"], [line for *_, name, line in rows if name == "changes"], events


def key(line):
    try:
        return read_event(line)["ID"].encode()
    except Malformed:
        return b""


def write(path, lines, ended):
    """Lines of any bytes but a newline; the last one with or without its end."""
    whole = b"".join(line + b"\n" for line in lines)
    path.write_bytes(whole if ended or not lines or not lines[-1] else whole[:-1])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=pathlib.Path)
    p.add_argument("--lines", type=int, default=20_000, help="lines of events.ndjson")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    if a.lines < 0:
        p.error("--lines is a number of lines, 0 or more")
    r = random.Random(a.seed)
    a.out.mkdir(parents=True, exist_ok=True)

    count = 3 + a.lines // LINES_A_UNIT
    people, changes, shown = documents(r, count)
    desk = Desk(r, range(FIRST_NUMBER, FIRST_NUMBER + count))
    r.shuffle(shown)
    shown = shown[:a.lines]
    probe = [True] * len(shown) + [False] * (a.lines - len(shown))
    r.shuffle(probe)
    events = [desk.probe(shown.pop()) if p else desk.attack() for p in probe]

    write(a.out / "people.ndjson", people, ended=r.random() < 0.7)
    write(a.out / "changes.ndjson", changes, ended=r.random() < 0.7)
    write(a.out / "events.ndjson", events, ended=r.random() < 0.7)
    (a.out / "keys.txt").write_bytes(b"".join(key(line) + b"\n" for line in events))
    print(f"{len(events)} event lines, {len(people)} people, {len(changes)} changes")


if __name__ == "__main__":
    main()
