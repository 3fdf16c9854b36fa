#!/usr/bin/env python3
"""The acceptance of the engine: many universities, hostile ones among them, each computed by the oracle and by the engine.

    acceptance.py --sample              about a minute: sizes 0 to 20,000, every kind of fault and of variant
    acceptance.py --whole --jobs 2      30 universities of up to 300,000 clicks and 10 hostile ones, 9 variants each
    acceptance.py --sample --seed 7     the same cases again; SEED=7 in the environment does the same

Shape: a case is an input (a seed and sizes); its variants are the numbers of workers (1, 2, 4) and of files that the events are
dealt to (1, 6), two processes of two workers, and files that grow under one process and under two, which are killed and ended
meanwhile. A case is generated and computed by the oracle once; each of its variants must give what the oracle gave, row for row,
and the same dead letters, byte for byte.

Invariants: the base seed fixes all cases. Every run of the engine has a folder of its own that was empty before. A folder of a
case that passed is removed; one that failed is kept, with the commands that show the failure again.

Not here: what is right (`oracle.py`), how rows are compared (`compare.py`).
"""
import argparse, hashlib, math, os, pathlib, random, shlex, shutil, subprocess, sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from deal import deal
from growing import Follow, free_ports
from letters import complaints

HERE = pathlib.Path(__file__).resolve().parent
ENGINE_SECONDS_MAX = 600     # the largest case takes seconds; whoever needs minutes hangs
SCRIPT_SECONDS_MAX = 1800    # the oracle needs 0.1 ms an event
VIEWS = {"enriched": "ID", "latest": "JOURNAL_ID,STUDENT_ID,LESSON_ID,LESSON_DATE",
    "attendance_by_group_day": "GROUP_SHORT_TITLE,LESSON_DATE",
         "attendance_by_teacher": "TEACHER_FIO,KAFEDRA", "attendance_by_student": "STUDENT_ID"}
FAULTS = (0, 0.01, 0.2)


@dataclass(frozen=True)
class Case:
    """An input. A hostile one has a number of lines as `events`; faults and sizes say nothing there."""
    seed: int
    events: int
    faults: float = 0
    changes: int = 0
    students: int = 2  # with one student and one teacher nobody has a document, and generate.py has none to change
    teachers: int = 1
    hostile: bool = False

    def __str__(self):
        if self.hostile:
            return f"hostile seed {self.seed} lines {self.events}"
        return f"seed {self.seed} events {self.events} faults {self.faults} changes {self.changes} students {self.students} teachers {self.teachers}"

    def generator(self, out):
        """The command that writes the input."""
        if self.hostile:
            return script("hostile.py", out, "--lines", self.events, "--seed", self.seed)
        return script("generate.py", out, "--events", self.events, "--seed", self.seed, "--faults", self.faults, "--changes",
            self.changes,
                      "--students", self.students, "--teachers", self.teachers)


@dataclass(frozen=True)
class Variant:
    """A way to run the engine over a case. `workers` are those of each process."""
    workers: int
    files: int
    processes: int = 1
    follow: bool = False

    def __str__(self):
        processes = f"{self.processes} processes of " if self.processes > 1 else ""
        return f"{processes}{self.workers} workers, {self.files} files" + (" that grow" if self.follow else "")

    @property
    def name(self):
        return f"{'grow' if self.follow else 'got'}-{self.processes}x{self.workers}-files{self.files}"


VARIANTS = [Variant(workers, files) for workers in (1, 2, 4) for files in (1, 6)]
VARIANTS += [Variant(2, 6, processes=2), Variant(2, 6, follow=True), Variant(2, 6, processes=2, follow=True)]


@dataclass
class Verdict:
    """What became of one variant of a case."""
    variant: Variant
    seconds: float | None = None  # of the engine alone
    wrong: list = field(default_factory=list)
    seen: str = ""  # of files that grow: what happened to them
    spread: int = 0  # and under how many seals a correction was being spread

    def __str__(self):
        took = "" if self.seconds is None else f" {self.seconds:.2f} s"
        return ("FAILED" if self.wrong else "ok") + took


def sample(seed):
    """A small set for every change: about a minute with two cores."""
    r = random.Random(seed)
    sizes = ((0, 0.2, 50, 40, 5), (1, 0.2, 5, 2, 1), (300, 0, 0, 60, 8), (300, 0.2, 200, 3, 2), (5000, 0.01, 500, 400, 30),
        (5000, 0.2, 50, 30, 100),
             (20_000, 0.01, 1500, 1200, 60))
    cases = [Case(r.randrange(2**31), *size) for size in sizes]
    return cases + [Case(r.randrange(2**31), lines, hostile=True) for lines in (500, 10_000)]


def whole(seed):
    """30 universities with sizes from 0 to 300,000 and 10 hostile inputs."""
    r = random.Random(seed)

    def spread(low, high):
        """Each power of ten as likely as the next."""
        return min(high, int(math.exp(r.uniform(math.log(low + 1), math.log(high + 2)))) - 1)
    sizes = [0, 300_000, 300_000, 300_000] + [spread(0, 300_000) for _ in range(26)]
    r.shuffle(sizes)
    cases = [Case(r.randrange(2**31), size, FAULTS[n % len(FAULTS)], r.choice((0, spread(0, 5000), spread(0, 5000), 5000)),
        spread(2, 12_000), spread(1, 434))
             for n, size in enumerate(sizes)]
    return cases + [Case(r.randrange(2**31), 20_000, hostile=True) for _ in range(10)]


def script(name, *arguments):
    return [sys.executable, str(HERE / name), *map(str, arguments)]


def engine(a, events, people, changes, out, variant, process=0, hosts=None):
    """The command that runs the engine, or one process of several."""
    command = [str(a.bin), "run", str(a.spec), "--events", *map(str, events), "--documents", str(people), "--changes", str(changes),
               "--out", str(out), "--workers", str(variant.workers)]
    if hosts:
        command += ["--processes", str(variant.processes), "--process", str(process), "--hosts", str(hosts)]
    return command + ([] if variant.follow else ["--once"])


def run(command, seconds_max=SCRIPT_SECONDS_MAX, log=None):
    """(what went wrong or None, the last lines of output). A run past its limit is ended."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=seconds_max)
        output, wrong = done.stdout, f"exit code {done.returncode}" if done.returncode else None
    except subprocess.TimeoutExpired as e:
        output, wrong = e.stdout or b"", f"no end after {seconds_max} s"
    except OSError as e:
        output, wrong = b"", f"could not be started: {e}"
    if log:
        log.write_bytes(output)
    return wrong, output.decode("utf-8", "replace").strip().splitlines()[-12:]


def same_rows(path):
    """A number that two files share if they hold the same lines as often, in any order."""
    with open(path, "rb") as f:
        return sum(int.from_bytes(hashlib.sha256(line.rstrip(b"\n")).digest(), "big") for line in f) % 2**256


def run_all(commands, seconds_max, log):
    """`run` of several commands at one time: the first that went wrong."""
    if len(commands) == 1:
        return run(commands[0], seconds_max, log)
    with ThreadPoolExecutor(len(commands)) as pool:
        logs = [log.with_suffix(f".{n}.log") for n in range(len(commands))]
        done = list(pool.map(lambda c: run(c[0], seconds_max, c[1]), zip(commands, logs)))
    return next((d for d in done if d[0]), done[0])


def join_parts(got, processes):
    """The files of several processes as those of one."""
    for name in [*VIEWS, "dead_letters"]:
        parts = [got / f"part-{n}-of-{processes}" / f"{name}.ndjson" for n in range(processes)]
        if all(part.exists() for part in parts):
            (got / f"{name}.ndjson").write_bytes(b"".join(part.read_bytes() for part in parts))


def complaints_about(source, want, got, dealt, accepted):
    """(what is wrong with the views and dead letters in `got`, the commands that show it).

    `accepted` holds what compare.py has found equal in this case, as (view, same_rows): it takes a minute for the largest
    views, and need not be asked twice about the same rows."""
    wrong, commands = [], []
    for view, key in VIEWS.items():
        if not (got / f"{view}.ndjson").exists():
            wrong.append(f"{got.name}/{view}.ndjson is missing: the engine writes every view, without lines if it is empty")
            continue
        rows = (view, same_rows(got / f"{view}.ndjson"))
        if rows in accepted:
            continue
        command = script("compare.py", want / f"{view}.ndjson", got / f"{view}.ndjson", "--key", key)
        failed, said = run(command)
        if failed:
            wrong.append(f"{got.name}, {view}:\n" + "\n".join(said))
            commands.append(command)
        else:
            accepted.add(rows)
    bad = complaints(source, want, got, dealt)
    return wrong + (["dead letters:\n" + "\n".join(bad)] if bad else []), commands


def variant(a, folder, variant, accepted):
    """Runs the engine over the input in `folder` and checks all that it wrote."""
    verdict, source, want = Verdict(variant), folder / "in", folder / "want"
    files = variant.files
    dealt = deal(source, folder / f"dealt{files}", files) if files > 1 else None
    if variant.follow:
        return follow(a, folder, variant, list(dealt), verdict)
    got = folder / variant.name
    shutil.rmtree(got, ignore_errors=True)
    got.mkdir()
    hosts = None
    if variant.processes > 1:
        hosts = folder / "hosts"
        hosts.write_text("".join(f"127.0.0.1:{port}\n" for port in free_ports(variant.processes)))
    commands = [engine(a, dealt or [source / "events.ndjson"], source / "people.ndjson", source / "changes.ndjson", got, variant,
                       process, hosts) for process in range(variant.processes)]
    started = time.monotonic()
    failed, said = run_all(commands, a.seconds_max, folder / f"{got.name}.log")
    verdict.seconds = time.monotonic() - started
    if failed:
        verdict.wrong.append(f"the engine: {failed}\n" + "\n".join(said))
    else:
        if variant.processes > 1:
            join_parts(got, variant.processes)
        wrong, more = complaints_about(source, want, got, dealt, accepted)
        verdict.wrong += wrong
        commands += more + ([script("letters.py", source, want, got, *(("--dealt", folder / f"dealt{files}") if dealt else ()))] if wrong else [])
    if verdict.wrong:
        before = [script("deal.py", source, folder / f"dealt{files}", "--files", files)] if dealt else []
        verdict.wrong.append("to see it again:\n" + "\n".join(shlex.join(c) for c in before + commands))
    elif not a.keep:
        shutil.rmtree(got)
        for log in folder.glob(f"{got.name}*.log"):
            log.unlink()
    return verdict


def follow(a, folder, variant, dealt, verdict):
    """Files that grow: what the update logs add up to is held against the oracle over the lines that they name."""
    source = folder / "in"
    r = random.Random(f"{folder.name} {variant} {a.seed}")
    lines = sum(1 for _ in open(source / "events.ndjson", "rb"))
    options = ["--tick", str(r.choice((1, 10)))]
    if r.random() < 0.7:  # else the default, which spreads nothing that is as small as this
        options += ["--atomic-max", str(r.choice((0, 50))), "--fuel", str(max(1, lines // 200))]

    def command(events, people, changes, out, process, hosts):
        return engine(a, events, people, changes, out, variant, process, hosts) + options

    def check(cut, got, places):
        want = cut.with_name(cut.name.replace("cut", "want"))
        failed, said = run(script("oracle.py", cut, want))
        if failed:
            return [f"oracle.py {cut} {want}: {failed}\n" + "\n".join(said)]
        wrong, _ = complaints_about(cut, want, got, places, set())
        return wrong

    begin = time.monotonic()
    grown = Follow(command, source, dealt, folder / variant.name, VIEWS, variant.processes, r.random())
    verdict.wrong += grown.run(check)
    verdict.spread = grown.spread
    verdict.seen = f", killed, ended and whole at {', '.join(map(str, grown.cuts))} lines, {grown.spread} seals amid corrections"
    verdict.seconds = time.monotonic() - begin
    if not verdict.wrong and not a.keep:
        shutil.rmtree(folder / variant.name)
    return verdict


def prepare(case, folder):
    """Writes the input and what must come of it: (oracle's counts, complaint or None)."""
    counts = ""
    for command in (case.generator(folder / "in"), script("oracle.py", folder / "in", folder / "want")):
        failed, said = run(command)
        if failed:
            return counts, f"{pathlib.Path(command[1]).name}: {failed}\n" + "\n".join(said) + f"\nto see it again:\n{shlex.join(command)}"
        counts = said[-1] if said else ""
    return counts, None


class Acceptance:
    """Runs cases, prints a line for each variant, and keeps what the table shows."""

    def __init__(self, a, scratch):
        self.a, self.scratch, self.printing = a, scratch, threading.Lock()
        self.stop = threading.Event()  # set where a failure ends all

    def case(self, number, case):
        """(case, oracle's counts, verdicts) of one case; its folder goes when all is well."""
        if self.stop.is_set():
            return case, "", []
        folder = self.scratch / f"case-{number:02d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        counts, unfit = prepare(case, folder)
        verdicts, accepted = [], set()
        for v in VARIANTS:
            if self.stop.is_set():
                break
            verdict = Verdict(v, wrong=[unfit]) if unfit else self._variant(folder, v, accepted)
            verdicts.append(verdict)
            if verdict.wrong and self.a.stop:
                self.stop.set()
            self._say(f"{'FAILED' if verdict.wrong else 'ok    '} {case}: {v}"
                      + ("" if verdict.seconds is None else f": {verdict.seconds:.2f} s") + verdict.seen, verdict.wrong, case, folder)
        if not self.a.keep and not any(v.wrong for v in verdicts):
            shutil.rmtree(folder)
        return case, counts, verdicts

    def _variant(self, folder, v, accepted):
        try:
            return variant(self.a, folder, v, accepted)
        except Exception as e:  # a fault of these scripts or of the disk fails the variant, not the whole acceptance
            return Verdict(v, wrong=[f"the check itself: {type(e).__name__}: {e}"])

    def _say(self, line, wrong, case, folder):
        with self.printing:
            print(line)
            if wrong:
                text = "\n".join([f"input, kept in {folder}, made by:", shlex.join(case.generator(folder / "in")),
                                  shlex.join(script("oracle.py", folder / "in", folder / "want"))] + wrong)
                print("\n".join("       " + t for t in text.splitlines()))
            sys.stdout.flush()


def table(results, seed):
    """What was run, in Markdown."""
    head = ["#", "kind", "seed", "events", "faults", "changes", "students", "teachers",
        "oracle"] + list(map(str, VARIANTS))
    rows = []
    for n, (c, counts, verdicts) in enumerate(results):
        sizes = ["", "", "", ""] if c.hostile else [f"{c.faults}", f"{c.changes:,}", f"{c.students:,}", f"{c.teachers:,}"]
        rows.append([str(n), "hostile" if c.hostile else "university", str(c.seed), f"{c.events:,}", *sizes, counts,
            *map(str, verdicts)])
    passed = sum(not v.wrong for *_, vs in results for v in vs)
    lines = [f"Base seed {seed}: {passed} passed, {sum(len(vs) for *_, vs in results) - passed} failed. Seconds are those of the engine, from start to exit; of files that grow, of the whole game with its checks.", ""]
    lines += ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def options(arguments):
    repository = HERE.parent.parent
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = p.add_mutually_exclusive_group(required=True)
    size.add_argument("--sample", action="store_true", help="a small set, for every change")
    size.add_argument("--whole", action="store_true", help="the whole set: 40 inputs, 9 variants each")
    p.add_argument("--bin", type=pathlib.Path, default=repository / "target" / "release" / "tributary", help="the engine")
    p.add_argument("--spec", type=pathlib.Path, default=repository / "dataflows" / "attendance.toml",
        help="the dataflow that it runs")
    p.add_argument("--seed", type=int, default=os.environ.get("SEED") or random.SystemRandom().randrange(2**31),
        help="fixes all cases; else SEED, else drawn")
    p.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1),
        help="cases at a time; the largest take 2.5 GB each")
    p.add_argument("--stop", action="store_true", help="end at the first failure, the smallest cases first")
    p.add_argument("--keep", metavar="DIR", type=pathlib.Path,
        help="work there and leave everything; a whole run leaves some 20 GB")
    p.add_argument("--table", metavar="FILE.md", type=pathlib.Path, help="write what was run there")
    p.add_argument("--seconds-max", type=float, default=ENGINE_SECONDS_MAX, help="limit of one run of the engine")
    a = p.parse_args(arguments)
    if a.jobs < 1:
        p.error("--jobs is a number of cases, 1 or more")
    a.bin, a.spec = a.bin.absolute(), a.spec.absolute()
    if not a.bin.is_file():
        sys.exit(f"{a.bin} is missing: build it first: cargo build --release (or name another one: --bin PATH)")
    if not a.spec.is_file():
        sys.exit(f"{a.spec} is missing: name the dataflow: --spec PATH")
    return a


def main(arguments=None):
    a = options(arguments)
    print(f"SEED={a.seed}", flush=True)
    cases = (sample if a.sample else whole)(a.seed)
    scratch = a.keep.absolute() if a.keep else pathlib.Path(tempfile.mkdtemp(prefix="acceptance-"))
    acceptance = Acceptance(a, scratch)
    in_order = sorted(range(len(cases)), key=lambda n: -cases[n].events, reverse=a.stop)
    with ThreadPoolExecutor(a.jobs) as pool:
        running = {n: pool.submit(acceptance.case, n, cases[n]) for n in in_order}
        results = [running[n].result() for n in range(len(cases))]
    if a.table:
        a.table.write_text(table(results, a.seed), encoding="utf-8")
    failed = sum(bool(v.wrong) for *_, verdicts in results for v in verdicts)
    if not a.keep and not failed:
        shutil.rmtree(scratch)
    if failed:
        print(f"kept in {scratch}; all of it again: --{'sample' if a.sample else 'whole'} --seed {a.seed}")
    if not failed and any(v.follow for v in VARIANTS) and not any(v.spread for *_, verdicts in results for v in verdicts):
        print("no correction was ever being spread where a log was sealed: the check proves less than it says")
        failed += 1
    print(f"{sum(len(verdicts) for *_, verdicts in results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
