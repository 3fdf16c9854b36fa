#!/usr/bin/env python3
"""Break each rule of the engine on purpose, and show that a test turns red.

    tests/mutations.py [--only WORD] [--from N] [--list]

Each mutation replaces one text in one file of a copy of the project, builds it, and runs the tests: first the unit
tests, the scripts of the dataflow and its agreement with the stock one, then the tests of growing files and of clusters, and
where those stay green the sample of the acceptance with its hostile input. A mutation that does not build, or whose text does
not stand exactly once, is a fault of this list. About a minute a mutation.

Exit 0 and 'N passed, 0 failed' if every mutation was noticed; a mutation that nothing notices is a rule without a test.
"""
import argparse, os, pathlib, shutil, subprocess, sys, tempfile

PROJECT = pathlib.Path(__file__).resolve().parent.parent
SPEC = "dataflows/attendance.toml"

# (the rule that is broken, file, what stands there, what stands there instead)
MUTATIONS = [
    # rule 1: events
    ("65 levels are not too deep", "src/row/json.rs", "if depth > depth_max {", "if depth > depth_max + 1 {"),
    ("an event of the greatest length is too long", "src/source/decode.rs", "event.len() > self.spec.events.bytes_max", "event.len() >= self.spec.events.bytes_max"),
    ("-0 is an integer", "src/row/kind.rs", 'written != "-0"', 'written != "-00"'),
    ("the short cut takes 007 as a number", "src/source/fast.rs", "(digits > 1 || negative)", "negative"),
    ("the short cut takes a key twice", "src/source/fast.rs", "if seen & 1 << column != 0 {", "if seen & 1 << column != 0 && column > 70 {"),
    ("21 digits of text are an integer", "src/row/kind.rs", "const DIGITS_MAX: usize = 20;", "const DIGITS_MAX: usize = 21;"),
    ("of a key that stands twice the first counts", "src/source/decode.rs", "tokens[place] = Some(token);", "tokens[place].get_or_insert(token);"),
    ("null is a value", "src/source/decode.rs", 'token.get() != "null"', 'token.get() != "nil"'),
    ("a missing column is no fault", "src/source/decode.rs", "None if column.optional => {}", "None if column.optional || id.0 > 3 => {}"),
    ("second 60 is real", "src/time.rs", "second > 59", "second > 60"),
    ("a fraction may be empty", "src/time.rs", "fraction.is_empty() || fraction.len() > 6", "fraction.len() > 6"),
    ("a UUID needs no hyphens", "src/row/kind.rs", "if text.len() != uuid::fmt::Hyphenated::LENGTH {", "if text.len() > uuid::fmt::Hyphenated::LENGTH {"),
    ("a mark of 6 is one", SPEC, 'range = "0..5"', 'range = "0..6"'),
    ("the year 2150 is in range", SPEC, "2015-01-01..2149-12-31", "2015-01-01..2150-12-31"),
    # rule 2: dead letters
    ("a dead letter says the next line", "src/source/file.rs", "take(Record { offset,", "take(Record { offset: offset + 1,"),
    ("a dead letter holds half of its event", "src/engine/worker.rs", "bytes[..size.min(*letter_bytes)].into()", "bytes[..size / 2].into()"),
    # rule 3: duplicates
    ("an equal copy is a dead letter", "src/dataflow/dedupe.rs", "if same { Verdict::Repeats }", "if same && row.is_empty() { Verdict::Repeats }"),
    ("an event under a taken key stands too", "src/dataflow/dedupe.rs", "else { Verdict::Taken }", "else { Verdict::Stands }"),
    # rule 4: the reference
    ("the greatest _id has a number", "src/dataflow/fused/documents.rs", "entry.claims.first()", "entry.claims.last()"),
    ("half a surrogate pair is text", "src/reference/document.rs", "has_surrogate_escape(object) &&", "object.is_empty() && has_surrogate_escape(object) &&"),
    ("a null op is an index", "src/reference/document.rs", "        None => \"index\".into(),", "        None => \"index\".into(),\n        Some(token) if token.get() == \"null\" => \"index\".into(),"),
    ("what a document said before stands too", "src/reference/mod.rs", "take(claim, -1)", "take(claim, 0)"),
    ("empty text is a value", "src/reference/project.rs", '"null" | "\\"\\""', '"null" | "nil"'),
    ("an integer beyond its range is a value", "src/reference/project.rs", "(low..=high).contains(&number)", "(low..=high).contains(&number) || *number > 0"),
    ("the number 0 is somebody's", SPEC, 'PERSONAL.ID_DECANAT", range = "1..4294967295"', 'PERSONAL.ID_DECANAT", range = "0..4294967295"'),
    # rule 5: enriched records
    ("a document shows where nobody asked for it", "src/dataflow/fused/state/mod.rs", "if !spec.asks(lookup, event) {", "if event.is_empty() && !spec.asks(lookup, event) {"),
    ("a document that goes leaves its columns behind", "src/dataflow/fused/documents.rs", "if says(&held.document) != says(&holder) {", "if holder.is_some() && says(&held.document) != says(&holder) {"),
    ("the deanery's number is not looked up", SPEC, "in = [2, 3]", "in = [2]"),
    ("a birthday counts from the day after", "src/time.rs", "(later.month(), later.day()) < (self.month(), self.day())", "(later.month(), later.day()) <= (self.month(), self.day())"),
    ("an age of 151 is one", SPEC, 'STUDENT_AGE          = { type = "years", path = "PERSONAL.birthdate", until = "DATE_CREATE", range = "0..150" }', 'STUDENT_AGE          = { type = "years", path = "PERSONAL.birthdate", until = "DATE_CREATE", range = "0..151" }'),
    ("the last of several paths counts", "src/reference/project.rs", "let mut values = tokens.filter_map(|token| read(kind, column.form, token));\n        if let Some(value) = values.next() {", "let values = tokens.filter_map(|token| read(kind, column.form, token));\n        if let Some(value) = values.last() {"),
    # rule 6: corrections
    ("a change of a teacher corrects nothing", "src/reference/mod.rs", "if before != after {", "if before != after && (before.is_empty() || before[0].lookup.0 == 0) {"),
    ("a correction does not reach the latest mark", "src/dataflow/fused/state/mod.rs", "if slab.word(row, word) & bit != 0 {", "if slab.word(row, word) & bit == 0 {"),
    ("a corrected row is corrected from what it never said", "src/dataflow/fused/state/mod.rs", "self.slab.set_word(row, self.header.sent(place), new.0);", ""),
    ("only the newest row of a document is corrected", "src/dataflow/fused/state/mod.rs", "entry.next_to_correct = older.filter(|older| self.slab.has(*older));", "entry.next_to_correct = older.filter(|_| false);"),
    # rule 7: the latest mark
    ("the earliest mark is the latest", "src/dataflow/fused/state/mod.rs", "then_with(by_rest).is_le()", "then_with(by_rest).is_ge()"),
    ("the role does not break a tie", SPEC, 'order = ["DATE_CREATE", "MARKED_BY_ROLE", "ID"]', 'order = ["DATE_CREATE", "ID"]'),
    ("no role is the highest", "src/row/columns.rs", "let by_presence = part.is_present(a).cmp(&part.is_present(b));", "let by_presence = part.is_present(b).cmp(&part.is_present(a));"),
    # rule 8: counts
    ("a condition counts what it should not", "src/dataflow/count.rs", "is_none_or(|when| spec.holds(when, record))", "is_none_or(|when| !spec.holds(when, record))"),
    ("retracted marks still count", "src/dataflow/count.rs", "*sum += times;", "*sum += times.max(0);"),
    # files that grow
    ("an epoch is sealed before all workers have written it", "src/sink/update_log.rs", "if !frontier.has_sealed(epoch) {", "if !frontier.has_sealed(epoch.saturating_sub(1)) {"),
    ("a line that is not whole is a line", "src/source/lines.rs", "if self.at_end == AtEnd::Follow {", "if self.at_end == AtEnd::Follow && self.begun == 0 {"),
    ("a seal names a line too many", "src/engine/follow/mod.rs", "reached.bound);", "(reached.bound.offset + 1).into());"),
    ("what stood there is not taken back in the log", "src/sink/update_log.rs", "if let Some(before) = &change.before {", "if let Some(before) = change.before.as_ref().filter(|_| epoch == 0) {"),
    ("what waits is forgotten once no more comes with it", "src/engine/follow/mod.rs", "state.waiting_rows() > 0 ||", "state.waiting_rows() > 1_000_000 ||"),
    ("nobody calls for turns", "src/engine/follow/mod.rs", "if self.open.is_nothing() {", "if self.open.is_nothing() && self.epoch == 0 {"),
    ("a shrunk file is read on", "src/source/lines.rs", "if left < read {", "if left > read {"),
    ("a slow reader is not waited for", "src/engine/follow/mod.rs", "unsealed.is_at_least(FULL_EPOCHS_IN_FLIGHT, self.epoch_lines())", "unsealed.is_at_least(1000 * FULL_EPOCHS_IN_FLIGHT, self.epoch_lines())"),
    ("one process that is asked to end does not take the others along", "src/dataflow/fused/state/mod.rs", "self.ending |= is_end;", "self.ending |= is_end && epoch == 0;"),
    ("a log is silent while others correct", "src/sink/update_log.rs", "if last <= self.sealed {", "if last <= self.sealed || last > 0 {"),
    ("a key that nobody has is kept", "src/dataflow/fused/documents.rs", "if !claims.is_empty() || *rows > 0 || *waits {", "if !claims.is_empty() || *rows > 0 || !key.bytes().is_empty() {"),
    # several processes
    ("a slow reader keeps a process alive that lost another", "src/engine/mod.rs", "const STOP_PATIENCE: Duration = Duration::from_secs(5);", "const STOP_PATIENCE: Duration = Duration::from_secs(500);"),
    ("a lost process is one that left", "src/engine/cluster/link.rs", "Ok(0) if !self.received.has_left => {", "Ok(0) if self.received.body == usize::MAX => {"),
    ("another spec is as good", "src/engine/cluster/handshake.rs", "|(_, ours, theirs)| ours != theirs)", "|(_, ours, theirs)| ours != theirs && ours.len() < 4)"),
    # the horizon
    ("a record older than the horizon is corrected", "src/dataflow/fused/state/release.rs", "self.made(row) < release.past", "self.made(row) < release.past && release.partitions.is_empty()"),
    ("a first event beyond the horizon still has its key", "src/dataflow/dedupe.rs", "made_of(first, known) < least)", "made_of(first, known) < least && key_bytes.is_empty())"),
    ("an event that is behind stands", "src/dataflow/dedupe.rs", "made.of(row) < least)", "made.of(row) < least && row.is_empty())"),
    ("a row that was appended again is lost to its document", "src/dataflow/fused/state/release.rs", "entry.newest = Some(again);", ""),
    ("a row that was appended again is lost to its latest view", "src/dataflow/fused/state/release.rs", "*number = again.number();", ""),
    ("a chain goes on behind what was let go", "src/dataflow/fused/state/mod.rs", "older.filter(|older| self.slab.has(*older))", "older"),
    ("nothing is let go", "src/dataflow/fused/state/release.rs", "2 * gone < oldest.len()", "gone < 3 * oldest.len()"),
    # several partitions, several starts
    ("equal copies of several partitions are two events", "src/dataflow/fused/state/copies.rs", "Some(true) => met.equal += 1,", "Some(true) if event.is_empty() => met.equal += 1,\n            Some(true) => return Some(slab.push(event)),"),
    ("a row that changed and changed back counts as sent", "src/dataflow/fused/state/mod.rs", "return; // Another document's change brought it there.\n        }", "return;\n        }\n        self.resends.corrected(row);"),
    ("an elder start's word of an epoch counts", "src/progress/recovery.rs", "if held.0 < now.0 {", "if held.0 > now.0 {"),
    ("what an elder start held of a topic made again is held", "src/progress/recovery.rs", "&& (*is_new || bound.offset < *from)", "&& (*is_new && bound.offset < *from)"),
    ("a loss of documents owes nothing to who was not there", "src/progress/recovery.rs", "=> (0, time_ms),", "=> (record.settled, time_ms),"),
    # the journal: who may set what
    ("a number that is negative is one", "src/journal/rules.rs", "if number > 0 { Ok(()) }", "if number != 0 { Ok(()) }"),
    ("a student sets 2", "src/journal/rules.rs", "Person::Student(_) => matches!(mark, 0 | 1)", "Person::Student(_) => matches!(mark, 0..=2)"),
    ("a teacher sets 3", "src/journal/rules.rs", "matches!(mark, 0 | 1 | 4 | 5)", "matches!(mark, 0 | 1 | 3..=5)"),
    ("the deanery sets 6", "src/journal/rules.rs", "matches!(mark, 0..=5)", "matches!(mark, 0..=6)"),
    ("a certificate goes with any mark", "src/journal/rules.rs", "(2, Some(number)) => {", "(_, Some(number)) if number > 0 => {"),
    ("the deanery is a teacher when it excuses", "src/journal/rules.rs", "Person::Deanery(_) if matches!(mark, 2 | 3)", "Person::Deanery(_) if matches!(mark, 2)"),
    ("a student marks others", "src/journal/rules.rs", "role == Role::Student && student != number", "role == Role::Student && student != number && student == 0"),
    ("a leader marks who is elsewhere", "src/journal/rules.rs", "if !facts.belongs(student, journal) {", "if role == Role::Student && !facts.belongs(student, journal) {"),
    ("a teacher of elsewhere has access", "src/journal/rules.rs", "journal.teachers.contains(&number) || journal.deaneries", "!journal.teachers.is_empty() || journal.deaneries"),
    ("a locked lesson takes marks", "src/journal/lessons.rs", "self.locked.unwrap_or(self.date < today)", "self.locked.unwrap_or(self.date > today)"),
    ("any day is the lesson's", "src/journal/rules.rs", "date.is_some_and(|date| date != Some(lesson.date))", "date == Some(None)"),
    ("teachers mark while the lesson runs alone", "src/journal/rules.rs", "if !role.is_employee() && !lesson.runs(now)", "if !lesson.runs(now)"),
    ("a lesson ends a minute early", "src/journal/lessons.rs", "((9, 0), (10, 30))", "((9, 0), (10, 29))"),
    ("a leader changes what a teacher set", "src/journal/rules.rs", "_ if of.is_some_and(Role::is_employee) => return Err(Refusal::OfTeacher),", "_ if of.is_some_and(Role::is_employee) && role == Role::Student => return Err(Refusal::OfTeacher),"),
    ("a student changes what the leader set", "src/journal/rules.rs", "of == Some(Role::Leader) && !is_own", "of == Some(Role::Leader) && is_own"),
    ("an employee repeats his own value", "src/journal/rules.rs", "if is_again { Err(Refusal::Same) }", "if is_again && !role.is_employee() { Err(Refusal::Same) }"),
    ("numbers of students and employees are of one kind", "src/journal/rules.rs", "&& standing.role.is_none_or(|of| of.is_employee() == role.is_employee());", "&& standing.role.is_none_or(|_| true);"),
    # the journal: clicks
    ("a click is judged by what is visible alone", "src/journal/desk.rs", "visible.into_iter().chain(pending).max_by_key", "visible.into_iter().chain(pending.filter(|_| false)).max_by_key"),
    ("of one instant are two clicks on a cell", "src/journal/desk.rs", "Moment::of_us(before.since_1970_us() + 1)", "Moment::of_us(before.since_1970_us())"),
    ("an ID may be another click's", "src/journal/desk.rs", "let is_same = said(of_set.map(Some)) == says(click, person)", "let is_same = said(of_set.map(Some)) != 0"),
    ("what was judged after a click that fell stands", "src/journal/desk.rs", "batch.append(&mut state.queue);", "batch.truncate(batch.len());"),
    ("a mark that became visible still waits", "src/journal/desk.rs", "|set| set.made > mark.made);", "|set| set.made >= mark.made);"),
    ("a part of a line is written on", "src/journal/log.rs", "        let (spoiled, failed) = match self.is_torn {\n            true =>", "        let (spoiled, failed) = match self.is_torn && lines.is_empty() {\n            true =>"),
    ("a mark that goes is counted on", "src/journal/marks.rs", "self.count(day, before, |number| *number -= 1);", "self.count(day, before, |number| *number -= 0);"),
    # the journal: who is let in
    ("a token is good for ever", "src/serve/login.rs", "validation.validate_nbf = true;", "validation.validate_nbf = true;\n        validation.validate_exp = false;"),
    ("a token for another audience is good", "src/serve/login.rs", "validation.set_audience(&[&self.config.audience]);", "validation.validate_aud = false;"),
    ("anybody's issuer is ours", "src/serve/login.rs", "validation.set_issuer(&[&self.config.issuer]);", ""),
    ("an operator marks", "src/serve/door.rs", "matches!(self, Visitor::Reader | Visitor::Operator)", "matches!(self, Visitor::Reader)"),
    ("a student sees the boards", "src/serve/door.rs", "Visitor::Person(Person::Student(_)) => &SECTIONS[..1],", "Visitor::Person(Person::Student(_)) => &SECTIONS[..2],"),
    ("a name of elsewhere reads", "src/serve/guard.rs", "hosts.iter().any(|host| name.eq_ignore_ascii_case(host))", "hosts.iter().any(|host| name.ends_with(host.as_str()))"),
    ("another site's page changes something", "src/serve/guard.rs", "!matches!(site, \"same-origin\" | \"none\")", "!matches!(site, \"same-origin\" | \"same-site\" | \"none\")"),
    ("a part of the past is answered from", "src/serve/mod.rs", "if waits && !serving.shown.is_live() {", "if waits && serving.shown.share() == 0.0 {"),
    # the archive
    ("a damaged segment is read", "src/archive/reader.rs", "match check(&bytes) == segment.check {", "match !bytes.is_empty() {"),
    ("records before what is asked for are read", "src/archive/reader.rs", "Some(offset) if offset < self.from =>", "Some(offset) if offset + 1 < self.from =>"),
    ("a damaged manifest counts", "src/archive/manifest.rs", "if check(text.as_bytes()) != written.check {", "if written.check.is_empty() {"),
    ("the eldest manifest counts", "src/archive/manifest.rs", "numbers.last() else", "numbers.first() else"),
    ("a manifest of a later version is read", "src/archive/manifest.rs", "Ok(Form { form }) if form > FORM =>", "Ok(Form { form }) if form > FORM + 1 =>"),
    ("a manifest is replaced", "src/archive/store.rs", "PutMode::Create.into()", "PutMode::Overwrite.into()"),
    ("what is large is merged again", "src/archive/keeper/merge.rs", "(segment.bytes as usize) < SEGMENT_BYTES / 4", "(segment.bytes as usize) < SEGMENT_BYTES * 4"),
    # tables
    ("a UUID stands as it is written", "src/load/table.rs", "rows.extend(bytes[..8].iter().rev());", "rows.extend(bytes[..8].iter());"),
    ("a moment is in UTC already", "src/load/table.rs", "moment.since_1970_us() - self.ahead_us", "moment.since_1970_us()"),
    ("half a row stays", "src/load/table.rs", "rows.truncate(before);", ""),
    ("a table takes a wider number", "src/load/table.rs", "*low >= least && *high <= most", "*low >= least && *high <= most + 1"),
    ("an absent value fits any column", "src/load/table.rs", "takes && (self.is_nullable || !is_optional)", "takes"),
    ("what was dropped stays away", "src/load/migrations.rs", "is_gone || !applied.contains(&file.name)", "!applied.contains(&file.name)"),
    ("a column that has the name of a table is renamed", "src/load/migrations.rs", "end.unwrap_or(rest.len())", "end.map_or(rest.len(), |end| end.min(10))"),
    # history
    ("a hold lets one record past", "src/source/kafka.rs", "hold.is_some_and(|hold| handed.offset >= hold.offset)", "hold.is_some_and(|hold| handed.offset > hold.offset)"),
    ("the same last record does not show that a hold was reached", "src/source/kafka.rs", "is_same\n            || is_past(self.bound.offset)", "is_same && is_past(self.bound.offset)\n            || is_past(self.bound.offset)"),
    ("a word of before holds a start", "src/engine/hold.rs", "if !is_first {", "if !is_first || self.version.load(Ordering::Relaxed) == 0 {"),
    ("a word holds for ever", "src/engine/hold.rs", "at.elapsed() > HoldWord::PATIENCE", "at.elapsed() > HoldWord::PATIENCE * 9"),
    ("columns in another order are other", "src/history/compare.rs", "match is_other {", "match is_other || !key.is_empty() {"),
    ("a value that came was changed", "src/history/compare.rs", "(None, _) => of_column.came += 1,", "(None, None) => of_column.came += 1,"),
]

# Builds of the copy stay between runs, so that the dependencies are built once.
ENVIRONMENT = {"CARGO_TARGET_DIR": str(PROJECT / "target" / "mutations")} | os.environ
BIN = pathlib.Path(ENVIRONMENT["CARGO_TARGET_DIR"]) / "debug" / "tributary"

# The cheapest first: most mutations turn those red.
TESTS = {
    "unit tests": ["cargo", "test", "--quiet", "--lib"],
    "scripts and agreement": ["cargo", "test", "--quiet", "--test", "it", "--", "dataflow::", "agreement::", "horizon::"],
    "growing files and clusters": ["cargo", "test", "--quiet", "--test", "it", "--", "follow::", "cluster::"],
    "sample of the acceptance": [sys.executable, "tests/oracle/acceptance.py", "--sample", "--stop", "--bin", str(BIN)],
}


def copy_project(folder):
    """A copy whose files are new: what a run that was cut off built last, mutated, is not taken for it."""
    ignored = shutil.ignore_patterns("target", ".git", "out", "corpus", "__pycache__")
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True, ignore=ignored, copy_function=shutil.copy)


def mutate(root, file, old, new):
    text = (root / file).read_text(encoding="utf-8")
    if text.count(old) != 1:
        sys.exit(f"{file}: {old!r} stands there {text.count(old)} times, not once; mend the list")
    (root / file).write_text(text.replace(old, new), encoding="utf-8")


def noticed_by(root):
    """The first tests that fail, None if none does. Raises ValueError where the copy does not build."""
    built = subprocess.run(["cargo", "test", "--quiet", "--no-run"], cwd=root, env=ENVIRONMENT, capture_output=True, text=True)
    if built.returncode:
        raise ValueError(f"it does not build:\n{built.stderr[-3000:]}")
    for name, command in TESTS.items():
        if subprocess.run(command, cwd=root, env=ENVIRONMENT, capture_output=True).returncode:
            return name
    return None


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", default="", help="mutations whose rule or file holds this word")
    p.add_argument("--from", type=int, default=1, dest="first", metavar="N", help="begin with the N-th of them")
    p.add_argument("--list", action="store_true", help="name the mutations and end")
    a = p.parse_args()
    chosen = [m for m in MUTATIONS if a.only in m[0] or a.only in m[1]][a.first - 1:]
    if a.list:
        print("\n".join(f"{file}: {rule}" for rule, file, _, _ in chosen))
        return
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / "mutated"
        copy_project(root)
        # Tests that are red anyway would pass for tests that notice.
        if by := noticed_by(root):
            sys.exit(f"{by}: red without a mutation; mend that first")
        for rule, file, old, new in chosen:
            right = (root / file).read_text(encoding="utf-8")
            mutate(root, file, old, new)
            try:
                by, said = noticed_by(root), "no test noticed"
            except ValueError as unfit:
                by, said = None, f"mend the list: {unfit}"
            (root / file).write_text(right, encoding="utf-8")
            passed, failed = passed + (by is not None), failed + (by is None)
            print(f"{'red  ' if by else 'GREEN'}  {rule} ({file}): {by or said}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
