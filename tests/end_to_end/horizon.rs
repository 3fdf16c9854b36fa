//! The horizon over Kafka: what comes too late is a dead letter, before a crash and after.

use jiff::{SignedDuration, Timestamp};

use crate::{
    game::wait_for,
    small::{PATIENCE, Small},
};

#[test]
fn what_was_made_before_the_horizon_is_a_dead_letter() {
    let small = Small::with("horizon", "horizon = \"30d\"\n");
    let event = |id: u32, days: i64| {
        let at = Timestamp::now() - SignedDuration::from_hours(24 * days);
        let at = at.strftime("%Y-%m-%d %H:%M:%S");
        (id, format!("{{\"ID\":{id},\"AT\":\"{at}\"}}").into_bytes())
    };
    let too_late = event(2, 31);
    small.send(0, &[event(1, 29), too_late.clone(), event(3, 0), event(4, -40)]);
    // One partition is empty, the other one is read to its end.
    small.run_until(3, &[]);
    wait_for("the letter", PATIENCE, || small.read("dead_letters").len() == 1);
    small.send(0, &[event(5, 1), event(6, 31), event(7, 30), event(8, 2)]);
    small.run_until(5, &[]);
    wait_for("the letters", PATIENCE, || small.read("dead_letters").len() == 3);
    let mut keys: Vec<String> = small
        .read("all")
        .into_iter()
        .map(|record| String::from_utf8(record.key).expect("keys are text"))
        .collect();
    keys.sort();
    let letters = small.read("dead_letters");
    let reasons: Vec<&str> = letters.iter().map(|l| l.headers["reason"].as_str()).collect();
    assert_eq!(keys, ["1", "3", "4", "5", "8"], "the one of 30 days came a moment too late");
    assert_eq!(reasons, ["behind_horizon"; 3]);
    assert_eq!(letters[0].value, too_late.1);
    assert_eq!(letters[0].headers["column"], "AT");
}
