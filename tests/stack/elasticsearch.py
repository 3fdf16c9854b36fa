#!/usr/bin/env python3
"""A real Elasticsearch node on a free loopback port, put together from Maven Central's artifacts.

    tests/stack/elasticsearch.py up DIR [--set NAME=VALUE ...]   start; says where it listens
    tests/stack/elasticsearch.py down DIR                        end it; what it holds stays in DIR
    tests/stack/elasticsearch.py run DIR [...]                   the same until standard input ends

`run` is for tests: each line on standard input is a command, answered by one line: `stop` (SIGTERM), `kill` (SIGKILL), `pause`
(SIGSTOP), `resume`, `start`. When standard input ends, however the test ended, so does the node.

Needs a JDK of version 21 or newer (JAVA_HOME, else PATH, else the newest in /usr/lib/jvm) and Maven, which brings the jars once, 38 MB,
into TRIBUTARY_CACHE (else ~/.cache/tributary). The node takes 0.3 to 0.6 GB of memory and 3 to 10 s to start. What Elastic does not
publish as artifacts is not there: no security, no TLS, no scripts, and so no *_by_query.
"""
import argparse, json, os, pathlib, shutil, signal, sys, time, urllib.request

import parts

VERSION = "9.0.2"
JAVA = 21
HEAP = "512m"
START_SECONDS_MAX = 90
SOURCE = pathlib.Path(__file__).resolve().parent / "elasticsearch"


def java():
    return parts.java(JAVA, f"Elasticsearch {VERSION}")


def home():
    """Where the server is: its libraries and modules."""
    def make(coming):
        shutil.copytree(SOURCE, coming, dirs_exist_ok=True)
        # Maven compiles by the Java that runs the node.
        jdk = pathlib.Path(shutil.which(java())).resolve().parent.parent
        if not (jdk / "bin" / "javac").exists():
            sys.exit(f"{jdk} has no javac: the node's starter is compiled once; install a JDK of version {JAVA} or newer")
        parts.maven(coming / "pom.xml", "package", env={**os.environ, "JAVA_HOME": str(jdk)})
    return parts.bring(f"elasticsearch-{VERSION}", make) / "target" / "home"


class Node:
    """The node whose settings and data are in a folder."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.process = parts.Process(self.folder)

    def is_there(self):
        return (self.folder / "settings.json").exists()

    def configure(self, settings):
        """Writes the settings, unless the folder has some already."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.is_there():
            ports = parts.free_ports(2)
            text = json.dumps(dict(ports=ports, settings=settings))
            (self.folder / "settings.json").write_text(text)

    def settings(self):
        return json.loads((self.folder / "settings.json").read_text())

    def url(self):
        return f"http://127.0.0.1:{self.settings()['ports'][0]}"

    def start(self):
        settings, at = self.settings(), home()
        # Classes as they were linked by an earlier node: half of the time of a start.
        archive = parts.cache() / f"elasticsearch-{VERSION}.jsa"
        command = [
            java(), f"-Xms{HEAP}", f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-XX:+AutoCreateSharedArchive", f"-XX:SharedArchiveFile={archive}",
            f"-Djava.io.tmpdir={self.folder / 'tmp'}", "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow", "-Dlog4j2.disable.jmx=true", "-Des.log=WARN",
            "-cp", f"{at / 'lib'}/*", "launcher.Launcher", str(at), str(self.folder), *map(str, settings["ports"]),
            # Where snapshots of indices may be kept.
            f"path.repo={self.folder / 'snapshots'}", *settings["settings"],
        ]
        (self.folder / "tmp").mkdir(exist_ok=True)
        self.process.begin(command)
        self.process.await_word("READY", START_SECONDS_MAX)
        # The node serves before it has its indices again.
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            with urllib.request.urlopen(f"{self.url()}/_cluster/health", timeout=START_SECONDS_MAX) as answer:
                health = json.load(answer)
            if health["status"] != "red" and health["initializing_shards"] == 0:
                return
            time.sleep(0.05)
        sys.exit(f"the node's indices did not come back in {START_SECONDS_MAX} s: {health}")

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
    p.add_argument("dir", help="folder of its settings and data")
    p.add_argument("--forget", action="store_true", help="with run: remove DIR at the end")
    p.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the node, of a new folder")
    a = p.parse_args()
    node = Node(a.dir)
    if a.command == "down":
        if not node.is_there():
            sys.exit(f"{node.folder} holds no node")
        node.stop()
        return
    node.configure(a.set)
    where = lambda: [f"URL={node.url()}"]
    if a.command == "up":
        node.start()
        print(*where(), sep="\n", flush=True)
        return

    def end():
        node.stop()
        if a.forget:
            shutil.rmtree(node.folder, ignore_errors=True)

    parts.serve_commands(node.start, where, node.obey, end)


if __name__ == "__main__":
    main()
