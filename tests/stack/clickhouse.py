#!/usr/bin/env python3
"""The engine of ClickHouse on a free loopback port, behind an HTTP interface of ours (clickhouse/skin.py).

    tests/stack/clickhouse.py up DIR      start; says where it listens
    tests/stack/clickhouse.py down DIR    end it; what it holds stays in DIR
    tests/stack/clickhouse.py run DIR     the same until standard input ends

With `--engine 26.1` it is an elder one whose Kafka engine works; in the newest it does not, within another process.

`run` is for tests: each line on standard input is a command, answered by one line: `stop` (SIGTERM), `kill` (SIGKILL), `pause`
(SIGSTOP), `resume`, `start`. When standard input ends, however the test ended, so does the engine.

No server of ClickHouse is published where tests can fetch it; the engine is, as a Python package (chdb-core), and what it computes and
keeps is what a server does. Not there: users, row policies, replication, the native protocol, answers that stream, inserts that
the server gathers. Brought once, 0.6 GB, into TRIBUTARY_CACHE (else ~/.cache/tributary). It takes 0.3 to 0.6 GB of memory and 2 s
to start.
"""
import argparse, json, pathlib, shutil, signal, sys

import parts

VERSIONS = {"26.9": "26.9.0", "26.1": "26.1.0"}
START_SECONDS_MAX = 60
SOURCE = pathlib.Path(__file__).resolve().parent / "clickhouse"


class Server:
    """The engine whose data are in a folder."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.process = parts.Process(self.folder)

    def is_there(self):
        return (self.folder / "settings.json").exists()

    def configure(self, engine):
        """Chooses where it listens and which engine it is, unless the folder says so already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.is_there():
            (self.folder / "settings.json").write_text(json.dumps(dict(port=parts.free_ports(1)[0], engine=engine)))

    def setting(self, name):
        return json.loads((self.folder / "settings.json").read_text())[name]

    def url(self):
        return f"http://127.0.0.1:{self.setting('port')}"

    def start(self):
        engine = self.setting("engine")
        python = parts.python(f"clickhouse-{VERSIONS[engine]}", SOURCE / f"requirements-{engine}.txt")
        # An analyst's dates are those of the engine's time zone: see sql/README.md.
        command = ["/usr/bin/env", "TZ=UTC", str(python), str(SOURCE / "skin.py"), "--path", str(self.folder / "data"),
                   "--port", str(self.setting("port")), "--config", str(SOURCE / "server.xml")]
        self.process.begin(command)
        self.process.await_word("READY", START_SECONDS_MAX)

    def stop(self):
        # One that pauses heeds nothing.
        self.process.send(signal.SIGCONT)
        self.process.stop()

    def obey(self, line):
        """Does what a line of standard input asks for; returns the answer."""
        word = line.strip()
        if word == "start":
            self.start()
        elif not self.process.obey(word):
            return f"unknown: {word!r}; commands: stop, kill, pause, resume, start"
        return "ok"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=["up", "down", "run"])
    p.add_argument("dir", help="folder of its data")
    p.add_argument("--engine", choices=list(VERSIONS), default="26.9")
    p.add_argument("--forget", action="store_true", help="with run: remove DIR at the end")
    a = p.parse_args()
    server = Server(a.dir)
    if a.command == "down":
        if not server.is_there():
            sys.exit(f"{server.folder} holds no engine")
        server.stop()
        return
    server.configure(a.engine)
    where = lambda: [f"URL={server.url()}"]
    if a.command == "up":
        server.start()
        print(*where(), sep="\n", flush=True)
        return

    def end():
        server.stop()
        if a.forget:
            shutil.rmtree(server.folder, ignore_errors=True)

    parts.serve_commands(server.start, where, server.obey, end)


if __name__ == "__main__":
    main()
