//! The protocol of ARCHITECTURE section 12 as a model, every order of its steps tried: starts,
//! zombies, kills, ends of transactions that are lost, late or sent again, corrections that are
//! spread.
//!
//! Two workers, four shards, an input of three items: the events come with the first, documents
//! change with the others. What is checked in every state that can be reached: a shard shows what
//! the inputs up to its vector say, with documents not older than its `settled`; its epochs grow;
//! an epoch has one vector. Each rule that the protocol rests on can be taken out, and then the
//! checker must find the fault that it is there for: so the model sees what it is to see.
//!
//! Not here: what is one step in the model and several in the engine, each guarded by one
//! transactional id (taking the lead, reading and writing its record).

mod protocol;
mod world;

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    protocol::{Limits, Protocol, Rules},
    world::Script,
};

/// Checks every state; returns how many there were.
fn holds(limits: Limits, script: Script) -> usize {
    let protocol = Protocol { rules: Rules::ALL, limits, script };
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    checker.unique_state_count()
}

/// The checker must find a fault; says how it comes about.
fn breaks(limits: Limits, script: Script, without: impl FnOnce(&mut Rules)) {
    let mut rules = Rules::ALL;
    without(&mut rules);
    let protocol = Protocol { rules, limits, script };
    let failures = HasDiscoveries::AnyFailures;
    let checker = protocol.checker().threads(2).finish_when(failures).spawn_bfs().join();
    let fault = checker.discovery("outputs are as they must be");
    let path = fault.unwrap_or_else(|| panic!("{rules:?}: {} states", checker.state_count()));
    println!("{}", path.into_actions().iter().map(|a| format!("{a:?}\n")).collect::<String>());
}

/// One start after another, of different shapes, the first killed at any step.
const CRASHES: Limits =
    Limits { starts: 2, kills: 1, at_once: 1, disturbed: 1, epochs: 4, narrow_starts: true };

/// Two starts at once, so that either may be the zombie of the other.
const ZOMBIES: Limits =
    Limits { starts: 2, kills: 0, at_once: 2, disturbed: 0, epochs: 2, narrow_starts: true };

/// `MODEL=whole cargo test --release --test model` goes further, for some minutes.
fn of(usual: Limits) -> Limits {
    match (std::env::var("MODEL").is_ok_and(|what| what == "whole"), usual.at_once) {
        (true, 1) => Limits { starts: 3, kills: 2, ..usual },
        (true, _) => Limits { epochs: usual.epochs + 1, ..usual },
        (false, _) => usual,
    }
}

#[test]
fn crashes_amid_documents_that_go_back_and_forth() {
    println!("{} states", holds(of(CRASHES), Script::BACK_AND_FORTH));
}

#[test]
fn crashes_amid_numbers_that_pass_on() {
    println!("{} states", holds(of(CRASHES), Script::PASSED_ON));
}

#[test]
fn starts_at_once() {
    println!("{} states", holds(of(ZOMBIES), Script::BACK_AND_FORTH));
}

#[test]
fn a_kill_between_two_commits_loses_corrections_unless_they_are_sent_again() {
    breaks(CRASHES, Script::PASSED_ON, |rules| rules.owed_is_sent_again = false);
}

#[test]
fn what_went_and_came_back_stays_wrong_if_only_differences_are_sent_again() {
    breaks(CRASHES, Script::BACK_AND_FORTH, |rules| rules.sends_without_comparing = false);
}

#[test]
fn a_number_that_was_passed_on_stays_wrong_unless_who_held_it_before_counts() {
    breaks(CRASHES, Script::PASSED_ON, |rules| rules.held_before_counts = false);
}

#[test]
fn a_zombie_that_takes_its_id_again_writes_unless_it_looks_who_leads() {
    breaks(ZOMBIES, Script::BACK_AND_FORTH, |rules| rules.looks_again_who_leads = false);
}

#[test]
fn a_rival_that_stalled_once_it_led_writes_unless_it_looks_who_leads() {
    breaks(ZOMBIES, Script::BACK_AND_FORTH, |rules| rules.looks_at_first_who_leads = false);
}

#[test]
fn a_writer_that_never_committed_writes_unless_all_that_were_named_are_fenced() {
    breaks(ZOMBIES, Script::BACK_AND_FORTH, |rules| rules.named_are_fenced = false);
}

#[test]
fn a_neighbours_open_transaction_hides_progress_unless_it_is_waited_for() {
    breaks(CRASHES, Script::BACK_AND_FORTH, |rules| rules.reads_to_the_end = false);
}

#[test]
fn an_end_that_was_sent_twice_tears_the_next_transaction_unless_it_counts_as_unknown() {
    breaks(CRASHES, Script::BACK_AND_FORTH, |rules| rules.disturbed_is_unknown = false);
}
