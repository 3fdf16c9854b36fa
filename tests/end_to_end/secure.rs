//! Over SASL_SSL: the same outputs; and each reason for not being let in is named, with what to do,
//! and without a secret.

use std::{fs, path::Path, process::Command, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};

use crate::{
    game::{Game, Plan, seed, wait_for},
    stack::{Stack, project},
};

const PASSWORD: &str = "correct-horse-battery";
const WRONG: &str = "wrong-horse-battery";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str) -> DistinguishedName {
    let mut named = DistinguishedName::new();
    named.push(DnType::CommonName, name);
    named
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = named("an authority");
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

/// A broker's key and certificate in one file, as it takes them.
fn keystore(folder: &Path, name: &str, authority: &Authority, until: i32) -> String {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    params.distinguished_name = named("a broker");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    let path = folder.join(name);
    fs::write(&path, key.serialize_pem() + &certificate.pem()).expect("a file");
    path.display().to_string()
}

/// Grants the engine's user what docs/kafka.md says that it needs, and nothing else.
fn grant(stack: &Stack, dataflow: &str) {
    let outputs = ["enriched", "latest", "dead_letters", "progress", "lead"];
    let named = |kind: &str, names: &[&str]| -> String {
        names.iter().map(|name| format!("{kind} {dataflow}{name} ")).collect()
    };
    let outputs: Vec<String> = outputs.iter().map(|name| format!("_{name}")).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let prefixed =
        format!("--resource-pattern-type prefixed {}", named("--transactional-id", &["-writer-"]));
    for (operations, resources) in [
        ("Read Describe DescribeConfigs", named("--topic", &["_events", "_reference"])),
        ("Read Write Describe DescribeConfigs", named("--topic", &outputs)),
        ("Write Describe", named("--transactional-id", &["-lead"])),
        ("Write Describe", prefixed),
        ("Read", format!("--group tributary-{dataflow}")),
    ] {
        let operations: String =
            operations.split(' ').map(|operation| format!("--operation {operation} ")).collect();
        stack.command(&format!(
            "tool kafka.admin.AclCommand --bootstrap-server {} --add --allow-principal \
             User:tributary {operations} {resources}",
            stack.brokers
        ));
    }
}

#[test]
fn sasl_ssl_lets_in_who_may_and_says_why_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (ours, other) = (authority(), authority());
    fs::write(path("ca.pem"), ours.pem()).expect("a file");
    fs::write(path("other.pem"), other.pem()).expect("a file");
    let good = keystore(folder.path(), "good.pem", &ours, 2100);
    let expired = keystore(folder.path(), "expired.pem", &ours, 2021);
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let mut settings = vec![
        "log.cleaner.enable=false".to_owned(),
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
        // Those of the test itself, on a listener of their own.
        "super.users=User:ANONYMOUS".to_owned(),
    ];
    for (listener, keystore) in [("secure", good), ("expired", expired)] {
        let of = |setting: &str| format!("listener.name.{listener}.{setting}");
        settings.extend([
            of("ssl.keystore.type=PEM"),
            of(&format!("ssl.keystore.location={keystore}")),
            of("sasl.enabled.mechanisms=SCRAM-SHA-512"),
            of(&format!("scram-sha-512.sasl.jaas.config={module}")),
        ]);
    }
    let users = [format!("tributary:{PASSWORD}"), format!("guest:{PASSWORD}")];
    let mut options = vec!["--listener", "SECURE:SASL_SSL", "--listener", "EXPIRED:SASL_SSL"];
    settings.iter().for_each(|setting| options.extend(["--set", setting]));
    users.iter().for_each(|user| options.extend(["--scram", user]));
    let stack = Stack::with(&options);
    fs::write(path("password"), PASSWORD).expect("a file");
    fs::write(path("wrong"), WRONG).expect("a file");
    let place = |listener: &str, ca: &str, user: &str, password: &str| {
        let text = format!(
            "[kafka]\nbrokers = [\"{}\"]\n[kafka.client]\n\"security.protocol\" = \"sasl_ssl\"\n\
             \"ssl.ca.location\" = \"{}\"\n\"sasl.mechanism\" = \"SCRAM-SHA-512\"\n\
             \"sasl.username\" = \"{user}\"\n\"sasl.password\" = {{ file = \"{}\" }}\n",
            stack.listener(listener),
            path(ca),
            path(password),
        );
        let file = path(&format!("{listener}-{ca}-{user}-{password}.toml"));
        fs::write(&file, text).expect("a file");
        file
    };
    let plan = Plan {
        seed: seed(),
        events: 3_000,
        lasts: Duration::from_secs(20),
        storms: 1,
        ..Plan::default()
    };
    let mut game = Game::begin(stack, plan);
    grant(stack, game.name());
    for (listener, ca, user, password, because, remedy) in [
        ("SECURE", "ca.pem", "tributary", "wrong", "Authentication", "sasl.password"),
        ("SECURE", "other.pem", "tributary", "password", "SSL", "ssl.ca.location"),
        ("EXPIRED", "ca.pem", "tributary", "password", "expired", "certificate has expired"),
        ("SECURE", "ca.pem", "guest", "password", "uthorization", "docs/kafka.md lists"),
    ] {
        let config = place(listener, ca, user, password);
        let done = Command::new(env!("CARGO_BIN_EXE_tributary"))
            .arg("run")
            .arg(&game.spec)
            .args(["--config", &config])
            .current_dir(project("."))
            .env("RUST_LOG", "debug")
            .output()
            .expect("it can be started");
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(said.contains(because) && said.contains(remedy), "{user} {listener} {ca}: {said}");
        assert!(!said.contains(PASSWORD) && !said.contains(WRONG), "a secret is told: {said}");
    }
    let config = place("SECURE", "ca.pem", "tributary", "password");
    game.engine_at(["--config", &config]);
    let mut run = game.start(2, 1, &["--atomic-max", "0", "--fuel", "20"]);
    wait_for("something to be committed", Duration::from_secs(60), || {
        assert!(!run.has_ended(), "{}", run.said());
        !game.read("progress").is_empty()
    });
    run.crash(1);
    let mut run = game.start(1, 2, &[]);
    game.settle(&mut run);
    run.end();
    game.judge();
    let said = fs::read_to_string(game.folder.path().join("log")).expect("what was said");
    assert!(!said.contains(PASSWORD), "a secret is told");
}
