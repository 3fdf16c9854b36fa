"""The scripts of this folder held to their own promises: a check that cannot fail is no check.

    python3 -m unittest discover -s tests/oracle -p 'test_*.py'

Shape: small inputs in a temporary folder; a stand-in for the engine, which asks the oracle and then makes one mistake.

Not here: the rules themselves (`oracle.py`), the engine (`acceptance.py`).
"""
import base64, contextlib, importlib.util, io, json, os, pathlib, subprocess, sys, tempfile, unittest
from unittest import mock

import acceptance
import growing
import sealed
from deal import deal, lines_of
from letters import complaints, dealt_before

HERE = pathlib.Path(__file__).resolve().parent

# Takes the command line of the engine. MISTAKE in the environment names what it does wrong.
STAND_IN = f"""#!{sys.executable}
import argparse, base64, json, os, pathlib, subprocess, sys, tempfile
p = argparse.ArgumentParser()
p.add_argument("run"); p.add_argument("spec"); p.add_argument("--once", action="store_true"); p.add_argument("--events", nargs="+")
p.add_argument("--documents"); p.add_argument("--changes"); p.add_argument("--out", type=pathlib.Path); p.add_argument("--workers", type=int)
p.add_argument("--processes", type=int, default=1); p.add_argument("--process", type=int, default=0); p.add_argument("--hosts")
a = p.parse_args()
if a.processes > 1:  # the first one does all the work
    a.out = a.out / f"part-{{a.process}}-of-{{a.processes}}"
    a.out.mkdir()
    if a.process > 0:
        for view in ("enriched", "latest", "attendance_by_group_day", "attendance_by_teacher", "attendance_by_student", "dead_letters"):
            (a.out / f"{{view}}.ndjson").write_bytes(b"")
        sys.exit(0)
mistake = os.environ.get("MISTAKE")
if mistake == "exit":
    sys.exit(3)
places, all_lines = [], []
for file in a.events:
    for line, data in enumerate(open(file, "rb")):
        places.append((file if a.workers == 1 else pathlib.Path(file).name, line))
        all_lines.append(data.rstrip(b"\\n"))
with tempfile.TemporaryDirectory() as t:
    t = pathlib.Path(t)
    (t / "events.ndjson").write_bytes(b"".join(l + b"\\n" for l in all_lines))
    (t / "people.ndjson").write_bytes(pathlib.Path(a.documents).read_bytes())
    (t / "changes.ndjson").write_bytes(pathlib.Path(a.changes).read_bytes())
    subprocess.run([sys.executable, {str(HERE / "oracle.py")!r}, str(t), str(a.out)], check=True)
dead = [int(n) for n in (a.out / "dead_letters.txt").read_text().split()]
letters = [dict(file=places[n][0], line=places[n][1], reason="no record", column=None, bytes=base64.b64encode(all_lines[n]).decode()) for n in dead]
if mistake == "letter missing":
    letters.pop()
if mistake == "letter altered":
    letters[0]["bytes"] = base64.b64encode(base64.b64decode(letters[0]["bytes"]) + b" ").decode()
(a.out / "dead_letters.ndjson").write_text("".join(json.dumps(l) + "\\n" for l in letters))
view = a.out / (os.environ.get("VIEW", "enriched") + ".ndjson")
rows = [json.loads(l) for l in open(view, encoding="utf-8")]
if mistake == "row missing":
    rows.pop()
if mistake == "row twice":
    rows.append(rows[0])
if mistake == "row wrong":
    column = next(c for c in ("MARKS", "MARKED_BY") if c in rows[-1])
    rows[-1][column] += 1
view.write_text("".join(json.dumps(r) + "\\n" for r in reversed(rows)), encoding="utf-8")
if mistake == "view missing":
    view.unlink()
"""


class Folder(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def script(self, name, *arguments):
        return subprocess.run([sys.executable, str(HERE / name), *map(str, arguments)], capture_output=True, text=True)


class Dealing(Folder):
    def give(self, lines, keys, ended=True):
        whole = b"".join(line + b"\n" for line in lines)
        (self.folder / "events.ndjson").write_bytes(whole if ended else whole[:-1])
        (self.folder / "keys.txt").write_bytes(b"".join(key + b"\n" for key in keys))

    def test_every_line_is_dealt_once_and_order_is_kept(self):
        lines = [b"%d\r\x0b\x85" % n for n in range(200)]
        self.give(lines, [b"k%d" % (n % 17) if n % 3 else b"" for n in range(200)])
        dealt = deal(self.folder, self.folder / "dealt", 6)
        self.assertEqual(sorted(n for numbers in dealt.values() for n in numbers), list(range(200)))
        for path, numbers in dealt.items():
            self.assertEqual(numbers, sorted(numbers))
            self.assertEqual(list(lines_of(path)), [lines[n] for n in numbers])

    def test_equal_keys_share_a_file(self):
        self.give([b"%d" % n for n in range(200)], [b"k%d" % (n % 17) for n in range(200)])
        files = [{n % 17 for n in numbers} for numbers in deal(self.folder, self.folder / "dealt", 6).values()]
        self.assertEqual(sum(map(len, files)), 17)
        self.assertGreater(sum(map(bool, files)), 1)

    def test_equal_lines_without_a_key_share_a_file(self):
        self.give([b"", b"same", b"other", b"same", b""], [b""] * 5, ended=True)
        where = {n: path for path, numbers in deal(self.folder, self.folder / "dealt", 6).items() for n in numbers}
        self.assertEqual(where[1], where[3])
        self.assertEqual(where[0], where[4])

    def test_a_last_line_without_its_end_stays_so(self):
        self.give([b"a", b"b", b"c"], [b"1", b"2", b"3"], ended=False)
        dealt = deal(self.folder, self.folder / "dealt", 2)
        self.assertEqual(sum(path.read_bytes().count(b"\n") for path in dealt), 2)

    def test_no_lines_make_empty_files(self):
        self.give([], [])
        self.assertEqual([path.read_bytes() for path in deal(self.folder, self.folder / "dealt", 6)], [b""] * 6)

    def test_another_number_of_keys_is_an_error(self):
        for keys in ([b"1"], [b"1", b"2", b"3"]):
            self.give([b"a", b"b"], keys)
            with self.assertRaises(SystemExit):
                deal(self.folder, self.folder / "dealt", 6)

    def test_what_was_dealt_is_read_back(self):
        self.give([b"a", b"b", b"c"], [b"1", b"2", b"3"])
        self.assertEqual(deal(self.folder, self.folder / "dealt", 6), dealt_before(self.folder / "dealt"))


class DeadLetters(Folder):
    LINES = [b"", b"fine", b"\xff\x00\r", b"fine too", b"last"]
    DEAD = (0, 2, 4)

    def setUp(self):
        super().setUp()
        (self.folder / "events.ndjson").write_bytes(b"\n".join(self.LINES))
        (self.folder / "dead_letters.txt").write_text("".join(f"{n}\n" for n in self.DEAD))

    def letter(self, number, data=None, **more):
        return {"file": "events.ndjson", "line": number, "reason": "json", "column": None,
                "bytes": base64.b64encode(self.LINES[number] if data is None else data).decode()} | more

    def check(self, *letters, dealt=None):
        (self.folder / "dead_letters.ndjson").write_text("".join(json.dumps(l) + "\n" for l in letters))
        return "\n".join(complaints(self.folder, self.folder, self.folder, dealt))

    def right(self):
        return [self.letter(n) for n in self.DEAD]

    def test_the_right_letters_pass_in_any_order(self):
        self.assertEqual(self.check(*reversed(self.right())), "")

    def test_a_file_is_named_by_path_or_by_name(self):
        self.assertEqual(self.check(self.letter(0, file=str(self.folder / "events.ndjson")), *self.right()[1:]), "")
        self.assertIn("was not given", self.check(self.letter(0, file="other.ndjson"), *self.right()[1:]))

    def test_a_missing_letter_is_found(self):
        self.assertIn("1 lines have no letter: 2", self.check(self.letter(0), self.letter(4)))

    def test_an_altered_letter_is_found(self):
        for data in (b"\xff\x00", b"\xff\x00\r\n", b"\xef\xbf\xbd\x00\r"):
            self.assertIn("1 lines have a letter with other bytes: 2",
                self.check(self.letter(0), self.letter(2, data), self.letter(4)))

    def test_an_extra_letter_is_found(self):
        self.assertIn("1 lines have a letter and are events: 1", self.check(*self.right(), self.letter(1)))

    def test_a_letter_twice_is_found(self):
        self.assertIn("line 0 has two letters", self.check(*self.right(), self.letter(0)))

    def test_an_unfit_letter_is_found(self):
        for unfit in ({"line": 5}, {"line": -1}, {"line": "0"}, {"line": False}, {"reason": ""}, {"column": 3}, {"bytes": "%"}):
            self.assertNotEqual(self.check(self.letter(0, **unfit), *self.right()[1:]), "", unfit)

    def test_a_missing_file_is_found(self):
        self.assertIn("is missing", "\n".join(complaints(self.folder, self.folder, self.folder / "none")))

    def test_places_in_dealt_files_are_traced_back(self):
        dealt = {self.folder / "events-0.ndjson": [0, 3, 4], self.folder / "events-1.ndjson": [1, 2]}
        letters = [self.letter(0, self.LINES[0], file="events-0.ndjson"), self.letter(2, self.LINES[4], file="events-0.ndjson"),
                   self.letter(1, self.LINES[2], file="events-1.ndjson")]
        self.assertEqual(self.check(*letters, dealt=dealt), "")
        letters[2]["file"] = "events-0.ndjson"
        self.assertIn("have no letter: 2", self.check(*letters, dealt=dealt))

    def test_the_command_says_the_same(self):
        self.check(*self.right())
        self.assertEqual(self.script("letters.py", self.folder, self.folder, self.folder).stdout, "3 letters\n")
        self.check(*self.right()[1:])
        self.assertEqual(self.script("letters.py", self.folder, self.folder, self.folder).returncode, 1)


class Hostile(Folder):
    def test_the_same_arguments_give_the_same_bytes_and_the_oracle_reads_them(self):
        for seed in (1, 2):
            for out in ("a", "b"):
                done = self.script("hostile.py", self.folder / out, "--lines", 600, "--seed", seed)
                self.assertEqual(done.returncode, 0, done.stderr)
            for name in ("events.ndjson", "people.ndjson", "changes.ndjson", "keys.txt"):
                self.assertEqual((self.folder / "a" / name).read_bytes(), (self.folder / "b" / name).read_bytes())
            done = self.script("oracle.py", self.folder / "a", self.folder / "want")
            self.assertEqual(done.returncode, 0, done.stderr)
            lines, keys = list(lines_of(self.folder / "a" / "events.ndjson")), list(lines_of(self.folder / "a" / "keys.txt"))
            self.assertEqual((len(lines), len(keys)), (600, 600))
            dead = (self.folder / "want" / "dead_letters.txt").read_text().split()
            self.assertTrue(150 < len(dead) < 450,
                f"{len(dead)} of 600 lines are dead letters: most rules are tried from one side only")
            rows = (self.folder / "want" / "enriched.ndjson").read_text(encoding="utf-8").splitlines()
            self.assertGreater(sum("STUDENT_FIO" in row for row in rows), len(rows) // 3)

    def test_sizes_from_none(self):
        for lines in (0, 1, 2):
            self.assertEqual(self.script("hostile.py", self.folder, "--lines", lines, "--seed", 3).returncode, 0)
            self.assertEqual(self.script("oracle.py", self.folder, self.folder / "want").returncode, 0)
            self.assertEqual(len((self.folder / "keys.txt").read_bytes().splitlines()), lines)


class Sealed(Folder):
    """What a game without crashes leaves: 4 epochs of two shards, each with a quarter of the events and of the changes."""

    EPOCHS, SHARDS = 4, 2

    def setUp(self):
        super().setUp()
        done = self.script("generate.py", self.folder, "--events", 200, "--students", 20, "--teachers", 2, "--changes", 120, "--faults", 0.05)
        self.assertEqual(done.returncode, 0, done.stderr)
        events = list(lines_of(self.folder / "events.ndjson"))
        said = [json.loads(line) for name in ("people", "changes") for line in lines_of(self.folder / f"{name}.ndjson")]
        people = len(list(lines_of(self.folder / "people.ndjson")))
        self.topics = {
            "events": [dict(p=0, o=o, v=base64.b64encode(line).decode()) for o, line in enumerate(events)],
            "reference": [dict(o=o, k=d["_id"], v=d.get("_source")) for o, d in enumerate(said)],
            "progress": [], "enriched": [], "latest": [], "dead_letters": [],
        }
        self.kafka = self.folder / "kafka"
        self.kafka.mkdir()
        self.write()
        self.game = game = sealed.Game(self.kafka, self.SHARDS)
        self.cuts, sent = {}, {}
        for epoch in range(1, self.EPOCHS + 1):
            end = len(events) * epoch // self.EPOCHS
            cut = self.cuts[epoch] = people + (len(said) - people) * epoch // self.EPOCHS
            held = [e for record, e in game.known.values() if record["o"] < end]
            winners = {}
            for e in sorted(held, key=lambda e: sealed.place(e)[1]):
                winners[sealed.place(e)[0]] = e
            stands = [("enriched", e["ID"], e) for e in held] + [("latest", *winner) for winner in winners.items()]
            for view, key, e in stands:
                row = game.row(e, cut)
                if sent.get((view, key)) != row:
                    sent[view, key] = row
                    self.topics[view].append(dict(s=e["STUDENT_ID"] % self.SHARDS, e=epoch, v=row))
            before = len(events) * (epoch - 1) // self.EPOCHS
            self.topics["dead_letters"] += [dict(p=0, o=d["o"], e=epoch) for d in game.dead if before <= d["o"] < end]
            self.topics["progress"] += [dict(generation=1, worker=worker, of=self.SHARDS, epoch=epoch, settled=cut,
                events=dict(bounds=[[end]]), reference=dict(bounds=[[cut]])) for worker in range(self.SHARDS)]

    def write(self):
        for name, records in self.topics.items():
            (self.kafka / f"{name}.ndjson").write_text("".join(json.dumps(record) + "\n" for record in records))

    def says(self):
        self.write()
        done = self.script("sealed.py", self.kafka, "--shards", self.SHARDS)
        return done.stdout + done.stderr, done.returncode

    def changes(self, row):
        """Where what may stand in a record changes, in the order of the log."""
        return sorted(self.game.students.changes(row["STUDENT_ID"]) + self.game.teachers.changes(row["MARKED_BY"]))

    def corrected(self, view="enriched"):
        """The place of a record of which an older one shows another document, and of that one."""
        key = lambda r: r["v"]["ID"]
        records = self.topics[view]
        newer = next(n for n, r in enumerate(records) if r["e"] == self.EPOCHS and any(key(r) == key(o) for o in records[:n]))
        return newer, next(n for n, o in enumerate(records) if key(o) == key(records[newer]))

    def test_a_game_that_is_right_passes_and_is_that_of_the_rules(self):
        said, code = self.says()
        self.assertEqual(code, 0, said)
        self.assertIn("4 epochs of 4 recorded", said)
        self.assertEqual(self.script("oracle.py", self.folder, self.folder / "want").returncode, 0)
        for view, key in ("enriched", lambda r: r["ID"]), ("latest", lambda r: sealed.place({"MARKED_BY_ROLE": None} | r)[0]):
            got = {key(record["v"]): record["v"] for record in self.topics[view]}
            want = [json.loads(line) for line in lines_of(self.folder / "want" / f"{view}.ndjson")]
            self.assertEqual(got, {key(row): row for row in want})
        self.assertTrue(self.topics["dead_letters"] and self.corrected(), "nothing is refused or corrected in this game")

    def test_what_is_missing_too_early_or_wrong_is_found(self):
        def alter(name, change):
            kept = json.loads(json.dumps(self.topics))
            change(self.topics[name])
            said, code = self.says()
            self.assertEqual(code, 1, f"{name} is altered, and that is not found: {said}")
            self.topics = kept
            return said

        newest, oldest = self.corrected()
        self.assertIn("1 missing", alter("enriched", lambda records: records.pop()))
        self.assertIn("1 missing", alter("latest", lambda records: records.pop()))
        is_early = lambda v: self.changes(v)[-1] <= self.cuts[1]
        last = lambda records: next(r for r in records if is_early(r["v"]) and r["v"]["ID"] not in {o["v"]["ID"] for o in records if o["e"] < self.EPOCHS})
        self.assertIn("1 too many", alter("enriched", lambda records: last(records).update(e=1)))
        self.assertIn("was to be", alter("enriched", lambda records: records.pop(newest)))
        self.assertIn("was to be", alter("latest", lambda records: records.pop(self.corrected("latest")[0])))
        again = lambda records: records.append(records[oldest] | {"e": self.EPOCHS})
        self.assertIn("older document than before", alter("enriched", again))
        self.assertIn("dead letters", alter("dead_letters", lambda letters: letters.pop()))
        self.assertIn("two vectors", alter("progress", lambda records: records[-1]["events"].update(bounds=[[1]])))
        self.assertIn("goes from epoch 4 to 4", alter("progress", lambda records: records.append(records[-1])))

    def test_what_a_document_says_again_later_does_not_pass_for_what_it_said_before(self):
        records, log = self.topics["enriched"], self.topics["reference"]
        elder = {}
        for record in records:
            before, elder[record["v"]["ID"]] = elder.get(record["v"]["ID"]), record
            changed = self.changes(record["v"])[-1] - 1
            was = [r for r in log[:changed] if r["k"] == log[changed]["k"]]
            event = self.game.known[record["v"]["ID"]][1]
            if record["e"] == self.EPOCHS and before and was and before["v"] == self.game.row(event, changed):
                break
        else:
            self.fail("nothing is corrected last by one change of a document")
        # The document goes back to what it said before, in an epoch of its own.
        log.append(was[-1] | {"o": len(log)})
        last = self.topics["progress"][-1]
        self.topics["progress"] += [last | dict(worker=worker, epoch=self.EPOCHS + 1, settled=0, reference=dict(bounds=[[len(log)]]))
            for worker in range(self.SHARDS)]
        records.append(before | {"e": self.EPOCHS + 1})
        said, code = self.says()
        self.assertEqual(code, 0, said)
        # One that shows it after the other, within an epoch that does not hold that yet.
        records[-1]["e"] = self.EPOCHS
        said, code = self.says()
        self.assertEqual(code, 1, said)
        self.assertIn("older document than before", said)

    def test_tables_are_held_against_the_epochs_up_to_which_they_were_loaded(self):
        def show(epoch, shown_at, alter=lambda view, rows: rows):
            for view, records in self.topics.items():
                if view in ("enriched", "latest"):
                    rows = {sealed.Game.key_of(view, r["v"]): r["v"] for r in records if r["e"] <= epoch}
                    rows = [{k: v for k, v in row.items() if view == "enriched" or k != "ID"} for row in rows.values()]
                    folder = self.folder / "shown" / str(shown_at)
                    folder.mkdir(parents=True, exist_ok=True)
                    (folder / f"{view}.ndjson").write_text("".join(json.dumps(row) + "\n" for row in alter(view, rows)))
            done = self.script("sealed.py", self.kafka, "--shards", self.SHARDS, "--shown", self.folder / "shown")
            return done.stdout + done.stderr, done.returncode

        self.write()
        for epoch in range(1, self.EPOCHS + 1):
            said, code = show(epoch, epoch)
            self.assertEqual(code, 0, said)
        self.assertIn("4 epochs shown, all as the topics say, 4 of them held against one of 4 vectors", said)
        for wrong, alter in (
            ("1 missing", lambda view, rows: rows[:-1]),
            ("shown twice", lambda view, rows: [*rows, rows[0]]),
            ("was to be", lambda view, rows: [rows[0] | {"STUDENT_FIO": "?"}, *rows[1:]]),
        ):
            for name in ("enriched", "latest"):
                said, code = show(2, 2, lambda view, rows: alter(view, rows) if view == name else rows)
                self.assertEqual((code, wrong in said), (1, True), f"{wrong}, {name}: {said}")
        self.assertEqual(show(2, 2)[1], 0)
        # What is loaded no further than an epoch does not pass for the next, nor the other way round.
        self.assertEqual((show(2, 3)[1], show(3, 2)[1]), (1, 1))
        show(3, 3)
        # One that no record names has no vector, but shows what the topics say at it.
        self.topics["progress"] = [record for record in self.topics["progress"] if record["epoch"] != 2]
        self.write()
        said, code = show(2, 2)
        self.assertEqual((code, "3 of them held" in said), (0, True), said)
        for name in ("enriched", "latest"):
            said, code = show(2, 2, lambda view, rows: rows[:-1] if view == name else rows)
            self.assertEqual((code, "is None, and the topic says" in said), (1, True), said)

    def test_an_earlier_document_passes_where_it_is_owed(self):
        newest, _ = self.corrected()
        record = self.topics["enriched"].pop(newest)
        for progress in self.topics["progress"]:
            if progress["epoch"] == self.EPOCHS and progress["worker"] == record["s"]:
                progress["settled"] = len(list(lines_of(self.folder / "people.ndjson")))
        said, code = self.says()
        self.assertEqual(code, 0, said)
        self.assertNotIn(", 0 of them with an earlier document", said)


class Mutations(unittest.TestCase):
    def test_each_mutation_finds_its_text_exactly_once(self):
        project = HERE.parent.parent
        module = importlib.util.spec_from_file_location("mutations", project / "tests" / "mutations.py")
        mutations = importlib.util.module_from_spec(module)
        module.loader.exec_module(mutations)
        for rule, file, old, new in mutations.MUTATIONS:
            self.assertEqual((project / file).read_text(encoding="utf-8").count(old), 1, f"{rule}: {file}: {old!r}")
            self.assertNotEqual(old, new, rule)


class UpdateLog(Folder):
    def log(self, *lines):
        path = self.folder / "updates.ndjson"
        path.write_bytes(b"".join(lines))
        log = growing.Log(path)
        log.read()
        return log

    @staticmethod
    def update(epoch, diff, row="{}", view="latest"):
        return b'{"epoch":%d,"diff":%d,"view":"%s","row":%s}\n' % (epoch, diff, view.encode(), row.encode())

    @staticmethod
    def seal(epoch, waiting=0):
        return b'{"sealed":%d,"events":[%d],"waiting":%d}\n' % (epoch, epoch, waiting)

    def test_updates_add_up_by_view_and_row_to_an_epoch(self):
        log = self.log(self.update(1, 1, '{"A":1}'), self.update(1, 1, '{"A":1}', "enriched"), self.seal(1),
                       self.update(2, -1, '{"A":1}'), self.update(2, 1, '{"A":2}'), self.update(3, 1, '{"A":3}'), self.seal(2), b'{"seal')
        self.assertEqual(log.fold(2), {"latest": {b'{"A":2}': 1}, "enriched": {b'{"A":1}': 1}})
        self.assertEqual(log.fold(1)["latest"], {b'{"A":1}': 1})
        self.assertEqual([seal["sealed"] for seal in log.seals], [1, 2])

    def test_a_log_that_contradicts_itself_is_wrong(self):
        for said, lines in (("takes back", [self.update(1, 1), self.update(1, -1), self.update(2, -1)]),
                            ("which is sealed", [self.seal(5), self.update(5, 1)]), ("seals 4 after 5", [self.seal(5), self.seal(4)])):
            with self.assertRaisesRegex(growing.Wrong, said):
                self.log(*lines).fold(9)

    def test_a_cut_is_an_epoch_that_all_sealed_and_in_which_nothing_waits(self):
        engines = object.__new__(growing.Engines)
        one, two = [self.seal(1), self.seal(3), self.seal(5, waiting=2)], [self.seal(1), self.seal(2), self.seal(4), self.seal(6)]
        engines.logs = [self.log(*one), self.log(*two)]
        self.assertEqual(engines.settled(), (4, {"sealed": 4, "events": [4], "waiting": 0}))
        engines.logs = [self.log(*one), self.log()]
        self.assertIsNone(engines.settled())


class Acceptance(Folder):
    CASE = acceptance.Case(seed=5, events=200, faults=0.2, changes=20, students=30, teachers=5)

    def setUp(self):
        super().setUp()
        self.accepted = set()
        self.bin, self.spec = self.folder / "stand-in", self.folder / "attendance.toml"
        self.bin.write_text(STAND_IN)
        self.bin.chmod(0o755)
        self.spec.write_text("")

    def verdict(self, mistake=None, view="enriched", workers=1, files=6, processes=1, seconds_max=60):
        a = acceptance.options(["--sample", "--bin", str(self.bin), "--spec", str(self.spec), "--seconds-max",
            str(seconds_max)])
        if not (self.folder / "want").exists():
            self.assertIsNone(acceptance.prepare(self.CASE, self.folder)[1])
        with mock.patch.dict(os.environ, {"MISTAKE": mistake or "", "VIEW": view}):
            return "\n".join(acceptance.variant(a, self.folder, acceptance.Variant(workers, files, processes), self.accepted).wrong)

    def test_an_engine_that_is_right_passes(self):
        for workers, files in ((1, 1), (1, 6), (2, 1), (4, 6)):
            self.assertEqual(self.verdict(workers=workers, files=files), "")

    def test_a_wrong_row_is_found_in_every_view(self):
        for view, mistake in [(view, "row wrong") for view in acceptance.VIEWS] + [("latest", m) for m in ("row missing",
            "row twice", "view missing")]:
            wrong = self.verdict(mistake, view)
            self.assertIn(view, wrong, mistake)
            self.assertIn("to see it again", wrong)

    def test_rows_that_were_right_before_do_not_hide_wrong_ones(self):
        self.assertEqual(self.verdict(), "")
        self.assertEqual({view for view, _ in self.accepted}, set(acceptance.VIEWS))
        for mistake in ("row wrong", "row twice", "row missing"):
            self.assertIn("latest", self.verdict(mistake, "latest", files=1))
        with mock.patch.object(acceptance, "script", side_effect=AssertionError("compared once more")):
            self.assertEqual(self.verdict(files=1), "")

    def test_a_wrong_letter_is_found(self):
        self.assertIn("have no letter", self.verdict("letter missing"))
        self.assertIn("other bytes", self.verdict("letter altered", files=1))

    def test_an_exit_code_and_a_run_without_end_are_failures(self):
        self.assertIn("exit code 3", self.verdict("exit"))
        self.assertIn("no end after 0.001 s", self.verdict(seconds_max=0.001))

    def test_a_missing_engine_is_told_with_its_remedy(self):
        with self.assertRaisesRegex(SystemExit, "build it first: cargo build --release"):
            acceptance.options(["--sample", "--bin", str(self.folder / "none"), "--spec", str(self.spec)])

    def test_processes_are_run_side_by_side_and_their_parts_joined(self):
        self.assertEqual(self.verdict(workers=2, processes=2), "")
        self.assertIn("latest", self.verdict("row wrong", "latest", workers=2, processes=2))
        self.assertIn("exit code 3", self.verdict("exit", processes=2))

    def test_a_seed_fixes_the_cases(self):
        for cases in (acceptance.sample, acceptance.whole):
            self.assertEqual(cases(7), cases(7))
            self.assertNotEqual(cases(7), cases(8))

    def test_the_cases_cover_what_they_promise(self):
        self.assertEqual({c.events for c in acceptance.sample(1) if not c.hostile}, {0, 1, 300, 5000, 20_000})
        self.assertEqual({c.faults for c in acceptance.sample(1)}, set(acceptance.FAULTS))
        for seed in range(20):
            cases = acceptance.whole(seed)
            plain, hostile = [c for c in cases if not c.hostile], [c for c in cases if c.hostile]
            self.assertEqual((len(plain), len(hostile)), (30, 10))
            self.assertEqual((sum(c.events == 300_000 for c in plain), {c.events for c in hostile}), (3, {20_000}))
            self.assertTrue(any(c.events == 0 for c in plain))
            self.assertEqual({c.faults for c in plain}, set(acceptance.FAULTS))
            for c in plain:
                self.assertTrue(0 <= c.events <= 300_000 and 0 <= c.changes <= 5000 and 2 <= c.students <= 12_000 and 1 <= c.teachers <= 434, c)

    def test_a_run_ends_with_its_sum_and_writes_its_table(self):
        report = self.folder / "table.md"
        arguments = ["--sample", "--bin", str(self.bin), "--spec", str(self.spec), "--seed", "1", "--table", str(report),
            "--keep", str(self.folder / "kept")]
        for mistake, end in (("", "6 passed, 0 failed"), ("row wrong", "0 passed, 6 failed")):
            said = io.StringIO()
            with (mock.patch.object(acceptance, "sample", lambda seed: [self.CASE]),
                mock.patch.object(acceptance, "VARIANTS", [v for v in acceptance.VARIANTS if v.processes == 1 and not v.follow]),
                mock.patch.dict(os.environ, {"MISTAKE": mistake}),
                  contextlib.redirect_stdout(said)):
                code = acceptance.main(arguments)
            self.assertEqual((code, said.getvalue().splitlines()[-1]), (bool(mistake), end))
            self.assertIn("FAILED" if mistake else "ok ", report.read_text())


if __name__ == "__main__":
    unittest.main()
