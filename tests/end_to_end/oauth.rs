//! Over SASL with OAUTHBEARER: who asks an issuer for its token gets another one before that one
//! ends, and goes on.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use crate::{
    game::{Game, Plan, seed, wait_for},
    small::PATIENCE,
    stack::Stack,
};

const SECRET: &str = "correct-horse-battery";

/// How long a token is good for.
const LIFETIME: Duration = Duration::from_secs(8);

/// Answers one request for a token.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut asked = Vec::new();
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&asked).contains("grant_type=client_credentials") {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            read => asked.extend_from_slice(&part[..read]),
        }
    }
    let now = UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let claims = json!({ "sub": "tributary", "iat": now, "exp": now + LIFETIME.as_secs() });
    let encoded = |part: &str| URL_SAFE_NO_PAD.encode(part);
    let token = format!("{}.{}.", encoded(r#"{"alg":"none"}"#), encoded(&claims.to_string()));
    let body = json!({ "access_token": token, "token_type": "Bearer" }).to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let length = body.len();
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())
}

/// An issuer of tokens; returns its port, and how many were asked for.
fn issuer() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
            // Who goes away before the answer asks again.
            let _ = answer(stream);
        }
    });
    (port, asked)
}

#[test]
fn tokens_are_renewed_before_they_end() {
    let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;";
    let of = |setting: &str| format!("listener.name.oauth.{setting}");
    let settings = [
        of("sasl.enabled.mechanisms=OAUTHBEARER"),
        of(&format!("oauthbearer.sasl.jaas.config={module}")),
        // Who has not shown another token by the end of the first is let go.
        of("oauthbearer.connections.max.reauth.ms=3600000"),
        "log.cleaner.enable=false".to_owned(),
    ];
    let mut options = vec!["--listener", "OAUTH:SASL_PLAINTEXT"];
    settings.iter().for_each(|setting| options.extend(["--set", setting]));
    let stack = Stack::with(&options);
    let (port, asked) = issuer();
    let plan =
        Plan { seed: seed(), events: 1_000, lasts: 8 * LIFETIME, storms: 1, ..Plan::default() };
    let mut game = Game::begin(stack, plan);
    let secret = game.folder.path().join("secret");
    fs::write(&secret, SECRET).expect("a file");
    let config = game.folder.path().join("oauth.toml");
    let text = format!(
        "[kafka]\nbrokers = [\"{}\"]\n[kafka.client]\n\"security.protocol\" = \"sasl_plaintext\"\n\
         \"sasl.mechanism\" = \"OAUTHBEARER\"\n\"sasl.oauthbearer.method\" = \"oidc\"\n\
         \"sasl.oauthbearer.token.endpoint.url\" = \"http://127.0.0.1:{port}/token\"\n\
         \"sasl.oauthbearer.client.id\" = \"tributary\"\n\
         \"sasl.oauthbearer.client.secret\" = {{ file = \"{}\" }}\n",
        stack.listener("OAUTH"),
        secret.display(),
    );
    fs::write(&config, text).expect("a file");
    game.engine_at(["--config", config.to_str().expect("temporary folders are UTF-8")]);
    let mut run = game.start(1, 2, &[]);
    wait_for("something to be committed", PATIENCE, || {
        assert!(!run.has_ended(), "{}", run.said());
        !game.read("progress").is_empty()
    });
    let at_start = asked.load(Ordering::Relaxed);
    assert!(at_start > 0, "it got in without a token");
    // Two workers read and write by clients of their own, and each is to have a third token.
    wait_for("tokens to be renewed", PATIENCE, || {
        assert!(!run.has_ended(), "{}", run.said());
        asked.load(Ordering::Relaxed) >= at_start + 8
    });
    let before = game.read("enriched").len();
    wait_for("clicks to go on", PATIENCE, || game.read("enriched").len() > before);
    game.settle(&mut run);
    run.end();
    game.judge();
    assert!(!game.said().contains(SECRET), "a secret is told");
}
