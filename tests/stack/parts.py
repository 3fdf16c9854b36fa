"""What the parts of the test stack share: where they are kept, Java, free ports, processes that a folder names, and how they are asked for."""
import argparse, contextlib, fcntl, json, os, pathlib, re, shutil, signal, socket, subprocess, sys, time

STOP_SECONDS_MAX = 20

# Where systems keep the Javas that they have.
JAVAS = "/usr/lib/jvm"


def cache():
    home = os.environ.get("TRIBUTARY_CACHE") or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tributary"
    return pathlib.Path(home)


def version_of(java):
    """The main version of a java command, None where it is none."""
    if not shutil.which(java):
        return None
    said = subprocess.run([java, "-version"], capture_output=True, text=True).stderr
    found = re.search(r'version "(\d+)', said)
    return int(found[1]) if found else None


def java(least, what):
    """A java command that is new enough: of JAVA_HOME, else of PATH, else the newest that the system has."""
    home = os.environ.get("JAVA_HOME")
    if home:
        command = str(pathlib.Path(home) / "bin" / "java")
        if (version_of(command) or 0) < least:
            sys.exit(f"{command} is missing or older than {least}: {what} needs Java {least} or newer; set JAVA_HOME to one")
        return command
    if (version_of("java") or 0) >= least:
        return "java"
    others = {str(path): version_of(str(path)) or 0 for path in pathlib.Path(JAVAS).glob("*/bin/java")}
    newest = max(others, key=others.get, default=None)
    if newest is None or others[newest] < least:
        sys.exit(f"java is missing or older than {least}: {what} needs Java {least} or newer; install one, or set JAVA_HOME to one")
    return newest


def bring(name, make):
    """Where a part is kept; has it made there once, in a folder that `make` is given, whoever else does so at the same time."""
    place = cache() / name
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.parent / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            print(f"bringing {name} to {place}", file=sys.stderr)
            coming = place.with_name(place.name + ".coming")
            shutil.rmtree(coming, ignore_errors=True)
            coming.mkdir()
            make(coming)
            coming.rename(place)
    return place


def maven(pom, *words, env=None):
    if not shutil.which("mvn"):
        sys.exit("mvn is missing: install Maven (maven), which brings the jars")
    if subprocess.run(["mvn", "-q", "-B", "-ntp", "-f", str(pom), *words], stdout=subprocess.DEVNULL, env=env).returncode:
        sys.exit("Maven could not bring the jars; its words stand above: is Maven Central reachable?")


def python(name, requirements, *options):
    """The python command of an environment that holds these packages; with more options for pip, where there are any."""
    def make(coming):
        subprocess.run([sys.executable, "-m", "venv", str(coming)], check=True)
        pip = [str(coming / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, "-r", str(requirements)]
        if subprocess.run(pip, stdout=subprocess.DEVNULL).returncode:
            sys.exit("pip could not bring the packages; its words stand above: is PyPI reachable?")
    return bring(name, make) / "bin" / "python"


def free_ports(count):
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Process:
    """A process that a folder names: its number, what it says, its end."""

    def __init__(self, folder):
        self.folder, self.child = pathlib.Path(folder), None

    def begin(self, command):
        """Starts it, and comes back at once."""
        with open(self.log(), "wb") as log:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        (self.folder / "pid").write_text(str(self.child.pid))

    def log(self):
        return self.folder / "server.log"

    def await_word(self, word, seconds):
        """Waits until it has said that it serves."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if word in self.log().read_text(errors="replace"):
                return
            if self.child.poll() is not None:
                break
            time.sleep(0.02)
        sys.exit(f"{self.folder} did not start; the end of {self.log()}:\n{self.log().read_text(errors='replace')[-3000:]}")

    def send(self, number):
        """Signals the process that the folder names, if it still is that process."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            pid = int((self.folder / "pid").read_text())
            if str(self.folder).encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, number)
                return pid
        return None

    def stop(self, number=signal.SIGTERM):
        pid = self.send(number)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while pid and time.monotonic() < deadline:
            if self.child.poll() is not None if self.child else not pathlib.Path(f"/proc/{pid}").exists():
                return
            time.sleep(0.02)
        self.send(signal.SIGKILL)
        if self.child:
            self.child.wait()

    def obey(self, word):
        """Does one of `stop`, `kill`, `pause`, `resume`; returns whether it was one."""
        match word:
            case "stop":
                self.stop()
            case "kill":
                self.stop(signal.SIGKILL)
            case "pause":
                self.send(signal.SIGSTOP)
            case "resume":
                self.send(signal.SIGCONT)
            case _:
                return False
        return True


class Server:
    """A part that is one process, whose settings and data are in a folder. Those that follow say how to `start` it and its `url`."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.process = Process(self.folder)

    def is_there(self):
        return (self.folder / "settings.json").exists()

    def configure(self, **settings):
        """Writes its settings, unless the folder has some already."""
        if not self.is_there():
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "settings.json").write_text(json.dumps(settings))

    def settings(self):
        return json.loads((self.folder / "settings.json").read_text())

    def stop(self):
        # One that pauses heeds nothing.
        self.process.send(signal.SIGCONT)
        self.process.stop()

    def obey(self, line):
        """Does what a line of standard input asks for; returns the answer."""
        word = line.strip()
        if word == "start":
            # Or a second one would come, and the answer of the first be taken for its.
            if self.process.child and self.process.child.poll() is None:
                return "it runs"
            self.start()
        elif not self.process.obey(word):
            return f"unknown: {word!r}; commands: stop, kill, pause, resume, start"
        return "ok"


def options(about, *more):
    """The options that all such parts take; one may know more commands, which need no folder."""
    p = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=["up", "down", "run", *more])
    p.add_argument("dir", nargs="?" if more else None, help="folder of its settings and data")
    p.add_argument("--forget", action="store_true", help="with run: remove DIR at the end")
    return p


def run(a, server, configure):
    """Does what the command line asks for with a server that is configured so where it is to start."""
    if a.command == "down":
        if not server.is_there():
            sys.exit(f"{server.folder} holds none of this")
        server.stop()
        return
    configure(server)
    where = lambda: [f"URL={server.url()}"]
    if a.command == "up":
        server.start()
        print(*where(), sep="\n", flush=True)
        return

    def end():
        server.stop()
        if a.forget:
            shutil.rmtree(server.folder, ignore_errors=True)

    serve_commands(server.start, where, server.obey, end)


def serve_commands(start, where, obey, end):
    """Starts, says where it listens, obeys lines of standard input until that ends, and ends what was started, however it ends."""
    # Asked to end as well, it ends what it started first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        start()
        print(*where(), sep="\n", flush=True)
        for line in sys.stdin:
            print(obey(line), flush=True)
    finally:
        end()
