#!/usr/bin/env python3
"""Apache Superset on a free loopback port, its metadata in SQLite.

    tests/stack/superset.py up DIR      start; says where it listens
    tests/stack/superset.py down DIR    end it; what it holds stays in DIR
    tests/stack/superset.py run DIR     the same until standard input ends
    tests/stack/superset.py python      say which Python has its packages, and selenium

`run` is for tests: each line on standard input is a command, answered by one line: `stop` (SIGTERM), `kill` (SIGKILL), `pause`
(SIGSTOP), `resume`, `start`. When standard input ends, however the test ended, so does Superset.

--version chooses which: 6.1.0 or 4.1.4. A folder keeps the version that it began with. The one user is
`admin`, password `admin`, who may do everything; the interface speaks Russian. Brought once, 0.9 GB for each version, into
TRIBUTARY_CACHE (else ~/.cache/tributary), together with metadata as they are after the first start: to make these takes 10 to 20 s, to copy
them nothing. It takes 0.4 GB of memory and 5 s to start. Not there: other processes, Celery, a cache of data, sending
pictures by mail.
"""
import contextlib, pathlib, shutil, subprocess, sys, time, urllib.request

import parts

VERSIONS = ["6.1.0", "4.1.4"]
START_SECONDS_MAX = 120
SOURCE = pathlib.Path(__file__).resolve().parent / "superset"


class Superset(parts.Server):
    """Superset whose metadata are in a folder."""

    def configure(self, version):
        """Chooses where it listens and which version it is, unless the folder says so already."""
        if not self.is_there():
            # Nothing of a half-made folder counts: the settings are written last.
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(metadata(version) / "superset.db", self.folder / "superset.db")
        super().configure(port=parts.free_ports(1)[0], version=version)

    def url(self):
        return f"http://127.0.0.1:{self.settings()['port']}"

    def start(self):
        settings = self.settings()
        command = [str(packages(settings["version"])), str(SOURCE / "serve.py"), str(self.folder), str(settings["port"])]
        self.process.begin(["/usr/bin/env", *environment(self.folder), *command])
        self.await_health()

    def await_health(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.child.poll() is None:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"{self.url()}/health", timeout=5) as answer:
                    if answer.read() == b"OK":
                        return
            time.sleep(0.1)
        said = self.process.log().read_text(errors="replace")
        self.stop()
        sys.exit(f"{self.folder} did not start; the end of {self.process.log()}:\n{said[-3000:]}")


def packages(version):
    return parts.python(f"superset-{version}", SOURCE / f"requirements-{version.rpartition('.')[0]}.txt")


def environment(home):
    """What Superset is told, as words for env(1). Its days are to be Moscow's: from them it counts "the last week"."""
    return [f"SUPERSET_HOME={home}", f"SUPERSET_CONFIG_PATH={SOURCE / 'superset_config.py'}", "TZ=Europe/Moscow", "PYTHONWARNINGS=ignore"]


def metadata(version):
    """The folder with metadata as they are after the first start."""
    python = packages(version)

    def make(coming):
        command = ["/usr/bin/env", *environment(coming), str(python), str(SOURCE / "first_start.py")]
        done = subprocess.run(command, cwd=coming, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(f"Superset {version} could not make its metadata:\n{done.stdout[-3000:]}")
    return parts.bring(f"superset-{version}-metadata", make)


def main():
    p = parts.options(__doc__, "python")
    p.add_argument("--version", choices=VERSIONS, default=VERSIONS[0], help="for a new folder; %(default)s if not given")
    a = p.parse_args()
    if a.command == "python":
        print(packages(a.version))
        return
    if not a.dir:
        p.error("name a folder")
    parts.run(a, Superset(a.dir), lambda server: server.configure(a.version))


if __name__ == "__main__":
    main()
