"""What is missing on a machine is named, with what to do."""
import os, pathlib, subprocess, sys, tempfile, unittest

HERE = pathlib.Path(__file__).resolve().parent


class Missing(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def says(self, code, **environment):
        """What a machine says that has nothing but this."""
        environment = {"PATH": str(self.folder), "HOME": str(self.folder), "TRIBUTARY_CACHE": str(self.folder / "cache")} | environment
        done = subprocess.run([sys.executable, "-c", code], cwd=HERE, env=environment, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        return done.stderr

    def command(self, path, says):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{says}\n")
        path.chmod(0o755)
        return path

    def test_java(self):
        asks = f"import parts; parts.JAVAS = {str(self.folder)!r}; parts.java(17, 'Kafka')"
        self.assertIn("java is missing or older than 17: Kafka needs Java 17 or newer; install one", self.says(asks))
        self.command("java", """echo 'openjdk version "11.0.2"' >&2""")
        self.assertIn("java is missing or older than 17", self.says(asks))
        home = self.command("home/bin/java", """echo 'openjdk version "1.8.0"' >&2""").parent.parent
        self.assertIn(f"{home}/bin/java is missing or older than 17", self.says(asks, JAVA_HOME=str(home)))

    def test_maven(self):
        said = self.says("import kafka; kafka.jars()")
        self.assertIn("mvn is missing: install Maven (maven), which brings the jars", said)
        self.command("mvn", "echo no repository can be reached >&2; exit 1")
        said = self.says("import kafka; kafka.jars()")
        self.assertIn("no repository can be reached", said)
        self.assertIn("Maven could not bring the jars", said)
        self.assertFalse((self.folder / "cache" / "kafka-3.9.1").exists(), "half a part is none")


if __name__ == "__main__":
    unittest.main()
