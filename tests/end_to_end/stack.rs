//! A real Kafka, a real Elasticsearch, and stand-ins for what cannot run here, ended with the process
//! that runs the tests, however that ends.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

/// A path within the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Brokers.
pub struct Stack {
    /// Addresses.
    pub brokers: String,
    /// Of each further listener the name and the address.
    listeners: Vec<(String, String)>,
    control: Mutex<Control>,
}

struct Control {
    /// Ends what it started when it is closed.
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    _child: Child,
}

impl Stack {
    /// The brokers that tests share, which nobody harms; started by who asks first.
    pub fn get() -> &'static Stack {
        static STACK: OnceLock<Stack> = OnceLock::new();
        // What can be compacted is so at once.
        STACK.get_or_init(|| Stack::start(&["--set", "log.cleaner.backoff.ms=500"]))
    }

    /// Brokers of one test, to do with as it likes, made with these options of
    /// `tests/stack/kafka.py`.
    pub fn with(options: &[&str]) -> &'static Stack {
        Box::leak(Box::new(Stack::start(options)))
    }

    fn start(options: &[&str]) -> Stack {
        let further = options.iter().filter(|option| **option == "--listener").count();
        let (mut said, control) = Control::of("kafka.py", options, 1 + further);
        let listeners = said.split_off(1);
        let (name, brokers) = said.remove(0);
        assert_eq!(name, "BOOTSTRAP", "the brokers start; what they said stands above");
        Stack { brokers, listeners, control: Mutex::new(control) }
    }

    /// Where a further listener is.
    pub fn listener(&self, name: &str) -> &str {
        let found = self.listeners.iter().find(|(listener, _)| listener == name);
        &found.expect("it was asked for").1
    }

    /// Has something done to a broker: `kill 1`, `start 1`.
    pub fn command(&self, command: &str) {
        self.control.lock().expect("no test panics in here").command(command);
    }
}

impl Control {
    /// Starts a part of the stack, which says so many names and addresses.
    fn of(script: &str, options: &[&str], lines: usize) -> (Vec<(String, String)>, Control) {
        let folder = tempfile::tempdir().expect("a folder for the part");
        let mut child = Command::new("python3")
            .arg(project("tests/stack").join(script))
            .arg("run")
            .arg(folder.keep())
            .arg("--forget")
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let commands = child.stdin.take().expect("it was asked for");
        let mut answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        let said = (0..lines).map(|_| {
            let mut line = String::new();
            answers.read_line(&mut line).expect("it says where it is");
            let (name, address) = line.trim().split_once('=').unwrap_or_default();
            (name.to_owned(), address.to_owned())
        });
        (said.collect(), Control { commands, answers, _child: child })
    }

    fn command(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("it listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        assert_eq!(answer.trim(), "ok", "{command}");
    }
}

/// A node of Elasticsearch.
pub struct Node {
    /// Where it is.
    pub url: String,
    control: Mutex<Control>,
}

impl Node {
    /// The node that tests share; started by who asks first.
    pub fn get() -> &'static Node {
        static NODE: OnceLock<Node> = OnceLock::new();
        NODE.get_or_init(Node::start)
    }

    /// A node of one test, to do with as it likes.
    pub fn alone() -> &'static Node {
        Box::leak(Box::new(Node::start()))
    }

    fn start() -> Node {
        let (mut said, control) = Control::of("elasticsearch.py", &[], 1);
        let (name, url) = said.remove(0);
        assert_eq!(name, "URL", "the node starts; what it said stands above");
        Node { url, control: Mutex::new(control) }
    }

    /// Has something done to the node: `kill`, `start`.
    pub fn command(&self, command: &str) {
        self.control.lock().expect("no test panics in here").command(command);
    }
}

/// A stand-in for a system that cannot run here.
pub struct StandIn {
    /// Where it is.
    pub url: String,
    agent: ureq::Agent,
    _control: Control,
}

impl StandIn {
    /// That of a script of `tests/stack`.
    pub fn start(script: &str) -> StandIn {
        let (mut said, control) = Control::of(script, &[], 1);
        let (name, url) = said.remove(0);
        assert_eq!(name, "URL", "it starts; what it said stands above");
        StandIn { url, agent: ureq::Agent::new_with_defaults(), _control: control }
    }

    /// Has it do something, or say something of itself.
    pub fn ask(&self, what: &str, how: &serde_json::Value) -> serde_json::Value {
        let url = format!("{}/stand-in/{what}", self.url);
        let answer = self.agent.post(&url).send(how.to_string()).expect("it answers");
        let text = answer.into_body().read_to_string().expect("it is text");
        serde_json::from_str(&text).expect("it is JSON")
    }

    /// What it has counted.
    pub fn counts(&self, what: &str) -> u64 {
        let counts = self.ask("counts", &serde_json::json!({}));
        counts[what].as_u64().unwrap_or_else(|| panic!("{what} in {counts}"))
    }
}

/// A stand-in for an object store that speaks S3, with a bucket of that name.
pub struct Bucket {
    /// Where it is.
    pub url: String,
    _control: Control,
}

impl Bucket {
    /// One with nothing in it.
    pub fn make(name: &str) -> Bucket {
        let (mut said, control) = Control::of("s3.py", &[], 1);
        let (what, url) = said.remove(0);
        assert_eq!(what, "URL", "it starts; what it said stands above");
        let made = ureq::put(format!("{url}/{name}")).send_empty().expect("it answers");
        assert!(made.status().is_success(), "the bucket is made");
        Bucket { url, _control: control }
    }
}

/// An engine of ClickHouse.
pub struct ClickHouse {
    /// Where it is.
    pub url: String,
    agent: ureq::Agent,
    control: Mutex<Control>,
}

impl ClickHouse {
    /// The one that tests share; started by who asks first.
    pub fn get() -> &'static ClickHouse {
        static SERVER: OnceLock<ClickHouse> = OnceLock::new();
        SERVER.get_or_init(|| ClickHouse::start(&[]))
    }

    /// One of one test, to do with as it likes.
    pub fn alone() -> &'static ClickHouse {
        ClickHouse::with(&[])
    }

    /// The same, made with these options of `tests/stack/clickhouse.py`.
    pub fn with(options: &[&str]) -> &'static ClickHouse {
        Box::leak(Box::new(ClickHouse::start(options)))
    }

    fn start(options: &[&str]) -> ClickHouse {
        let (mut said, control) = Control::of("clickhouse.py", options, 1);
        let (name, url) = said.remove(0);
        assert_eq!(name, "URL", "the engine starts; what it said stands above");
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        ClickHouse { url, agent, control: Mutex::new(control) }
    }

    /// Has something done to the engine: `kill`, `start`.
    pub fn command(&self, command: &str) {
        self.control.lock().expect("no test panics in here").command(command);
    }

    /// What a question brings, a row as an object.
    pub fn ask(&self, database: &str, question: &str) -> Vec<serde_json::Value> {
        self.try_ask(database, question).unwrap_or_else(|said| panic!("{question}: {said}"))
    }

    /// The same, or what is said where it brings nothing.
    pub fn try_ask(
        &self,
        database: &str,
        question: &str,
    ) -> Result<Vec<serde_json::Value>, String> {
        let url = format!(
            "{}/?database={database}&default_format=JSONEachRow&\
             output_format_json_quote_64bit_integers=0",
            self.url
        );
        let answer = self.agent.post(&url).send(question).map_err(|error| error.to_string())?;
        let is_good = answer.status().is_success();
        let text = answer.into_body().into_with_config().limit(1 << 30).read_to_string();
        let text = text.map_err(|error| error.to_string())?;
        if !is_good {
            return Err(text);
        }
        let rows = serde_json::Deserializer::from_str(&text).into_iter();
        Ok(rows.collect::<Result<_, _>>().expect("rows are JSON"))
    }
}

/// Apache Superset.
pub struct Superset {
    /// Where it is.
    pub url: String,
    agent: ureq::Agent,
    pass: String,
    _control: Control,
}

impl Superset {
    /// One of a version, with nothing in it.
    pub fn start(version: &str) -> Superset {
        let (mut said, control) = Control::of("superset.py", &["--version", version], 1);
        let (name, url) = said.remove(0);
        assert_eq!(name, "URL", "it starts; what it said stands above");
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut superset = Superset { url, agent, pass: String::new(), _control: control };
        superset.log_in();
        superset
    }

    fn log_in(&mut self) {
        let who = serde_json::json!({
            "username": "admin", "password": "admin", "provider": "db", "refresh": false,
        });
        let url = format!("{}/api/v1/security/login", self.url);
        let asked = self.agent.post(url).header("Content-Type", "application/json");
        let answer = asked.send(who.to_string()).expect("it answers");
        let text = answer.into_body().read_to_string().expect("it is text");
        let said: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        self.pass = format!("Bearer {}", said["access_token"].as_str().expect("it lets one in"));
    }

    /// The answer to a question, and the session that it was given in.
    fn ask_in_session(&self, what: &str) -> (serde_json::Value, String) {
        let asked = self.agent.get(format!("{}/api/v1/{what}", self.url));
        let answer = asked.header("Authorization", &self.pass).call().expect("it answers");
        let session = answer.headers().get("set-cookie").and_then(|cookie| cookie.to_str().ok());
        let session = session.unwrap_or_default().to_owned();
        let text = answer.into_body().read_to_string().expect("it is text");
        (serde_json::from_str(&text).unwrap_or_else(|_| panic!("{what}: {text}")), session)
    }

    fn ask(&self, what: &str) -> serde_json::Value {
        self.ask_in_session(what).0
    }

    /// Databases, datasets, charts and dashboards, by what they are called.
    pub fn holds(&self) -> [Vec<String>; 4] {
        let named = [
            ("database", "database_name"),
            ("dataset", "table_name"),
            ("chart", "slice_name"),
            ("dashboard", "dashboard_title"),
        ];
        named.map(|(what, name)| {
            let found = self.ask(&format!("{what}/?q=(page_size:100)"));
            let found = found["result"].as_array().unwrap_or_else(|| panic!("{what}: {found}"));
            let mut names: Vec<String> = found.iter().map(|one| one[name].to_string()).collect();
            names.sort();
            names
        })
    }

    /// Calls a chart otherwise.
    pub fn rename_a_chart(&self, name: &str) {
        let charts = self.ask("chart/?q=(page_size:1)");
        let chart = format!("{}/api/v1/chart/{}", self.url, charts["result"][0]["id"]);
        let (token, session) = self.ask_in_session("security/csrf_token/");
        let done = self
            .agent
            .put(chart)
            .header("Authorization", &self.pass)
            .header("Cookie", session.split(';').next().unwrap_or_default())
            .header("X-CSRFToken", token["result"].as_str().expect("one is given"))
            .header("Referer", &self.url)
            .header("Content-Type", "application/json")
            .send(serde_json::json!({ "slice_name": name }).to_string());
        assert!(done.expect("it answers").status().is_success(), "it lets one change it");
    }
}
