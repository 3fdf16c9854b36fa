//! The protocol of ARCHITECTURE section 12 as a model, every order of its steps tried: starts,
//! zombies, kills, ends of transactions that are lost, late or sent again, corrections that are
//! spread; and all of it together, in orders that are drawn.
//!
//! Two workers with two writers each, four shards, an input of three items: the events come with the
//! first, documents change with the others. What is checked in every state that can be reached: a
//! shard shows what the inputs up to its vector say, with documents not older than its `settled`;
//! its epochs grow; an epoch has one vector. Each rule that the protocol rests on can be taken out, and then the
//! checker must find the fault that it is there for: so the model sees what it is to see.
//!
//! In orders that are drawn, records are marked later than their transaction is committed, and
//! transactions of writers that live time out; elsewhere not, since that alone makes many times the
//! states.

mod protocol;
mod world;

use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use stateright::{Checker, Chooser, HasDiscoveries, Model};

use crate::{
    protocol::{Action, Limits, Protocol, Rules},
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
const CRASHES: Limits = Limits {
    starts: 2,
    kills: 1,
    at_once: 1,
    disturbed: 1,
    epochs: 4,
    narrow_starts: true,
    is_slow: false,
};

/// Two starts at once, so that either may be the zombie of the other.
const ZOMBIES: Limits = Limits {
    starts: 2,
    kills: 0,
    at_once: 2,
    disturbed: 0,
    epochs: 2,
    narrow_starts: true,
    is_slow: false,
};

/// All of it together: too many states for every order, so orders are drawn.
const TOGETHER: Limits = Limits {
    starts: 3,
    kills: 2,
    at_once: 2,
    disturbed: 2,
    epochs: 4,
    narrow_starts: true,
    is_slow: true,
};

/// Draws orders in which a start goes on for some steps before another one does: one that sleeps
/// while another comes far is a zombie, which even chances hardly ever make.
#[derive(Clone)]
struct Bursts;

impl Chooser<Protocol> for Bursts {
    type State = (Xoshiro256PlusPlus, Option<usize>);

    fn new_state(&self, seed: u64) -> Self::State {
        (Xoshiro256PlusPlus::seed_from_u64(seed), None)
    }

    fn choose_initial_state(&self, _: &mut Self::State, _: &[protocol::State]) -> usize {
        0
    }

    fn choose_action(
        &self,
        (dice, last): &mut Self::State,
        _: &protocol::State,
        actions: &[Action],
    ) -> usize {
        let mut below = |end: usize| (dice.next_u64() % end as u64) as usize;
        let goes_on = |place: &usize| actions[*place].start().is_some_and(|s| Some(s) == *last);
        let on: Vec<usize> = (0..actions.len()).filter(goes_on).collect();
        let place = match on.is_empty() || below(12) == 0 {
            true => below(actions.len()),
            false => on[below(on.len())],
        };
        *last = actions[place].start();
        place
    }
}

/// States that drawn orders pass through.
const DRAWN: usize = 5_000_000;

/// Draws orders; returns how a fault comes about, where one does, and how many states there were.
fn draw(rules: Rules, script: Script, states: usize) -> (Option<String>, usize) {
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64;
    let seed = std::env::var("SEED").map_or(now, |seed| seed.parse().expect("a number"));
    println!("SEED={seed}");
    let checker = Protocol { rules, limits: TOGETHER, script }.checker().threads(2);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).target_state_count(states);
    let checker = checker.spawn_simulation(seed, Bursts).join();
    let fault = checker.discovery("outputs are as they must be");
    let told = fault.map(|path| format!("{:#?}", path.into_actions()));
    (told, checker.state_count())
}

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
fn all_of_it_together_in_orders_that_are_drawn() {
    let times = if std::env::var("MODEL").is_ok_and(|what| what == "whole") { 50 } else { 1 };
    for script in [Script::BACK_AND_FORTH, Script::PASSED_ON] {
        let (fault, states) = draw(Rules::ALL, script, times * DRAWN);
        assert!(fault.is_none(), "{}", fault.unwrap_or_default());
        assert!(states >= times * DRAWN, "{states} states");
    }
}

/// That the orders which are drawn come to where the faults are.
#[test]
fn orders_that_are_drawn_find_what_is_taken_out() {
    type TakeOut = fn(&mut Rules);
    let taken: [(&str, Script, TakeOut); 10] = [
        ("guarded", Script::BACK_AND_FORTH, |rules| rules.lead_is_guarded = false),
        ("owed", Script::PASSED_ON, |rules| rules.owed_is_sent_again = false),
        ("compared", Script::BACK_AND_FORTH, |rules| rules.sends_without_comparing = false),
        ("held", Script::PASSED_ON, |rules| rules.held_before_counts = false),
        ("to the end", Script::BACK_AND_FORTH, |rules| rules.reads_to_the_end = false),
        ("again", Script::BACK_AND_FORTH, |rules| rules.looks_again_who_leads = false),
        ("first", Script::BACK_AND_FORTH, |rules| rules.looks_at_first_who_leads = false),
        ("named", Script::BACK_AND_FORTH, |rules| rules.named_are_fenced = false),
        ("both", Script::BACK_AND_FORTH, |rules| rules.both_are_fenced = false),
        ("unknown", Script::BACK_AND_FORTH, |rules| rules.disturbed_is_unknown = false),
    ];
    for (name, script, take_out) in taken {
        let mut rules = Rules::ALL;
        take_out(&mut rules);
        // It ends where one is found.
        let (fault, states) = draw(rules, script, 10 * DRAWN);
        println!("{name}: {states} states");
        assert!(fault.is_some(), "{name}: no fault in {states} states");
    }
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
fn two_starts_of_one_generation_write_unless_the_lead_record_is_guarded() {
    breaks(ZOMBIES, Script::BACK_AND_FORTH, |rules| rules.lead_is_guarded = false);
}

#[test]
fn a_writer_that_never_committed_writes_unless_all_that_were_named_are_fenced() {
    breaks(ZOMBIES, Script::BACK_AND_FORTH, |rules| rules.named_are_fenced = false);
}

#[test]
fn the_writer_whose_turn_is_next_writes_unless_both_are_fenced() {
    breaks(ZOMBIES, Script::BACK_AND_FORTH, |rules| rules.both_are_fenced = false);
}

#[test]
fn a_neighbours_open_transaction_hides_progress_unless_it_is_waited_for() {
    breaks(CRASHES, Script::BACK_AND_FORTH, |rules| rules.reads_to_the_end = false);
}

#[test]
fn an_end_that_was_sent_twice_tears_the_next_transaction_unless_it_counts_as_unknown() {
    breaks(CRASHES, Script::BACK_AND_FORTH, |rules| rules.disturbed_is_unknown = false);
}
