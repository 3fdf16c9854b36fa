"""Follow mode from outside: files that grow, a kill, a SIGTERM, and what the update log must then add up to.

Shape: an input, dealt to files, is appended piece by piece, cut at any byte, to copies that engines follow. The engines are killed
once and asked to end once, each time at a random moment, and started again; then the rest comes, and they are asked to end when all
is sealed. Each time the log, or the logs of all processes, up to an epoch that is sealed and has nothing waiting, must give what the
oracle gives over exactly the lines that the seal names.

Not here: what is right (`oracle.py`), how a folder of views is checked (`acceptance.py`).
"""
import json, random, shutil, signal, socket, subprocess, time
from collections import Counter
from pathlib import Path

STEP_SECONDS_MAX = 300  # an engine that seals nothing new for so long hangs
END_SECONDS_MAX = 15    # after SIGTERM; the engine itself promises 10


class Wrong(Exception):
    """What the engine did and must not."""


class Growing:
    """A file that grows to be another one."""

    def __init__(self, whole, path, r):
        self.data, self.path, self.r, self.written = whole.read_bytes(), path, r, 0
        if self.data and not self.data.endswith(b"\n"):
            self.data += b"\n"  # a followed file's last line waits for its end
        path.write_bytes(b"")

    def grow(self, share):
        """Appends a random piece, up to that share of the whole; False once it is there."""
        goal = int(len(self.data) * share)
        if self.written >= goal:
            return False
        end = min(goal, self.written + self.r.randrange(1, max(2, len(self.data) // 12)))
        with open(self.path, "ab") as f:
            f.write(self.data[self.written:end])
        self.written = end
        return True

    def lines(self):
        return self.data[:self.written].count(b"\n")

    def first(self, lines):
        """Its first lines; only a newline ends a line."""
        return b"".join(line + b"\n" for line in self.data.split(b"\n")[:lines])


class Log:
    """An update log that is being read."""

    def __init__(self, path):
        self.path, self.offset, self.seals = path, 0, []

    def read(self):
        """Looks for new lines that seal; returns whether there is one."""
        before = len(self.seals)
        if self.path.exists():
            with open(self.path, "rb") as f:
                f.seek(self.offset)
                for line in f:
                    if not line.endswith(b"\n"):
                        break
                    self.offset += len(line)
                    if line.startswith(b'{"sealed"'):
                        self.seals.append(json.loads(line))
        return len(self.seals) > before

    def at(self, epoch):
        """The last seal up to an epoch."""
        return next((seal for seal in reversed(self.seals) if seal["sealed"] <= epoch), None)

    def fold(self, epoch):
        """{view: Counter of rows} after an epoch; raises Wrong where the log contradicts itself."""
        rows, sealed, n = {}, -1, 0
        with open(self.path, "rb") as f:
            for n, line in enumerate(f):
                if not line.endswith(b"\n"):
                    break
                if line.startswith(b'{"sealed"'):
                    now = json.loads(line)["sealed"]
                    if now <= sealed:
                        raise Wrong(f"{self.path}, line {n}: seals {now} after {sealed}")
                    sealed = now
                    continue
                update = json.loads(line[:line.index(b',"row":')] + b"}")
                row = line[line.index(b',"row":') + 7:-2]
                if update["epoch"] <= sealed:
                    raise Wrong(f"{self.path}, line {n}: of epoch {update['epoch']}, which is sealed")
                if update["epoch"] > epoch:
                    continue
                view = rows.setdefault(update["view"], Counter())
                view[row] += update["diff"]
                if view[row] < 0:
                    raise Wrong(f"{self.path}, line {n}: takes back a row that is not there")
                if view[row] == 0:
                    del view[row]
        return rows


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def heeds_sigterm(process):
    """Whether it would end by itself: one that has just begun does not yet, and the system ends it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return int(caught, 16) >> (signal.SIGTERM - 1) & 1 == 1


class Engines:
    """The processes of one start."""

    def __init__(self, commands, logs, said):
        self.logs = [Log(path) for path in logs]
        for path in logs:
            path.unlink(missing_ok=True)
        self.said = [open(f"{said}-{n}.log", "ab") for n in range(len(commands))]
        self.said_before = [f.tell() for f in self.said]
        self.processes = [subprocess.Popen(c, stdin=subprocess.DEVNULL, stdout=f, stderr=f) for c, f in zip(commands, self.said)]

    def check_alive(self):
        for n, p in enumerate(self.processes):
            if p.poll() is not None:
                raise Wrong(f"process {n} ended by itself with {p.returncode}: see {self.said[n].name}")

    def wait(self, reached, goal):
        """Waits until `reached()`; a log that seals nothing new for long is a hang."""
        last = time.monotonic()
        while not reached():
            self.check_alive()
            if any([log.read() for log in self.logs]):
                last = time.monotonic()
            if time.monotonic() - last > STEP_SECONDS_MAX:
                raise Wrong(f"no progress towards {goal} for {STEP_SECONDS_MAX} s; last seals {[log.seals[-1:] for log in self.logs]}")
            time.sleep(0.002)

    def wait_for(self, reached, what):
        deadline = time.monotonic() + STEP_SECONDS_MAX
        while not reached():
            self.check_alive()
            if time.monotonic() > deadline:
                raise Wrong(f"the processes do not {what} within {STEP_SECONDS_MAX} s")
            time.sleep(0.002)

    def kill(self):
        self.check_alive()
        for p in self.processes:
            p.kill()
        for p in self.processes:
            p.wait()
        self.close()

    def end(self, only=None):
        """SIGTERM; to one process alone where `only` says so: it takes the others along."""
        asked = self.processes if only is None else [self.processes[only]]
        self.wait_for(lambda: all(map(heeds_sigterm, asked)), "heed SIGTERM")
        if only is not None and len(self.processes) > 1:
            # One that no other is connected with takes none along.
            said = lambda: [Path(f.name).read_bytes()[n:] for f, n in zip(self.said, self.said_before)]
            self.wait_for(lambda: all(b"all processes are connected" in s for s in said()), "come together")
        for p in asked:
            p.send_signal(signal.SIGTERM)
        for n, p in enumerate(self.processes):
            try:
                code = p.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                raise Wrong(f"process {n} has not ended {END_SECONDS_MAX} s after SIGTERM") from None
            if code:
                raise Wrong(f"process {n} ended with {code} after SIGTERM: see {self.said[n].name}")
        self.close()

    def close(self):
        for f in self.said:
            f.close()
        for log in self.logs:
            log.read()

    def settled(self):
        """The last epoch that all have sealed and in which nothing waits, with its vector."""
        if not all(log.seals for log in self.logs):
            return None
        last = min(log.seals[-1]["sealed"] for log in self.logs)
        for epoch in sorted({seal["sealed"] for log in self.logs for seal in log.seals if seal["sealed"] <= last}, reverse=True):
            seals = [log.at(epoch) for log in self.logs]
            if all(seal and seal["waiting"] == 0 for seal in seals):
                return epoch, max(seals, key=lambda seal: seal["sealed"])
        return None

    def views(self, epoch):
        """{view: rows} of all logs together."""
        together = {}
        for log in self.logs:
            for view, rows in log.fold(epoch).items():
                together.setdefault(view, Counter()).update(rows)
        return together


def write(views, names, got):
    """The views of a log as the files that a run to the end would have written."""
    shutil.rmtree(got, ignore_errors=True)
    got.mkdir(parents=True)
    for name in [*names, "dead_letters"]:
        rows = views.get(name, Counter())
        (got / f"{name}.ndjson").write_bytes(b"".join(row + b"\n" for row, n in rows.items() for _ in range(n)))


class Follow:
    """One input, followed while it grows."""

    def __init__(self, command, source, dealt, folder, names, processes, seed):
        """`command(events, people, changes, out, process, hosts)` is what starts an engine."""
        self.r, self.names, self.folder, self.processes = random.Random(seed), names, folder, processes
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "grow").mkdir(parents=True)
        growing = lambda path: Growing(path, folder / "grow" / path.name, self.r)
        self.events = [growing(path) for path in dealt]
        self.people, self.changes = growing(source / "people.ndjson"), growing(source / "changes.ndjson")
        self.out, self.command = folder / "out", command
        self.cuts, self.spread = [], 0  # events of each cut that was judged, and seals under which something waited

    def start(self):
        hosts = None
        if self.processes > 1:
            hosts = self.folder / "hosts"
            hosts.write_text("".join(f"127.0.0.1:{port}\n" for port in free_ports(self.processes)))
            logs = [self.out / f"part-{n}-of-{self.processes}" / "updates.ndjson" for n in range(self.processes)]
        else:
            logs = [self.out / "updates.ndjson"]
        commands = [self.command([g.path for g in self.events], self.people.path, self.changes.path, self.out, n, hosts)
                    for n in range(self.processes)]
        self.engines = Engines(commands, logs, self.folder / "said")
        return self.engines

    def seal_says(self, people, changes):
        """Whether the last settled epoch holds so many documents and changes, and all lines that there are."""
        settled = self.engines.settled()
        if not settled:
            return False
        seal = settled[1]
        return (seal["documents"], seal["changes"], seal["events"]) == (people, changes, [g.lines() for g in self.events])

    def grow(self, share):
        """Appends pieces of all files, up to that share of each: a change may well overtake its document."""
        files = [self.people, *self.events, self.changes]
        while files:
            self.engines.check_alive()
            file = self.r.choice(files)
            if not file.grow(share):
                files.remove(file)
            elif self.r.random() < 0.3:
                time.sleep(self.r.random() * 0.02)

    def cut(self, seal, folder):
        """The input up to a seal, as a folder for the oracle."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        parts = [g.first(n) for g, n in zip(self.events, seal["events"])]
        (folder / "events.ndjson").write_bytes(b"".join(parts))
        (folder / "people.ndjson").write_bytes(self.people.first(seal["documents"]))
        (folder / "changes.ndjson").write_bytes(self.changes.first(seal["changes"]))
        places, before = {}, 0
        for g, n in zip(self.events, seal["events"]):
            places[g.path] = range(before, before + n)
            before += n
        return places

    def run(self, check):
        """`check(source, got, places)` holds views in `got` against the oracle over `source`; returns what is wrong."""
        wrong = []

        def judge(name):
            self.spread += sum(seal["waiting"] > 0 for log in self.engines.logs for seal in log.seals)
            settled = self.engines.settled()
            if not settled:
                return self.cuts.append(None)
            epoch, seal = settled
            self.cuts.append(sum(seal["events"]))
            source, got = self.folder / f"cut-{name}", self.folder / f"got-{name}"
            write(self.engines.views(epoch), self.names, got)
            wrong.extend(check(source, got, self.cut(seal, source)))

        try:
            self.start()
            self.grow(self.r.random() * 0.6)
            time.sleep(self.r.random() * 0.2)
            self.engines.kill()
            judge("killed")
            self.start()
            self.grow(0.6 + self.r.random() * 0.3)
            time.sleep(self.r.random() * 0.2)
            self.engines.end(only=self.r.choice([None, self.processes - 1]))
            judge("ended")
            self.start()
            self.grow(1)
            whole = lambda: self.seal_says(self.people.lines(), self.changes.lines())
            self.engines.wait(whole, "the end of all files")
            self.engines.end()
            judge("whole")
        except Wrong as e:
            wrong.append(str(e))
        finally:
            for p in self.engines.processes:
                if p.poll() is None:
                    p.kill()
                    p.wait()
        return wrong
