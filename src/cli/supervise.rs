//! Supervising: a run that ends for a passing reason is started again.
//!
//! Shape: the arguments of this process in; a child with the same, as often as it takes.
//!
//! Invariants: what no new start can mend (wrong arguments, a refused spec, another start that has
//! taken over, what the operator is to decide) is not started again, and its exit code is this
//! one's. What the operator accepts is accepted once: a later loss waits for another word.

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tracing::{info, warn};

use super::{Failure, watch::end_when_asked};

/// The option that makes a process a supervisor; its child has all others.
pub(super) const OPTION: &str = "--supervise";

/// Options of the first start alone.
const ACCEPT: [&str; 2] = ["--accept-loss", "--accept-partitions"];

/// The pause before a new start: at first, and at most, doubled each time in between.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// After so long a run was a good one, and the next pause is the first again.
const GOOD_RUN: Duration = Duration::from_secs(60);

const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Exit codes after which a new start would end the same.
const FINAL: [i32; 4] = [2, 3, 4, 5];

/// The child cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start this program again as a child")]
struct Unstarted(#[source] io::Error);

/// Runs the program that this process is, without `--supervise`, until it ends for good.
pub(super) fn supervise() -> Result<(), Failure> {
    let end = end_when_asked()?;
    let program = std::env::current_exe().map_err(|error| Failure::failed(Unstarted(error)))?;
    let mut arguments: Vec<OsString> =
        std::env::args_os().skip(1).filter(|a| *a != *OPTION).collect();
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        // A terminal's Ctrl-C is for the supervisor, which hands it on: twice would be a kill.
        let child = Command::new(&program).args(&arguments).process_group(0).spawn();
        let mut child = child.map_err(|error| Failure::failed(Unstarted(error)))?;
        info!(process = child.id(), "started");
        arguments.retain(|argument| ACCEPT.iter().all(|option| *argument != **option));
        let status = wait(&mut child, &|| end.load(Ordering::Relaxed));
        let status = status.map_err(|error| Failure::failed(Unstarted(error)))?;
        match status.code() {
            Some(0) => return Ok(()),
            Some(code) if FINAL.contains(&code) => return Err(Failure::Told(code as u8)),
            code if end.load(Ordering::Relaxed) => {
                return Err(Failure::Told(code.unwrap_or(1) as u8));
            }
            _ => {}
        }
        if began.elapsed() >= GOOD_RUN {
            pause = PAUSE_MIN;
        }
        warn!(%status, pause_s = pause.as_secs(), "ended; is started again after a pause");
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if end.load(Ordering::Relaxed) {
                return Ok(());
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Waits for the end of a child; hands it on that this process was asked to end.
fn wait(child: &mut Child, is_to_end: &dyn Fn() -> bool) -> io::Result<ExitStatus> {
    let mut is_told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if is_to_end() && !std::mem::replace(&mut is_told, true) {
            // One that has just ended needs no word.
            let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}
