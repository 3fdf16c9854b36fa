//! The journal of `tributary demo`: its pages in a real browser, its API under a property tester, a
//! crowd that clicks while the program is killed, held against the specification.
//!
//! The whole crowd: `USERS=500 SECONDS=60 KILLS=0 cargo test --release --test end_to_end
//! journal::crowd -- --nocapture`. Pictures are kept in `target/journal/`. The property tester
//! draws the same with the same `SEED=`, and more with more `EXAMPLES=`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{game::wait_for, small::PATIENCE, stack::project};

/// A journal that listens somewhere.
#[derive(Clone)]
pub struct Site {
    pub address: String,
}

impl Site {
    pub fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, &[], None)
    }

    /// Asks once, with headers.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (u16, Value) {
        let mut connection = Connection::to(&self.address).expect("it listens");
        connection.ask(method, path, headers, body).expect("it answers")
    }
}

/// The journal as a program, over one folder, at one address.
struct Demo {
    child: Child,
    site: Site,
}

impl Demo {
    fn start(state: &Path, address: &str, students: u32, events: u64) -> Demo {
        let program = Command::new(env!("CARGO_BIN_EXE_tributary"));
        Demo::start_by(program, state, address, (students, events))
    }

    /// Starts it by a command that takes its arguments.
    fn start_by(mut program: Command, state: &Path, address: &str, size: (u32, u64)) -> Demo {
        let (students, events) = size;
        let mut child = program
            .args(["demo", "--quiet", "--address", address, "--state"])
            .arg(state)
            .args(["--students", &students.to_string(), "--events", &events.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut said = String::new();
        let out = child.stdout.take().expect("it was asked for");
        BufReader::new(out).read_line(&mut said).expect("it says where it is");
        let address = said.trim().strip_prefix("the journal is at http://");
        let address = address.expect(&said).trim_end_matches('/').to_owned();
        let demo = Demo { child, site: Site { address } };
        wait_for("the past", PATIENCE, || demo.site.get("/v1/session").1["ready"] == true);
        demo
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that is kept.
pub struct Connection {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Connection {
    pub fn to(address: &str) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Connection { stream: BufReader::new(stream), address: address.to_owned() })
    }

    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> std::io::Result<(u16, Value)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let host = ("Host", &*self.address);
        let has_host = headers.iter().any(|(name, _)| *name == "Host");
        let headers = headers.iter().copied().chain((!has_host).then_some(host));
        let headers: String = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nContent-Type: application/json\r\n{headers}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let head = line.trim().to_ascii_lowercase();
            if head.is_empty() {
                break;
            }
            if let Some(rest) = head.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().expect("a status is a number");
            }
            if let Some(rest) = head.strip_prefix("content-length: ") {
                length = rest.parse().expect("a length is a number");
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        // Pages and metrics are none.
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
    }
}

/// The Python that has the packages.
pub fn python() -> PathBuf {
    let script = project("tests/stack/journal.py");
    let said =
        Command::new("python3").arg(script).arg("python").output().expect("python3 is there");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    PathBuf::from(String::from_utf8_lossy(&said.stdout).trim())
}

#[test]
fn pages_work_for_every_role_in_two_browsers() {
    let folder = tempfile::tempdir().expect("a folder");
    let played = Command::new(python())
        .arg(project("tests/stack/journal/browser.py"))
        .args(["--program", env!("CARGO_BIN_EXE_tributary"), "--state"])
        .arg(folder.path().join("state"))
        .arg("--pictures")
        .arg(project("target/journal"))
        .output()
        .expect("it can be started");
    println!("{}", String::from_utf8_lossy(&played.stdout));
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
}

#[test]
fn property_tester_finds_nothing_in_the_api() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = Demo::start(&folder.path().join("state"), "127.0.0.1:0", 300, 20_000);
    let seed = std::env::var("SEED").unwrap_or_else(|_| "1".to_owned());
    let examples = std::env::var("EXAMPLES").unwrap_or_else(|_| "40".to_owned());
    let tested = Command::new(python())
        .current_dir(folder.path())
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(project("tests/stack/journal/schemathesis.toml"))
        .arg("run")
        .arg(format!("http://{}/v1/openapi.json", demo.site.address))
        // A stream does not end; the pages hold it open.
        .args(["--exclude-path", "/v1/changes", "-H", "Tributary-Person: teacher:104"])
        .args(["--max-examples", &examples, "--seed", &seed])
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "seed {seed}:\n{said}");
    assert!(said.contains("Tested: ") && !said.contains("Unresolvable"), "{said}");
}

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// What one of the crowd was told.
#[derive(Default)]
pub struct Told {
    /// By ID: the click.
    pub confirmed: HashMap<String, Value>,
    pub refused: HashSet<String>,
    /// Sent, and no answer came, or one that does not confirm.
    pub open: HashSet<String>,
    times: Vec<Duration>,
    /// How often no answer came.
    pub unkept: usize,
}

/// A place for one of the crowd: journal, lesson, day, teacher, students.
#[derive(Clone)]
pub struct Place {
    pub journal: u64,
    pub lesson: u64,
    pub date: String,
    pub teachers: Vec<u64>,
    pub students: Vec<u64>,
}

/// The lessons of the last day, with who is in them.
pub fn places(site: &Site, state: &Path) -> Vec<Place> {
    let text = fs::read_to_string(state.join("lessons.ndjson")).expect("the lessons");
    let lessons = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a lesson"));
    let lessons: Vec<Value> = lessons.filter(|lesson| lesson["locked"] == false).collect();
    let place = |lesson: &Value| {
        let journal = lesson["journal"].as_u64()?;
        let (_, grid) = site
            .get(&format!("/v1/journals/{journal}?group={}", percent(lesson["group"].as_str()?)));
        let number = |value: &Value, name: &str| value[name].as_u64();
        Some(Place {
            journal,
            lesson: lesson["lesson"].as_u64()?,
            date: lesson["date"].as_str()?.to_owned(),
            teachers: grid["teachers"]
                .as_array()?
                .iter()
                .filter_map(|t| number(t, "number"))
                .collect(),
            students: grid["students"]
                .as_array()?
                .iter()
                .filter_map(|s| number(s, "student"))
                .collect(),
        })
    };
    lessons.iter().filter_map(place).collect()
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn crowd_loses_and_doubles_nothing_though_the_journal_is_killed() {
    let (users, seconds, kills) = (number("USERS", 60), number("SECONDS", 6), number("KILLS", 2));
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let mut demo = Demo::start(&state, "127.0.0.1:0", number("STUDENTS", 600) as u32, 40_000);
    let address = demo.site.address.clone();
    let places = places(&demo.site, &state);
    assert!(!places.is_empty());
    let mut told = crowd(&places, &address, users, || {
        let slice = Duration::from_secs(seconds as u64) / (kills as u32 + 1);
        for _ in 0..kills {
            // The pace of the crowd, not a wait for something.
            thread::sleep(slice);
            demo.kill();
            demo = Demo::start(&state, &address, 0, 0);
        }
        thread::sleep(slice);
    });
    if kills > 0 {
        assert!(told.unkept > 0, "somebody was amid a click when it was killed");
    }
    told.times.sort();
    let at = |share: f64| told.times[((told.times.len() - 1) as f64 * share) as usize];
    println!(
        "{users} users, {seconds} s, {kills} kills: {} confirmed, {} refused, {} open; confirmed \
         after p50 {:.1?} p99 {:.1?} max {:.1?}",
        told.confirmed.len(),
        told.refused.len(),
        told.open.len(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
    // Each confirmed click stands once, none that was refused; of the others nobody knows.
    let text = fs::read(state.join("events.ndjson")).expect("the events");
    let mut written: HashMap<String, u32> = HashMap::new();
    let mut events = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
        if let Some(id) = event["ID"].as_str() {
            *written.entry(id.to_owned()).or_default() += 1;
            events.insert(id.to_owned(), event);
        }
    }
    assert!(told.confirmed.len() > users, "the crowd got something done");
    for (id, click) in &told.confirmed {
        assert_eq!(written.get(id), Some(&1), "{id}");
        for column in ["JOURNAL_ID", "STUDENT_ID", "LESSON_ID", "ATTENDANCE_MARK"] {
            assert_eq!(events[id][column], click[column], "{id}");
        }
    }
    assert!(told.refused.iter().all(|id| !written.contains_key(id)));
    assert!(told.open.iter().all(|id| written.get(id).is_none_or(|times| *times == 1)));
    equals_the_specification(&demo.site, &state, folder.path());
}

/// The place of a click, by its number; each is another one.
fn click_of(place: &Place, number: u128) -> Value {
    let student = place.students[number as usize % place.students.len()];
    let id = uuid::Uuid::from_u128(number | 5 << 120).to_string();
    let mark = [4, 5][number as usize / place.students.len() % 2];
    json!({
        "ID": id, "JOURNAL_ID": place.journal, "LESSON_ID": place.lesson, "STUDENT_ID": student,
        "ATTENDANCE_MARK": mark,
    })
}

/// How often each ID stands in the log.
fn lines_by_id(state: &Path) -> HashMap<String, usize> {
    let text = fs::read(state.join("events.ndjson")).expect("the events");
    let mut lines = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let event = serde_json::from_slice::<Value>(line).unwrap_or_default();
        if let Some(id) = event["ID"].as_str() {
            *lines.entry(id.to_owned()).or_default() += 1;
        }
    }
    lines
}

#[test]
#[cfg(feature = "failpoints")]
fn journal_that_dies_before_or_after_it_writes_loses_and_doubles_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let first = Demo::start(&state, "127.0.0.1:0", 300, 4_000);
    let address = first.site.address.clone();
    let place = places(&first.site, &state).remove(0);
    let person = format!("teacher:{}", place.teachers[0]);
    drop(first);
    let mut number = 0;
    for (step, times) in [("log-append", 1), ("log-sync", 1), ("log-append", 9), ("log-sync", 14)] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tributary"));
        // The document log is opened, and not written to.
        program.env("FAILPOINTS", format!("{step}={times}*off->panic"));
        let mut demo = Demo::start_by(program, &state, &address, (0, 0));
        let (mut connection, mut confirmed) = (None, Vec::new());
        let open = loop {
            number += 1;
            let click = click_of(&place, number);
            let id = click["ID"].as_str().expect("an ID").to_owned();
            match ask(&mut connection, &address, &person, &click) {
                Some((201, _)) => confirmed.push(id),
                None => break (id, click),
                Some((429, _)) => {
                    number -= 1;
                    thread::sleep(Duration::from_millis(50));
                }
                Some((status, answer)) => panic!("{status} {answer}"),
            }
        };
        assert_eq!(confirmed.len(), times, "it dies at {step} after {times} times");
        assert!(!demo.child.wait().expect("it was started").success());
        // What was on its way when it died was written, or not; asked again it is written once.
        let was_there = lines_by_id(&state).contains_key(&open.0);
        assert_eq!(was_there, step == "log-sync", "{step}");
        let demo = Demo::start(&state, &address, 0, 0);
        let again = ask(&mut None, &address, &person, &open.1);
        assert!(matches!(again, Some((201, _))), "{again:?}");
        confirmed.push(open.0);
        let lines = lines_by_id(&state);
        assert!(confirmed.iter().all(|id| lines.get(id) == Some(&1)), "{step}");
        drop(demo);
    }
    let demo = Demo::start(&state, &address, 0, 0);
    equals_the_specification(&demo.site, &state, folder.path());
}

#[test]
fn where_there_is_no_room_nothing_is_confirmed_and_what_was_stands() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let first = Demo::start(&state, "127.0.0.1:0", 300, 4_000);
    let address = first.site.address.clone();
    let place = places(&first.site, &state).remove(0);
    let person = format!("teacher:{}", place.teachers[0]);
    drop(first);
    // A file may not grow beyond so many bytes, as on a full disk: the last line goes in part.
    let room = fs::metadata(state.join("events.ndjson")).expect("the events").len() + 1_500;
    let mut program = Command::new("sh");
    let limited = "trap '' XFSZ; exec prlimit --fsize=\"$0\":unlimited \"$@\"";
    program.args(["-c", limited, &room.to_string(), env!("CARGO_BIN_EXE_tributary")]);
    let demo = Demo::start_by(program, &state, &address, (0, 0));
    let (mut connection, mut confirmed) = (None, Vec::new());
    let mut unwritten = Vec::new();
    for number in 1..=12 {
        let click = click_of(&place, number);
        match ask(&mut connection, &address, &person, &click) {
            Some((201, _)) => confirmed.push(click),
            Some((503, answer)) => {
                assert_eq!(answer["detail"], "Отметка не записана, повторите попытку");
                unwritten.push(click);
            }
            answer => panic!("{answer:?}"),
        }
    }
    assert!(!confirmed.is_empty() && unwritten.len() > 2, "room for some of twelve clicks");
    let id = |click: &Value| click["ID"].as_str().expect("an ID").to_owned();
    let lines = lines_by_id(&state);
    assert!(confirmed.iter().all(|click| lines.get(&id(click)) == Some(&1)));
    assert!(unwritten.iter().all(|click| !lines.contains_key(&id(click))));
    // There is room again: the same clicks are written, and the part of one is no event.
    let process = demo.child.id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &process, "--fsize=unlimited"]).status();
    assert!(raised.expect("prlimit is there").success());
    for click in &unwritten {
        let answer = ask(&mut connection, &address, &person, click);
        assert!(matches!(answer, Some((201, _))), "{answer:?}");
    }
    drop(demo);
    let demo = Demo::start(&state, &address, 0, 0);
    let lines = lines_by_id(&state);
    let all = confirmed.iter().chain(&unwritten);
    assert!(all.clone().all(|click| lines.get(&id(click)) == Some(&1)));
    equals_the_specification(&demo.site, &state, folder.path());
    // A part of a line stands there, as a dead letter.
    let letters = demo.site.get("/v1/dead-letters?limit=5").1;
    let newest = &letters["letters"][0];
    assert_eq!(newest["reason"], "not_json", "{letters}");
}

/// So many users click once a second each, while something happens.
pub fn crowd(places: &[Place], address: &str, users: usize, happens: impl FnOnce()) -> Told {
    let (over, told) = (AtomicBool::new(false), Mutex::new(Told::default()));
    thread::scope(|scope| {
        for user in 0..users {
            // As few as may be share a teacher, of whom so many clicks a second are taken.
            let place = &places[user % places.len()];
            let teacher = place.teachers[user / places.len() % place.teachers.len()];
            let (over, told) = (&over, &told);
            scope.spawn(move || listen(place.journal, address, over));
            scope.spawn(move || {
                let mine = click_once_a_second((user, teacher), place, address, over);
                let mut all = told.lock().expect("nobody panics");
                all.confirmed.extend(mine.confirmed);
                all.refused.extend(mine.refused);
                all.open.extend(mine.open);
                all.times.extend(mine.times);
                all.unkept += mine.unkept;
            });
        }
        happens();
        over.store(true, Ordering::Relaxed);
    });
    told.into_inner().expect("nobody panicked")
}

/// Keeps the page of a journal open until it is over: hears what happens there, as each user does.
fn listen(journal: u64, address: &str, over: &AtomicBool) {
    let open = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        let asked =
            format!("GET /v1/changes?journal={journal} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(asked.as_bytes())?;
        let mut bytes = [0; 16 << 10];
        while !over.load(Ordering::Relaxed) {
            match stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    while !over.load(Ordering::Relaxed) {
        // While the journal is killed there is nobody to hear.
        let _ = open();
        thread::sleep(Duration::from_millis(50));
    }
}

/// One of the crowd: clicks once a second until it is over; what was not answered is asked again
/// under the same ID, as the page does.
fn click_once_a_second(
    (user, teacher): (usize, u64),
    place: &Place,
    address: &str,
    over: &AtomicBool,
) -> Told {
    let (mut told, mut connection) = (Told::default(), None);
    let person = format!("teacher:{teacher}");
    let mut next = Instant::now() + Duration::from_millis(user as u64 * 37 % 1_000);
    let mut turn = user;
    while !over.load(Ordering::Relaxed) {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += Duration::from_secs(1);
        turn += 1;
        let id = uuid::Uuid::from_u128((user as u128) << 64 | turn as u128 | 7 << 120).to_string();
        let mark = [1, 0, 4, 5][(turn / place.students.len()) % 4];
        let click = json!({
            "ID": id, "JOURNAL_ID": place.journal, "LESSON_ID": place.lesson,
            "STUDENT_ID": place.students[turn % place.students.len()],
            "ATTENDANCE_MARK": mark,
            "LESSON_DATE": place.date,
        });
        let begun = Instant::now();
        loop {
            match ask(&mut connection, address, &person, &click) {
                Some((201, answer)) => {
                    // Asked again, it says what stands there by now.
                    let is_first = !told.open.remove(&id);
                    assert!(!is_first || answer["cell"]["id"] == id.as_str());
                    told.times.push(begun.elapsed());
                    told.confirmed.insert(id, click);
                    break;
                }
                Some((422, _)) => {
                    told.open.remove(&id);
                    told.refused.insert(id);
                    break;
                }
                // It is being started, or the whole crowd of one teacher is too fast.
                Some((503 | 429, _)) => {}
                None => {
                    told.unkept += 1;
                    told.open.insert(id.clone());
                }
                Some((status, answer)) => panic!("{status} {answer}"),
            }
            if over.load(Ordering::Relaxed) {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
    told
}

fn ask(
    connection: &mut Option<Connection>,
    address: &str,
    person: &str,
    click: &Value,
) -> Option<(u16, Value)> {
    if connection.is_none() {
        *connection = Connection::to(address).ok();
    }
    let answer = connection.as_mut()?;
    let answer = answer.ask("POST", "/v1/clicks", &[("Tributary-Person", person)], Some(click));
    let answer = answer.ok();
    if answer.is_none() {
        *connection = None;
    }
    answer
}

/// The views that are served are those of the rules, over the files as they are.
fn equals_the_specification(site: &Site, state: &Path, scratch: &Path) {
    let want = scratch.join("want");
    let judged = Command::new("python3")
        .arg(project("tests/oracle/oracle.py"))
        .args([state, &want])
        .output()
        .expect("python3 is there");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
    wait_for("all that is written is visible", PATIENCE, || {
        let (_, status) = site.get("/v1/status");
        status["events"]["behind"] == 0 && status["documents"]["behind"] == 0
    });
    let rows = |path: &str| -> Vec<BTreeMap<String, Value>> {
        let (status, answer) = site.get(path);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_value(answer["rows"].clone()).expect("rows are objects")
    };
    let wanted = |view: &str| -> Vec<BTreeMap<String, Value>> {
        let text = fs::read_to_string(want.join(format!("{view}.ndjson"))).expect("a view");
        text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
    };
    let sorted = |rows: Vec<BTreeMap<String, Value>>| {
        let mut rows: Vec<String> =
            rows.iter().map(|row| serde_json::to_string(row).expect("a row")).collect();
        rows.sort();
        rows
    };
    let latest = wanted("latest");
    let journals: HashSet<u64> = latest.iter().filter_map(|r| r["JOURNAL_ID"].as_u64()).collect();
    let served = journals.iter().flat_map(|j| rows(&format!("/v1/views/latest?JOURNAL_ID={j}")));
    let (served, latest) = (sorted(served.collect()), sorted(latest));
    assert_eq!(served.len(), latest.len());
    let differs = served.iter().zip(&latest).find(|(served, latest)| served != latest);
    assert_eq!(differs, None);
    let view = "attendance_by_student";
    let (served, wanted) = (sorted(rows(&format!("/v1/views/{view}"))), sorted(wanted(view)));
    // So many rows are answered at most, and whether there are more; these are among those then.
    assert_eq!(served.len(), wanted.len().min(10_000));
    for (view, whole) in [(view, wanted.len()), ("latest", latest.len())] {
        let (_, answer) = site.get(&format!("/v1/views/{view}"));
        assert_eq!(answer["more"], whole > 10_000, "{view}");
    }
    let wanted: HashSet<&String> = wanted.iter().collect();
    assert_eq!(served.iter().find(|row| !wanted.contains(row)), None);
    // The board adds up the same.
    let (_, board) = site.get("/v1/boards/groups");
    assert_eq!(board["total"]["marks"], latest.len());
}
