//! A cluster under supervision: one process dies, all are started again, and nothing is lost.

use std::{fs, net::TcpListener};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    game::wait_for,
    small::{Engine, PATIENCE, Small},
};

/// The processes that a supervisor says it has started.
pub fn children(supervisor: &Engine) -> Vec<Pid> {
    let said = supervisor.said();
    let numbers = said.lines().filter_map(|line| line.split("started process=").nth(1));
    numbers.map(|number| Pid::from_raw(number.parse().expect("a number"))).collect()
}

#[test]
fn process_that_dies_takes_its_cluster_along_and_all_are_started_again() {
    let small = Small::new("supervised");
    let ports = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let lines = ports.map(|port| format!("{}\n", port.local_addr().expect("it is bound")));
    let hosts = small.folder.path().join("hosts");
    fs::write(&hosts, lines.concat()).expect("a file");
    let hosts = hosts.to_str().expect("UTF-8");
    let mut supervisors = ["0", "1"].map(|process| {
        small.start(&["--supervise", "--processes", "2", "--process", process, "--hosts", hosts])
    });
    for round in 0..3 {
        let ids = 10 * round..10 * round + 10;
        small.produce((round % 2) as i32, ids.clone());
        wait_for("what came", PATIENCE, || {
            assert!(supervisors.iter_mut().all(|one| one.code().is_none()), "they go on");
            small.read("all").len() == ids.end as usize
        });
        let before = supervisors.each_ref().map(|one| children(one).len());
        if round < 2 {
            let victim = children(&supervisors[round as usize]).pop().expect("it has a child");
            kill(victim, Signal::SIGKILL).expect("it runs");
            wait_for("both to be started again", PATIENCE, || {
                let now = supervisors.each_ref().map(|one| children(one).len());
                now.iter().zip(before).all(|(now, before)| *now > before)
            });
        }
    }
    supervisors.iter().for_each(|one| one.signal(Signal::SIGTERM));
    wait_for("both to end", PATIENCE, || supervisors.iter_mut().all(|one| one.code().is_some()));
    let said = supervisors.each_ref().map(Engine::said).concat();
    assert!(supervisors.iter_mut().any(|one| one.code() == Some(0)), "{said}");
    assert_eq!(small.read("all").len(), 30, "nothing twice");
}
