//! Dead letters over Kafka: listed, shown, repaired, and brought back once. What a process says of
//! itself over HTTP, and what `status` says of a dataflow.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use crate::{
    game::wait_for,
    small::{PATIENCE, Small},
};

#[test]
fn letters_are_listed_shown_repaired_and_brought_back_once() {
    let small = Small::new("letters");
    small.produce(0, 1..3);
    small.send(0, &[(3, br#"{"ID":3}"#.to_vec())]);
    small.send(1, &[(4, b"\xff\xfe".to_vec())]);
    small.run_until(2, &[]);
    wait_for("both letters", PATIENCE, || small.read("dead_letters").len() == 2);
    let (code, listed) = small.tributary(&["dead-letters list"]);
    assert!(code == Some(0) && listed.contains("missing") && listed.contains("AT"), "{listed}");
    assert!(listed.contains("not_utf8") && listed.contains("2 letter(s)"), "{listed}");
    assert!(!listed.contains(r#""ID""#), "nothing of the event: {listed}");
    let (code, some) = small.tributary(&["dead-letters list", "--reason", "not_utf8"]);
    assert!(code == Some(0) && some.contains("1 letter(s)") && !some.contains("missing"), "{some}");
    let with_values = ["dead-letters list", "--json", "--values"];
    let (code, lines) = small.tributary(&with_values);
    assert_eq!(code, Some(0), "{lines}");
    let letter = lines.lines().find(|line| line.contains("missing")).expect("it is listed");
    let parsed: serde_json::Value = serde_json::from_str(letter).expect("a line is JSON");
    let place = format!("{}/{}", parsed["partition"], parsed["offset"]);
    let (code, shown) = small.tributary(&["dead-letters show", &place]);
    assert!(code == Some(0) && shown.contains(r#"{"ID":3}"#), "{shown}");
    let repaired = letter.replace(r#"{\"ID\":3}"#, r#"{\"ID\":3,\"AT\":\"2024-01-01 00:00:00\"}"#);
    assert_ne!(repaired, letter);
    let file = small.folder.path().join("repaired.ndjson");
    fs::write(&file, repaired + "\n").expect("a file");
    let replay = ["dead-letters replay", file.to_str().expect("UTF-8")];
    let (code, said) = small.tributary(&replay);
    assert!(code == Some(0) && said.contains("1 letter(s) are events again"), "{said}");
    // Whoever asks again, before or after the engine has seen it, changes nothing.
    let (code, said) = small.tributary(&replay);
    assert!(
        code == Some(0) && said.contains("0 letter(s)") && said.contains("1 were so"),
        "{said}"
    );
    small.run_until(3, &[]);
    assert_eq!(small.read("all").len(), 3);
    assert_eq!(small.read("dead_letters").len(), 2);
    let (code, said) = small.tributary(&["dead-letters replay"]);
    assert!(code == Some(2) && said.contains("--all"), "{said}");
    let (code, said) = small.tributary(&["dead-letters show", "0/999"]);
    assert!(code == Some(2) && said.contains("0/999"), "{said}");
}

/// When an event was made, as it stands in a letter's JSON.
const MADE: &str = r#"\"AT\":\"2024-01-01 00:00:00\""#;

/// Whatever a replay dies at, each letter is an event again once.
#[test]
#[cfg_attr(not(feature = "failpoints"), ignore = "needs failpoints")]
fn replay_that_dies_brings_back_each_letter_once() {
    let small = Small::new("revived");
    let broken = |id: u32| (id, format!("{{\"ID\":{id}}}").into_bytes());
    small.send(0, &(0..6).map(broken).collect::<Vec<_>>());
    small.produce(1, 6..7);
    small.run_until(1, &[]);
    wait_for("the letters", PATIENCE, || small.read("dead_letters").len() == 6);
    let (_, lines) = small.tributary(&["dead-letters list", "--json", "--values"]);
    let repaired = (0..6).fold(lines, |lines, id| {
        let (broken, whole) = (format!(r#"{{\"ID\":{id}}}"#), format!(r#"{{\"ID\":{id},{MADE}}}"#));
        assert!(lines.contains(&broken), "{lines}");
        lines.replace(&broken, &whole)
    });
    let file = small.folder.path().join("repaired.ndjson");
    fs::write(&file, repaired).expect("a file");
    let file = file.to_str().expect("UTF-8");
    for step in ["produce-after=3*off->panic", "commit-before=panic", "commit-after=panic"] {
        let mut replay = small.begin("dead-letters replay", &[file], &[("FAILPOINTS", step)]);
        wait_for(step, PATIENCE, || replay.code().is_some());
        assert!(replay.said().contains("failpoint"), "{step}: {}", replay.said());
    }
    let (code, said) = small.tributary(&["dead-letters replay", file]);
    assert!(code == Some(0) && said.contains("0 letter(s)"), "the third committed: {said}");
    small.run_until(7, &[]);
    let events = small.read("events");
    for id in 0..6 {
        let of = |event: &&crate::topics::Seen| {
            event.value.starts_with(format!("{{\"ID\":{id},").as_bytes())
        };
        assert_eq!(events.iter().filter(of).count(), 1, "{id}");
    }
    assert_eq!(small.read("all").len(), 7);
}

/// Asks over HTTP; returns the status and all that was said.
pub fn get(port: u16, path: &str, more: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

#[test]
fn a_process_says_how_it_is_and_status_how_far_the_dataflow_is() {
    let small = Small::new("watched");
    small.produce(0, 1..4);
    let held = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = held.local_addr().expect("it is bound").port();
    drop(held);
    let token = small.folder.path().join("token");
    fs::write(&token, "hush\n").expect("a file");
    let address = format!("127.0.0.1:{port}");
    let options = ["--http", &address, "--http-token", token.to_str().expect("UTF-8")];
    let engine = small.start(&options);
    wait_for("the engine to be ready", PATIENCE, || {
        get(port, "/readyz", "").is_some_and(|(status, _)| status == 200)
    });
    assert_eq!(get(port, "/livez", "").expect("it answers").0, 200);
    // Who says nothing is not waited for long, however many there are.
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", port))).collect();
    assert!(silent.iter().all(Result::is_ok), "they come in");
    assert_eq!(get(port, "/livez", "").expect("it answers").0, 200);
    drop(silent);
    let (status, said) = get(port, "/metrics", "").expect("it answers");
    assert!(status == 401 && said.contains("application/problem+json"), "{said}");
    assert!(!said.contains("hush"), "{said}");
    let shown = "Authorization: Bearer hush\r\n";
    wait_for("the lag to be none", PATIENCE, || {
        let (status, said) = get(port, "/metrics", shown).expect("it answers");
        assert_eq!(status, 200, "{said}");
        ["0", "1"]
            .iter()
            .all(|p| said.contains(&format!("tributary_lag{{input=\"events-{p}\"}} 0\n")))
            && said.contains("tributary_generation 1\n")
            && !said.contains("tributary_commit_seconds_count 0\n")
    });
    let (code, said) = small.tributary(&["status"]);
    assert!(code == Some(0) && said.contains("watched: start 1"), "{said}");
    let (code, said) = small.tributary(&["status", "--json"]);
    let parsed: serde_json::Value =
        serde_json::from_str(said.lines().next().unwrap_or_default()).expect("it is JSON");
    assert_eq!(code, Some(0));
    let lags = parsed["inputs"].as_array().expect("it has inputs");
    assert!(lags.len() == 2 && lags.iter().all(|input| input["lag"] == 0), "{said}");
    assert_eq!(parsed["writers"].as_array().map(Vec::len), Some(1), "{said}");
    drop(engine);
    // Where nothing comes after a start nothing is behind, though nothing was committed.
    let _engine = small.start(&options);
    wait_for("the lag to be none again", PATIENCE, || {
        get(port, "/metrics", shown).is_some_and(|(_, said)| {
            said.contains("tributary_generation 2\n")
                && said.contains("tributary_lag{input=\"events-0\"} 0\n")
        })
    });
    let open = ["run", "--http", "0.0.0.0:9464"];
    let (code, said) = small.tributary(&open);
    assert!(code == Some(2) && said.contains("--http-token"), "{said}");
}
