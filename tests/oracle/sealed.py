#!/usr/bin/env python3
"""Holds what stood in the topics at sealed epochs against the rules, by the inputs up to the recorded vectors (P5).

    sealed.py DIR [--epochs 10] [--seed 1]

DIR holds what a game left in Kafka, in the order of each partition, a JSON object a line:
  events.ndjson          p, o (partition, offset), v (the value, base64)
  reference.ndjson       o, k, v (the document; null once it is gone)
  progress.ndjson        the progress records
  enriched.ndjson, latest.ndjson   s (shard), e (epoch), v (the record)
  dead_letters.ndjson    p, o (of the event), e

At each of so many epochs, drawn among those that a progress record names, the newest record of each key is to be the one that the
rules make of the events and the reference log up to the epoch's vector. Where corrections were being spread, a record may show what
the reference said anywhere from the `settled` of its shard on. That all shards name the same vector for an epoch, whatever start
they belong to, is looked at for every epoch.
"""
import argparse, base64, bisect, json, pathlib, random, sys
from datetime import date
import oracle


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def enriched(e, student, teacher):
    """The record of an event, as oracle.py makes it: with its student and teacher, each as columns and birth date."""
    day = date.fromisoformat(e["DATE_CREATE"][:10])
    row = dict(e)
    if student:
        fields, birth = student
        row |= fields | {"STUDENT_AGE": oracle.age(birth, day)}
    if teacher and e["MARKED_BY_ROLE"] in oracle.TEACHING_ROLES:
        fields, birth = teacher
        row |= fields | {"TEACHER_AGE": oracle.age(birth, day)}
    return {k: v for k, v in row.items() if v is not None}


def place(e):
    """Where an event stands among the latest: its key there, and what the greatest of decides."""
    key = (e["JOURNAL_ID"], e["STUDENT_ID"], e["LESSON_ID"], e["LESSON_DATE"])
    return key, (e["DATE_CREATE"], -1 if e["MARKED_BY_ROLE"] is None else e["MARKED_BY_ROLE"], e["ID"])


class History:
    """What the reference said of each number of one kind of person, from which offset of the log on."""

    def __init__(self, log, kind, key, row):
        people, holders, self.of = {}, {}, {}
        number = lambda d: oracle.number(oracle.at(d, "PERSONAL", key), 2**32 - 1) if oracle.at(d, "PERSONAL", "type") == kind else None
        for record in log:
            name, document = record["k"], record["v"]
            before, now = number(people.get(name, {})), number(document or {})
            if before:
                holders[before].discard(name)
            people[name] = document or {}
            if now:
                holders.setdefault(now, set()).add(name)
            for n in {before, now} - {None, 0}:
                first = min(holders[n], default=None)
                said = first and (row(people[first]), oracle.born(people[first]))
                versions = self.of.setdefault(n, [(0, None)])
                if versions[-1][1] != said:
                    versions.append((record["o"] + 1, said))

    def at(self, n, cut):
        versions = self.of.get(n, [(0, None)])
        return versions[bisect.bisect_right(versions, cut, key=lambda v: v[0]) - 1][1]

    def cuts(self, n, since, until):
        return [cut for cut, _ in self.of.get(n, []) if since < cut <= until]


class Game:
    def __init__(self, folder):
        self.events = lines(folder / "events.ndjson")
        log = [r for r in lines(folder / "reference.ndjson") if not r["k"].endswith(":")]
        self.students = History(log, "student", "BITRIX_USER_ID", oracle.student_row)
        self.teachers = History(log, "employee", "ID_DECANAT", oracle.teacher_row)
        self.progress = lines(folder / "progress.ndjson")
        self.views = {view: lines(folder / f"{view}.ndjson") for view in ("enriched", "latest")}
        self.letters = lines(folder / "dead_letters.ndjson")
        # Each event is read once, in the order of its partition; what it is does not depend on the cut.
        self.known, self.dead = {}, []
        for record in self.events:
            try:
                e = oracle.read_event(base64.b64decode(record["v"]))
                if self.known.setdefault(e["ID"], (record, e))[1] != e:
                    raise oracle.Malformed("ID taken by another click")
            except oracle.Malformed:
                self.dead.append(record)

    def vectors(self):
        """By epoch, up to where it holds the events and the reference log."""
        found = {}
        for record in self.progress:
            bounds = [bound[0] for bound in record["events"]["bounds"]]
            vector = (bounds, record["reference"]["bounds"][0][0])
            if found.setdefault(record["epoch"], vector) != vector:
                sys.exit(f"epoch {record['epoch']} has two vectors: {vector} and {found[record['epoch']]}")
        return found

    def settled(self, epoch, shards):
        """By shard, what it owed nothing below when the epoch was sealed, or before."""
        best = [(0, 0)] * shards
        for record in self.progress:
            if record["epoch"] <= epoch:
                for shard in range(record["worker"], shards, record["of"]):
                    if best[shard][0] <= record["epoch"]:
                        best[shard] = (record["epoch"], record["settled"])
        return [settled for _, settled in best]

    def row(self, e, cut):
        return enriched(e, self.students.at(e["STUDENT_ID"], cut), self.teachers.at(e["MARKED_BY"], cut))

    def judge(self, epoch, bounds, until, shards):
        """What differs at an epoch; returns how many records were looked at, and how many showed an earlier document."""
        settled, looked, earlier = self.settled(epoch, shards), 0, 0
        held = [e for record, e in self.known.values() if record["o"] < bounds[record["p"]]]
        winners = {}
        for e in held:
            key, rank = place(e)
            if key not in winners or winners[key][0] < rank:
                winners[key] = (rank, e)
        want = {"enriched": {e["ID"]: e for e in held}, "latest": {key: e for key, (_, e) in winners.items()}}
        for view, records in self.views.items():
            key_of = (lambda row: row["ID"]) if view == "enriched" else (lambda row: place({"MARKED_BY_ROLE": None} | row)[0])
            got = {key_of(record["v"]): record for record in records if record["e"] <= epoch}
            if got.keys() != want[view].keys():
                missing, extra = want[view].keys() - got.keys(), got.keys() - want[view].keys()
                sys.exit(f"{view} at epoch {epoch}: {len(missing)} missing, {len(extra)} too many: {[*missing][:3]} {[*extra][:3]}")
            for key, e in want[view].items():
                looked += 1
                shown, since = got[key]["v"], settled[got[key]["s"]]
                if shown == self.row(e, until):
                    continue
                cuts = {since, *self.students.cuts(e["STUDENT_ID"], since, until), *self.teachers.cuts(e["MARKED_BY"], since, until)}
                if not any(shown == self.row(e, cut) for cut in cuts if cut <= until):
                    sys.exit(f"{view} at epoch {epoch}, settled {since}, bound {until}: {key} is {shown}, and was to be {self.row(e, until)}")
                earlier += 1
        dead = {(r["p"], r["o"]) for r in self.dead if r["o"] < bounds[r["p"]]}
        letters = {(r["p"], r["o"]) for r in self.letters if r["e"] <= epoch}
        if dead != letters:
            sys.exit(f"dead letters at epoch {epoch}: {len(letters)}, and {len(dead)} malformed events")
        return looked, earlier


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--shards", type=int, default=64)
    a = p.parse_args()
    game = Game(a.folder)
    vectors = game.vectors()
    drawn = sorted(random.Random(a.seed).sample(sorted(vectors), min(a.epochs, len(vectors))))
    looked = earlier = 0
    for epoch in drawn:
        some = game.judge(epoch, *vectors[epoch], a.shards)
        looked, earlier = looked + some[0], earlier + some[1]
    print(f"{len(drawn)} epochs of {len(vectors)} recorded: {looked} records as they were to be, {earlier} of them with an earlier document")


if __name__ == "__main__":
    main()
