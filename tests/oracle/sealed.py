#!/usr/bin/env python3
"""Holds what stood in the topics at sealed epochs against the rules, by the inputs up to the recorded vectors (P5).

    sealed.py DIR [--epochs 10] [--seed 1]
    sealed.py DIR --shown SHOWN

DIR holds what a game left in Kafka, in the order of each partition, a JSON object a line:
  events.ndjson          p, o (partition, offset), v (the value, base64)
  reference.ndjson       o, k, v (the document; null once it is gone)
  progress.ndjson        the progress records
  enriched.ndjson, latest.ndjson   s (shard), e (epoch), v (the record)
  dead_letters.ndjson    p, o (of the event), e

At each of so many epochs, drawn among those that a progress record names, and at the last, the newest record of each key of a shard
is to be the one that the rules make of the events and the reference log up to the epoch's vector. A shard that a crash kept from an epoch, and that the
next start brought past it, stands there where it stood before. Where corrections were being spread, a record may show what the
reference said anywhere from the `settled` of its shard on. That all shards name the same vector for an epoch, whatever start they
belong to, is looked at for every epoch; that the epochs of a writer strictly grow, for every record of the progress; and of so many
keys (--keys), drawn too, that no record ever shows an older document than the one before it.

SHOWN holds what tables showed that were loaded up to some epochs, and no further: SHOWN/EPOCH/enriched.ndjson and latest.ndjson, a
row a line. Any epoch may be named. Each is to be what the topics say at it; and what the rules make of the inputs up to the vector of
the last recorded epoch before it, unless a record bears an epoch between the two: a transaction records the last of its epochs alone.
"""
import argparse, base64, bisect, json, pathlib, random, sys
from datetime import date
import oracle


def each(path):
    with open(path, encoding="utf-8") as f:
        for line in f:
            yield json.loads(line)


def lines(path):
    return list(each(path))


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

    def changes(self, n):
        return [cut for cut, _ in self.of.get(n, [(0, None)])]

    def cuts(self, n, since, until):
        return [cut for cut, _ in self.of.get(n, []) if since < cut <= until]


class Game:
    def __init__(self, folder, shards):
        self.shards = shards
        log = [r for r in lines(folder / "reference.ndjson") if not r["k"].endswith(":")]
        self.students = History(log, "student", "BITRIX_USER_ID", oracle.student_row)
        self.teachers = History(log, "employee", "ID_DECANAT", oracle.teacher_row)
        self.progress = lines(folder / "progress.ndjson")
        self.views, shard_of = {}, {}
        for view in ("enriched", "latest"):
            self.views[view] = [[] for _ in range(shards)]
            for record in lines(folder / f"{view}.ndjson"):
                self.views[view][record["s"]].append(record)
                shard_of[record["v"]["STUDENT_ID"]] = record["s"]
        self.shard_of = shard_of
        self.letters = lines(folder / "dead_letters.ndjson")
        # Each event is read once, in the order of its partition; what it is does not depend on the cut.
        self.known, self.dead = {}, []
        for record in each(folder / "events.ndjson"):
            try:
                e = oracle.read_event(base64.b64decode(record.pop("v")))
                if self.known.setdefault(e["ID"], (record, e))[1] != e:
                    raise oracle.Malformed("ID taken by another click")
            except oracle.Malformed:
                self.dead.append(record)
        self.of_shard = [[] for _ in range(shards)]
        for record, e in self.known.values():
            # Of a student without a record something is missing: any shard will say so.
            self.of_shard[shard_of.get(e["STUDENT_ID"], 0)].append((record, e))

    def vectors(self):
        """By epoch, up to where it holds the events and the reference log."""
        found = {}
        for record in self.progress:
            bounds = [bound[0] for bound in record["events"]["bounds"]]
            vector = (bounds, record["reference"]["bounds"][0][0])
            if found.setdefault(record["epoch"], vector) != vector:
                sys.exit(f"epoch {record['epoch']} has two vectors: {vector} and {found[record['epoch']]}")
        return found

    def grows(self):
        """That each writer's epochs strictly grow."""
        last = {}
        for record in self.progress:
            writer = record["generation"], record["worker"]
            if record["epoch"] <= last.get(writer, 0):
                sys.exit(f"writer {writer} goes from epoch {last[writer]} to {record['epoch']}")
            last[writer] = record["epoch"]

    def ages(self, keys, dice, vectors):
        """That of keys that are drawn no record shows an older document than the one before it, nor one that its epoch does not hold;
        says how many records were looked at."""
        looked, epochs = 0, sorted(vectors)
        for view, shards in self.views.items():
            of_key = {}
            for record in (record for shard in shards for record in shard):
                of_key.setdefault(self.key_of(view, record["v"]), []).append(record)
            for key in dice.sample(list(of_key), min(keys, len(of_key))):
                shown_cut = 0
                for record in of_key[key]:
                    # A document that comes back is not the one that was there before, so what a record can show ends with its epoch.
                    until = vectors[epochs[bisect.bisect_left(epochs, record["e"])]][1]
                    e = self.known[record["v"]["ID"]][1]
                    changes = {shown_cut, *self.students.changes(e["STUDENT_ID"]), *self.teachers.changes(e["MARKED_BY"])}
                    cuts = (cut for cut in sorted(changes) if shown_cut <= cut <= until and record["v"] == self.row(e, cut))
                    cut = next(cuts, None)
                    if cut is None:
                        sys.exit(f"{view}: {key} at epoch {record['e']} shows an older document than before, or none that its epoch holds: {record['v']}")
                    shown_cut, looked = cut, looked + 1
        return looked

    def chain(self, generation):
        """The epochs at which some shard was when a start began: it goes from one to the next, and through none between."""
        last = {}
        for record in self.progress:
            if record["generation"] < generation:
                for shard in range(record["worker"], self.shards, record["of"]):
                    last[shard] = max(last.get(shard, 0), record["epoch"])
        return set(last.values())

    def stands(self, shard, epoch, vectors):
        """Where a shard stands at an epoch: the vector, and what it then owed nothing below."""
        before, after = None, None
        for record in self.progress:
            if shard % record["of"] == record["worker"]:
                if record["epoch"] <= epoch and (not before or before["epoch"] <= record["epoch"]):
                    before = record
                if record["epoch"] >= epoch and not after:
                    after = record
        settled = before["settled"] if before else 0
        if not after:
            return vectors[before["epoch"]], settled  # nothing more came to it
        sealers = {record["generation"] for record in self.progress if record["epoch"] == epoch}
        if after["generation"] not in sealers:
            epoch = max((one for one in self.chain(after["generation"]) if one <= epoch), default=0)
        return vectors.get(epoch, ([0] * len(after["events"]["bounds"]), 0)), settled

    def row(self, e, cut):
        return enriched(e, self.students.at(e["STUDENT_ID"], cut), self.teachers.at(e["MARKED_BY"], cut))

    @staticmethod
    def key_of(view, row):
        return row["ID"] if view == "enriched" else place({"MARKED_BY_ROLE": None} | row)[0]

    def topics(self, epoch):
        """What the topics say at an epoch: by view and shard, the newest record of each key."""
        return {view: [{self.key_of(view, r["v"]): r["v"] for r in shard if r["e"] <= epoch} for shard in shards]
                for view, shards in self.views.items()}

    def tables(self, folder):
        """What tables showed, in the same form."""
        shown = {}
        for view in self.views:
            shown[view] = [{} for _ in range(self.shards)]
            for row in lines(folder / f"{view}.ndjson"):
                # The view of the latest marks has no ID.
                key = self.key_of(view, {"ID": None} | row)
                if shown[view][self.shard_of.get(row["STUDENT_ID"], 0)].setdefault(key, row) is not row:
                    sys.exit(f"{folder}, {view}: {key} is shown twice")
        return shown

    def is_recorded(self, epoch, last):
        """Whether nothing came between the last recorded epoch and this one."""
        of_records = (r["e"] for shards in self.views.values() for shard in shards for r in shard)
        return not any(last < e <= epoch for e in (*of_records, *(r["e"] for r in self.letters)))

    def judge_shown(self, epoch, vectors, folder):
        """Judges what tables showed that were loaded up to an epoch."""
        shown, said = self.tables(folder), self.topics(epoch)
        last = max((e for e in vectors if e <= epoch), default=None)
        judged = self.judge(last, vectors, shown) if last and self.is_recorded(epoch, last) else None
        for view in self.views:
            for shard in range(self.shards):
                rows = said[view][shard]
                if view == "latest":  # of which the ID is not shown
                    rows = {key: {name: value for name, value in row.items() if name != "ID"} for key, row in rows.items()}
                if (has := shown[view][shard]) != rows:
                    key = next(key for key in has.keys() | rows.keys() if has.get(key) != rows.get(key))
                    sys.exit(f"epoch {epoch}, shard {shard}, {view}: {key} is {has.get(key)}, and the topic says {rows.get(key)}")
        return judged

    def differs(self, shown, shard, epoch, bounds, until, settled):
        """What differs in a shard, as text; else how many records were looked at, and how many showed an earlier document."""
        looked, earlier = 0, 0
        held = [e for record, e in self.of_shard[shard] if record["o"] < bounds[record["p"]]]
        winners = {}
        for e in held:
            key, rank = place(e)
            if key not in winners or winners[key][0] < rank:
                winners[key] = (rank, e)
        want = {"enriched": {e["ID"]: e for e in held}, "latest": {key: e for key, (_, e) in winners.items()}}
        for view in self.views:
            got = shown[view][shard]
            if got.keys() != want[view].keys():
                missing, extra = want[view].keys() - got.keys(), got.keys() - want[view].keys()
                return f"{view}: {len(missing)} missing, {len(extra)} too many: {[*missing][:3]} {[*extra][:3]}"
            for key, e in want[view].items():
                looked += 1
                row = got[key] if "ID" in got[key] else got[key] | {"ID": e["ID"]}
                if row == self.row(e, until):
                    continue
                cuts = {settled, *self.students.cuts(e["STUDENT_ID"], settled, until), *self.teachers.cuts(e["MARKED_BY"], settled, until)}
                if not any(row == self.row(e, cut) for cut in cuts if cut <= until):
                    return f"{view}, settled {settled}, bound {until}: {key} is {row}, and was to be {self.row(e, until)}"
                earlier += 1
        mine = lambda r: r["p"] % self.shards == shard
        dead = {(r["p"], r["o"]) for r in self.dead if mine(r) and r["o"] < bounds[r["p"]]}
        letters = {(r["p"], r["o"]) for r in self.letters if mine(r) and r["e"] <= epoch}
        if dead != letters:
            return f"{len(letters)} dead letters, and {len(dead)} malformed events"
        return looked, earlier

    def judge(self, epoch, vectors, shown):
        looked = earlier = behind = 0
        for shard in range(self.shards):
            vector, settled = self.stands(shard, epoch, vectors)
            found = self.differs(shown, shard, epoch, *vector, settled)
            if isinstance(found, str):
                sys.exit(f"epoch {epoch}, shard {shard}: {found}")
            looked, earlier, behind = looked + found[0], earlier + found[1], behind + (vector != vectors[epoch])
        return looked, earlier, behind


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--keys", type=int, default=2_000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--shards", type=int, default=64)
    p.add_argument("--shown", type=pathlib.Path)
    a = p.parse_args()
    game = Game(a.folder, a.shards)
    vectors = game.vectors()
    if a.shown:
        epochs = sorted(int(path.name) for path in a.shown.iterdir())
        judged = [found for epoch in epochs if (found := game.judge_shown(epoch, vectors, a.shown / str(epoch)))]
        if not judged:
            sys.exit(f"none of {len(epochs)} epochs can be held against a vector")
        looked, earlier, behind = map(sum, zip(*judged))
        print(f"{len(epochs)} epochs shown, all as the topics say, {len(judged)} of them held against one of {len(vectors)} vectors: {looked} "
              f"rows as they were to be, {earlier} of them with an earlier document, {behind} of {len(judged) * a.shards} shards at an "
              f"earlier vector")
        return
    dice = random.Random(a.seed)
    drawn = sorted({*dice.sample(sorted(vectors), min(a.epochs, len(vectors))), max(vectors)})
    game.grows()
    followed = game.ages(a.keys, dice, vectors)
    looked, earlier, behind = map(sum, zip(*(game.judge(epoch, vectors, game.topics(epoch)) for epoch in drawn)))
    print(f"{len(drawn)} epochs of {len(vectors)} recorded: {looked} records as they were to be, {earlier} of them with an earlier document, "
          f"{behind} of {len(drawn) * a.shards} shards at an earlier vector; {followed} records never older than the one before")


if __name__ == "__main__":
    main()
