//! What several themes use: where things are, running the program, reading its files.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A path within the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs the program from the project's folder.
pub fn tributary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(arguments)
        .current_dir(project("."))
        .output()
        .expect("the program can be started")
}

/// What a run said, for the message of an assertion.
pub fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// A number to draw from, new each time unless it is given.
pub fn seed() -> u64 {
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let seed = given.unwrap_or_else(|| now() as u64 % 1_000_000);
    println!("SEED={seed}");
    seed
}

/// A program that runs beside the test, and ends with it.
pub struct Running {
    pub child: Child,
    errors: tempfile::NamedTempFile,
}

/// Starts the program from the project's folder.
pub fn spawn(arguments: &[String], out: Stdio) -> Running {
    let errors = tempfile::NamedTempFile::new().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .args(arguments)
        .current_dir(project("."))
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors.reopen().unwrap())
        .spawn()
        .expect("the program can be started");
    Running { child, errors }
}

impl Running {
    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_for("the program to end", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// Whether its standard output takes nothing more until somebody reads.
    pub fn is_blocked(&self) -> bool {
        let out = self.child.stdout.as_ref().expect("the test holds the other end");
        // The same pipe, as its writer sees it.
        let path = format!("/proc/self/fd/{}", out.as_raw_fd());
        let writer = fs::OpenOptions::new().write(true).open(path).unwrap();
        let mut ends = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
        poll(&mut ends, PollTimeout::ZERO).unwrap() == 0
    }

    /// Whether it would end by itself when it is asked to.
    pub fn heeds_ends(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let caught = status.unwrap_or_default();
        let caught = caught.lines().find_map(|line| line.strip_prefix("SigCgt:")?.trim().into());
        let signals = caught.and_then(|mask: &str| u64::from_str_radix(mask, 16).ok());
        signals.is_some_and(|mask| mask >> (Signal::SIGTERM as u64 - 1) & 1 == 1)
    }

    /// What it said on standard error so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.errors.path()).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so; a minute is for ever.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A path as an argument.
pub fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders are UTF-8")
}

/// Asks a program to end, as a supervisor does.
pub fn ask_to_end(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
}
