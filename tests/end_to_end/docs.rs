//! The commands of docs/kafka.md, as they stand there.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{game::wait_for, stack::project, topics::read};

#[test]
fn commands_of_the_page_on_kafka_work() {
    let text = fs::read_to_string(project("docs/kafka.md")).expect("the page");
    let block = text.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.expect("a block of commands").replace("\\\n", " ");
    let folder = tempfile::tempdir().expect("a folder");
    let (mut address, mut ran) = (String::new(), Vec::new());
    for line in block.lines() {
        let line = line.replace("127.0.0.1:9092", &address);
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for word in &mut words {
            if word == "kafka-try" {
                *word = folder.path().join("kafka-try").display().to_string();
            }
        }
        let program = match words[0].as_str() {
            "tributary" => env!("CARGO_BIN_EXE_tributary").to_owned(),
            other => other.to_owned(),
        };
        let mut command = Command::new(program);
        command.args(&words[1..]).current_dir(project(".")).stderr(Stdio::piped());
        if words[1] == "run" {
            let mut engine = command.spawn().expect("it can be started");
            wait_for("the engine to commit", Duration::from_secs(60), || {
                assert!(engine.try_wait().expect("it was started").is_none(), "it ended");
                !read(&address, "attendance_progress").is_empty()
            });
            kill(Pid::from_raw(engine.id() as i32), Signal::SIGTERM).expect("it runs");
            assert!(engine.wait().expect("it was started").success(), "{line}");
        } else {
            let done = command.output().expect("it can be started");
            let (out, err) = (&done.stdout, &done.stderr);
            let said = String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err);
            assert!(done.status.success(), "{line}: {said}");
            if let Some(brokers) = said.lines().find_map(|line| line.strip_prefix("BOOTSTRAP=")) {
                address = brokers.to_owned();
            }
        }
        ran.push(words[1].clone());
    }
    assert_eq!(ran, ["tests/stack/kafka.py", "init", "feed", "run", "tests/stack/kafka.py"]);
}
