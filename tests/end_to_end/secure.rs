//! Over SASL_SSL: the same outputs; and each reason for not being let in is named, with what to do,
//! and without a secret.

use std::{
    fs, iter,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use tempfile::TempDir;

use crate::{
    game::{Game, Plan, seed, wait_for},
    stack::{Stack, project},
};

const RIGHT: &str = "correct-horse-battery";
const WRONG: &str = "wrong-horse-battery";

pub type Authority = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

pub fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = named(name);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

/// A certificate of an address, and its key, in PEM form.
pub fn certificate(authority: &Authority, address: &str, until: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec![address.to_owned()]).expect("an address");
    params.distinguished_name = named("a broker");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// A broker's key and certificate in one file, as it takes them.
fn keystore(
    folder: &Path,
    name: &str,
    authority: &Authority,
    (address, until): (&str, i32),
) -> String {
    let (certificate, key) = certificate(authority, address, until);
    let path = folder.join(name);
    fs::write(&path, key + &certificate).expect("a file");
    path.display().to_string()
}

/// A broker that lets in over SASL_SSL alone, and what is needed for that.
pub struct Secured {
    pub stack: &'static Stack,
    folder: TempDir,
}

/// How somebody comes to the broker.
#[derive(Clone, Copy, Debug)]
struct Visit {
    listener: &'static str,
    authority: &'static str,
    mechanism: &'static str,
    user: &'static str,
    password: &'static str,
}

/// As one does who may.
const WELCOME: Visit = Visit {
    listener: "SECURE",
    authority: "ours",
    mechanism: "SCRAM-SHA-512",
    user: "tributary",
    password: "right",
};

/// Users who lack one right each, in the order of `Secured::grant`.
const LACKING: [&str; 5] =
    ["lacks-inputs", "lacks-outputs", "lacks-lead", "lacks-writer", "lacks-settings"];

impl Secured {
    pub fn start() -> Secured {
        let folder = tempfile::tempdir().expect("a folder");
        let (ours, other) = (authority("ours"), authority("other"));
        for (name, text) in [
            ("ours", ours.pem()),
            ("other", other.pem()),
            ("right", RIGHT.to_owned()),
            ("wrong", WRONG.to_owned()),
        ] {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        let good = keystore(folder.path(), "good.pem", &ours, ("127.0.0.1", 2100));
        let expired = keystore(folder.path(), "expired.pem", &ours, ("127.0.0.1", 2021));
        let misnamed = keystore(folder.path(), "misnamed.pem", &ours, ("127.0.0.2", 2100));
        let module = |name: &str| format!("org.apache.kafka.common.security.{name} required");
        let scram = module("scram.ScramLoginModule");
        let plain = module("plain.PlainLoginModule");
        let mut settings = vec![
            "log.cleaner.enable=false".to_owned(),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer"
                .to_owned(),
            // Those of the test itself, on a listener of their own.
            "super.users=User:ANONYMOUS".to_owned(),
        ];
        for (listener, keystore) in [("secure", good), ("expired", expired), ("misnamed", misnamed)]
        {
            let of = |setting: &str| format!("listener.name.{listener}.{setting}");
            settings.extend([
                of("ssl.keystore.type=PEM"),
                of(&format!("ssl.keystore.location={keystore}")),
                of("sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN"),
                of(&format!("scram-sha-512.sasl.jaas.config={scram};")),
                of(&format!("plain.sasl.jaas.config={plain} user_tributary=\"{RIGHT}\";")),
            ]);
        }
        let users = ["tributary", "guest"].into_iter().chain(LACKING);
        let users: Vec<String> = users.map(|user| format!("{user}:{RIGHT}")).collect();
        let mut options = Vec::new();
        for listener in ["SECURE:SASL_SSL", "EXPIRED:SASL_SSL", "MISNAMED:SASL_SSL"] {
            options.extend(["--listener", listener]);
        }
        settings.iter().for_each(|setting| options.extend(["--set", setting]));
        users.iter().for_each(|user| options.extend(["--scram", user]));
        Secured { stack: Stack::with(&options), folder }
    }

    /// The configuration of who may.
    pub fn config(&self) -> String {
        self.config_of(WELCOME)
    }

    fn config_of(&self, visit: Visit) -> String {
        let Visit { listener, authority, mechanism, user, password } = visit;
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let text = format!(
            "[kafka]\nbrokers = [\"{}\"]\n[kafka.client]\n\"security.protocol\" = \"sasl_ssl\"\n\
             \"ssl.ca.location\" = \"{}\"\n\"sasl.mechanism\" = \"{mechanism}\"\n\
             \"sasl.username\" = \"{user}\"\n\"sasl.password\" = {{ file = \"{}\" }}\n",
            self.stack.listener(listener),
            path(authority),
            path(password),
        );
        let file = path(&format!("{listener}-{authority}-{mechanism}-{user}-{password}.toml"));
        fs::write(&file, text).expect("a file");
        file
    }

    /// Grants the engine's user what docs/kafka.md says that it needs, and nothing else; and each
    /// of those who lack something all but that.
    pub fn grant(&self, dataflow: &str) {
        let named = |kind: &str, names: &[&str]| -> String {
            names.iter().map(|name| format!("{kind} {dataflow}{name} ")).collect()
        };
        let inputs = ["_events", "_reference"];
        let outputs = ["_enriched", "_latest", "_dead_letters", "_progress", "_lead"];
        let prefixed = format!(
            "--resource-pattern-type prefixed {}",
            named("--transactional-id", &["-writer-"])
        );
        let rights = [
            ("Read Describe", named("--topic", &inputs)),
            ("Read Write Describe", named("--topic", &outputs)),
            ("Write Describe", named("--transactional-id", &["-lead"])),
            ("Write Describe", prefixed),
            ("DescribeConfigs", named("--topic", &[&inputs[..], &outputs].concat())),
            ("Read", format!("--group tributary-{dataflow}")),
        ];
        for ((operations, resources), lacking) in
            rights.into_iter().zip(LACKING.into_iter().chain([""]))
        {
            let has = |user: &&str| *user != lacking;
            let users: String = iter::once("tributary")
                .chain(LACKING)
                .filter(has)
                .map(|user| format!("--allow-principal User:{user} "))
                .collect();
            let operations: String =
                operations.split(' ').map(|one| format!("--operation {one} ")).collect();
            self.stack.command(&format!(
                "tool kafka.admin.AclCommand --bootstrap-server {} --add {users} {operations} \
                 {resources}",
                self.stack.brokers
            ));
        }
    }
}

/// Starts the engine, until it ends by itself.
fn start(game: &Game, config: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tributary"))
        .arg("run")
        .arg(&game.spec)
        .args(["--config", config])
        .current_dir(project("."))
        .env("RUST_LOG", "debug")
        .output()
        .expect("it can be started")
}

fn words(done: &Output) -> String {
    String::from_utf8_lossy(&[&done.stdout[..], &done.stderr].concat()).into_owned()
}

#[test]
fn sasl_ssl_lets_in_who_may_and_says_why_not() {
    let secured = Secured::start();
    let plan = Plan {
        seed: seed(),
        events: 3_000,
        lasts: Duration::from_secs(20),
        storms: 1,
        ..Plan::default()
    };
    let mut game = Game::begin(secured.stack, plan);
    secured.grant(game.name());
    let rights = "grant this user the rights that docs/kafka.md lists";
    let lacks = |user: &'static str| (Visit { user, ..WELCOME }, "uthorization", rights);
    let [inputs, outputs, lead, writer, settings] = LACKING.map(lacks);
    for (visit, because, remedy) in [
        (Visit { password: "wrong", ..WELCOME }, "Authentication", "sasl.password"),
        (
            Visit { authority: "other", ..WELCOME },
            "unable to get local issuer certificate",
            "name in ssl.ca.location",
        ),
        (
            Visit { listener: "EXPIRED", ..WELCOME },
            "certificate has expired",
            "renew the certificate",
        ),
        (
            Visit { listener: "MISNAMED", ..WELCOME },
            "IP address mismatch",
            "as their certificate does",
        ),
        lacks("guest"),
        inputs,
        outputs,
        lead,
        writer,
        settings,
    ] {
        let done = start(&game, &secured.config_of(visit));
        let said = words(&done);
        assert_eq!(done.status.code(), Some(1), "{visit:?}: {said}");
        assert!(said.contains(because) && said.contains(remedy), "{visit:?}: {said}");
        assert!(!said.contains(RIGHT) && !said.contains(WRONG), "a secret is told: {said}");
    }
    game.engine_at(["--config", &secured.config()]);
    let mut run = game.start(2, 1, &["--atomic-max", "0", "--fuel", "20"]);
    wait_for("something to be committed", Duration::from_secs(60), || {
        assert!(!run.has_ended(), "{}", run.said());
        !game.read("progress").is_empty()
    });
    // A start that could not take the writers' ids leaves the one in force alone.
    let leads = game.read("lead").len();
    let done = start(&game, &secured.config_of(writer.0));
    assert_eq!(done.status.code(), Some(1), "{}", words(&done));
    assert!(words(&done).contains(rights), "{}", words(&done));
    assert_eq!(game.read("lead").len(), leads, "it has fenced nobody");
    assert!(!run.has_ended(), "{}", run.said());
    run.crash(1);
    game.engine_at(["--config", &secured.config_of(Visit { mechanism: "PLAIN", ..WELCOME })]);
    let mut run = game.start(1, 2, &[]);
    game.settle(&mut run);
    run.end();
    game.judge();
    let said = game.said();
    assert!(said.contains("leads generation") && !said.contains(RIGHT), "a secret is told");
}
