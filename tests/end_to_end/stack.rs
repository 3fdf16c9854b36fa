//! A real Kafka for the tests, ended with the process that runs them, however that ends.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

/// A path within the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Brokers.
pub struct Stack {
    /// Addresses.
    pub brokers: String,
    /// Of each further listener the name and the address.
    listeners: Vec<(String, String)>,
    control: Mutex<Control>,
}

struct Control {
    /// Ends the brokers when it is closed.
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    _child: Child,
}

impl Stack {
    /// The brokers that tests share, which nobody harms; started by who asks first.
    pub fn get() -> &'static Stack {
        static STACK: OnceLock<Stack> = OnceLock::new();
        // What can be compacted is so at once.
        STACK.get_or_init(|| Stack::start(&["--set", "log.cleaner.backoff.ms=500"]))
    }

    /// Brokers of one test, to do with as it likes, made with these options of
    /// `tests/stack/kafka.py`.
    pub fn with(options: &[&str]) -> &'static Stack {
        Box::leak(Box::new(Stack::start(options)))
    }

    fn start(options: &[&str]) -> Stack {
        let folder = tempfile::tempdir().expect("a folder for the brokers");
        let mut child = Command::new("python3")
            .arg(project("tests/stack/kafka.py"))
            .arg("run")
            .arg(folder.keep())
            .arg("--forget")
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let commands = child.stdin.take().expect("it was asked for");
        let mut answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        let further = options.iter().filter(|option| **option == "--listener").count();
        let mut said = (0..=further).map(|_| {
            let mut line = String::new();
            answers.read_line(&mut line).expect("the brokers say where they are");
            let (name, address) = line.trim().split_once('=').unwrap_or_default();
            (name.to_owned(), address.to_owned())
        });
        let (name, brokers) = said.next().expect("one more than none");
        assert_eq!(name, "BOOTSTRAP", "the brokers start; what they said stands above");
        let listeners = said.collect();
        let control = Mutex::new(Control { commands, answers, _child: child });
        Stack { brokers, listeners, control }
    }

    /// Where a further listener is.
    pub fn listener(&self, name: &str) -> &str {
        let found = self.listeners.iter().find(|(listener, _)| listener == name);
        &found.expect("it was asked for").1
    }

    /// Has something done to a broker: `kill 1`, `start 1`.
    pub fn command(&self, command: &str) {
        let mut control = self.control.lock().expect("no test panics in here");
        writeln!(control.commands, "{command}").expect("the brokers listen");
        let mut answer = String::new();
        control.answers.read_line(&mut answer).expect("the brokers answer");
        assert_eq!(answer.trim(), "ok", "{command}");
    }
}
