//! People in systems of record: a university whose people change in an index while everything dies,
//! against the executable specification; and one dataflow over three systems.

use std::{fs, time::Duration};

use nix::sys::signal::Signal;
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use serde_json::{Value, json};

use crate::{
    elasticsearch::Index,
    game::{Game, Plan, number, seed, wait_for},
    small::{PATIENCE, Small},
    stack::{Node, Stack, StandIn, project},
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The engine, and the feed inside it, is killed.
    Engine,
    /// The node is killed, and started again after a while.
    Node,
    /// Both.
    Both,
    /// The broker is killed, and started again.
    Broker,
    /// The engine is asked to end.
    End,
}

const FAULTS: [Fault; 5] = [Fault::Engine, Fault::Node, Fault::Both, Fault::Broker, Fault::End];

#[test]
fn records_follow_people_who_change_in_an_index() {
    let seed = seed();
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut below = |end: u64| dice.next_u64() % end;
    let rounds = number("ROUNDS", 5);
    let stack = Stack::with(&["--set", "log.cleaner.enable=false"]);
    let node = Node::alone();
    let plan = Plan {
        seed,
        events: number("EVENTS", 8_000),
        lasts: Duration::from_secs(20 * rounds),
        storms: 1,
        people_in: Some(node),
        ..Plan::default()
    };
    let mut game = Game::begin(stack, plan);
    let options = ["--atomic-max", "0", "--fuel", "50"];
    let mut run = game.start(1, 2, &options);
    game.await_commit(&mut run);
    let mut happened = Vec::new();
    for round in 0..rounds {
        let fault = FAULTS[(seed + round) as usize % FAULTS.len()];
        game.flow_up_to((round + 1) as f64 / (rounds + 1) as f64);
        std::thread::sleep(Duration::from_millis(below(3_000)));
        assert!(!game.is_produced(), "people change through all of it");
        happened.push(fault);
        if matches!(fault, Fault::Node | Fault::Both) {
            node.command("kill");
        }
        if fault == Fault::Broker {
            stack.command("kill 1");
            stack.command("start 1");
        }
        match fault {
            Fault::Engine | Fault::Both => {
                run.crash(0);
                run = game.start(1, 1 + below(2) as usize, &options);
            }
            Fault::End => {
                run.end();
                run = game.start(1, 2, &options);
            }
            Fault::Node | Fault::Broker => {}
        }
        if matches!(fault, Fault::Node | Fault::Both) {
            // Clicks come through while nobody answers.
            game.await_commit(&mut run);
            wait_for("the feed to say that nobody answers", PATIENCE, || {
                run.said().contains("what was known stands, and it is tried again")
            });
            node.command("start");
        }
        game.await_commit(&mut run);
    }
    game.settle(&mut run);
    run.end();
    let records = game.judge();
    println!("{happened:?}; {records} records");
}

/// That a further system is a matter of configuration: groups come from an index, further columns
/// from a portal and a base.
#[test]
fn columns_of_one_record_come_from_three_systems() {
    let (portal, base) = (StandIn::start("bitrix24.py"), StandIn::start("onec.py"));
    let index = Index::new(Node::get(), "three");
    let name = "three";
    let spec = fs::read_to_string(project("dataflows/attendance_sources.toml")).expect("a spec");
    let small = Small::of(name, &spec.replace("name = \"attendance_sources\"", "name = \"three\""));
    let secret = |name: &str, text: &str| {
        let path = small.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let webhook = secret("webhook", "1/webhook5ecret");
    let password = secret("password", "pa55word");
    let feed = "feed = { look = \"100ms\", delete_after = \"1s\" }";
    let place = format!(
        "[kafka]\nbrokers = [\"{}\"]\n\
         [sources.people]\nkind = \"elasticsearch\"\nurls = [\"{}\"]\nindex = \"{name}\"\n{feed}\n\
         [sources.bitrix24]\nkind = \"bitrix24\"\nurl = \"{}\"\nentity = \"contact\"\n\
         webhook = {{ file = \"{webhook}\" }}\n{feed}\n\
         [sources.onec]\nkind = \"1c\"\nurl = \"{}/base/odata/standard.odata\"\n\
         entity = \"Catalog_Students\"\nusername = \"feed\"\npassword = {{ file = \"{password}\" }}\n\
         exchange = \"ExchangePlan_Tributary\"\nnode = \"TRIBUTARY\"\n{feed}\n",
        Stack::get().brokers,
        Node::get().url,
        portal.url,
        base.url,
    );
    let small = Small { at: ["--config".to_owned(), secret("place.toml", &place)], ..small };
    index.make(1);
    let student = |group: &str| {
        json!({
            "PERSONAL": { "type": "student", "BITRIX_USER_ID": 7 },
            "EDUCATION": [{ "department": { "short_title": group } }],
        })
    };
    let contact = |status: &str| {
        let item = json!({ "id": 70, "ufCrmStudentId": "7", "ufCrmStatus": status });
        portal.ask("put", &json!({ "entity": 3, "items": [item] }));
    };
    let contract = |number: &str| {
        let key = "00000000-0000-0000-0000-000000000007";
        let entry = json!({ "Ref_Key": key, "StudentId": "7", "ContractNumber": number });
        base.ask("put", &json!({ "entity": "Catalog_Students", "entries": [entry] }));
    };
    index.write([("p7", Some(student("A-1")))]);
    contact("studies");
    let event = json!({
        "ID": "00000000-0000-0000-0000-000000000001", "JOURNAL_ID": 1, "STUDENT_ID": 7,
        "LESSON_DATE": "2025-06-01", "ATTENDANCE_MARK": 1, "MARKED_BY": 7,
        "DATE_CREATE": "2025-06-01 10:00:00", "LESSON_ID": 1, "MARKED_BY_ROLE": 0,
    });
    small.send(0, &[(1, event.to_string().into_bytes())]);
    let mut engine = small.start(&[]);
    // The base has no such entries yet: nothing goes out without it.
    wait_for("the engine to wait for the base", PATIENCE, || {
        assert_eq!(engine.code(), None, "{}", engine.said());
        let said = engine.said();
        said.contains("waits for the first snapshot") && said.contains("published for OData")
    });
    assert!(small.read("enriched").is_empty());
    contract("C-1");
    let shows = |columns: [&str; 3]| {
        let newest = small.read("enriched").pop().map(|record| record.value);
        let record: Value = serde_json::from_slice(&newest.unwrap_or_default()).unwrap_or_default();
        let named = ["GROUP_SHORT_TITLE", "STUDENT_STATUS", "CONTRACT_NUMBER"];
        named.iter().zip(columns).all(|(name, value)| record[name] == value)
    };
    wait_for("a record of all three", PATIENCE, || shows(["A-1", "studies", "C-1"]));
    assert_eq!(small.read("enriched").len(), 1);
    index.write([("p7", Some(student("A-2")))]);
    wait_for("another group", PATIENCE, || shows(["A-2", "studies", "C-1"]));
    contact("is on leave");
    wait_for("another status", PATIENCE, || shows(["A-2", "is on leave", "C-1"]));
    contract("C-2");
    wait_for("another contract", PATIENCE, || shows(["A-2", "is on leave", "C-2"]));
    let (code, said) = small.tributary(&["status"]);
    assert_eq!(code, Some(0), "{said}");
    for source in ["people", "bitrix24", "onec"] {
        assert!(said.contains(source), "{source} in {said}");
    }
    engine.signal(Signal::SIGTERM);
    wait_for("the engine to end", PATIENCE, || engine.code().is_some());
    for what in ["over_the_limit", "counted"] {
        assert_eq!(portal.counts(what), 0, "{what}");
    }
    for what in ["broken", "not_understood"] {
        assert_eq!(base.counts(what), 0, "{what}");
    }
}
