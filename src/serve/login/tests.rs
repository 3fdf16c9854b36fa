//! Tokens, good and bad.

use std::path::Path;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use openssl::rsa::Rsa;
use serde_json::json;

use super::*;

/// A signer, whose keys stand in a file.
struct Signer {
    folder: tempfile::TempDir,
    key: EncodingKey,
}

fn new_key() -> EncodingKey {
    EncodingKey::from_rsa_der(&Rsa::generate(2048).unwrap().private_key_to_der().unwrap())
}

fn jwk(key: &EncodingKey, id: &str) -> Jwk {
    let mut jwk = Jwk::from_encoding_key(key, Algorithm::RS256).unwrap();
    jwk.common.key_id = Some(id.to_owned());
    jwk
}

fn write(path: &Path, keys: Vec<Jwk>) {
    fs::write(path, serde_json::to_string(&JwkSet { keys }).unwrap()).unwrap();
}

fn now() -> i64 {
    crate::process::now_ms() / 1_000
}

impl Signer {
    fn new() -> Signer {
        let (folder, key) = (tempfile::tempdir().unwrap(), new_key());
        write(&folder.path().join("keys"), vec![jwk(&key, "one")]);
        Signer { folder, key }
    }

    fn login(&self) -> Login {
        let text = format!(
            "issuer = \"https://login\"\naudience = \"journal\"\nkeys = \"{}\"",
            self.folder.path().join("keys").display()
        );
        Login::new(toml::from_str(&text).unwrap()).unwrap()
    }

    /// A token that says this beside what a good one says.
    fn token(&self, more: &Value) -> String {
        let header = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::RS256) };
        sign(&header, &claims(more), &self.key)
    }
}

fn claims(more: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://login", "aud": ["other", "journal"], "exp": now() + 600,
        "tributary_role": "student", "tributary_number": 201,
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    encode(header, claims, key).unwrap()
}

#[test]
fn who_bears_a_good_token_is_who_it_says() {
    let signer = Signer::new();
    let login = signer.login();
    let is = |more: Value| login.visitor(&signer.token(&more));
    let person = |person| Ok(Visitor::Person(person));
    assert_eq!(is(json!({})), person(Person::Student(201)));
    assert_eq!(
        login.visitor(&format!("Bearer {}", signer.token(&json!({})))),
        person(Person::Student(201))
    );
    let role = |role: &str, number: Value| {
        is(json!({ "tributary_role": role, "tributary_number": number }))
    };
    assert_eq!(role("teacher", json!("104")), person(Person::Teacher(Some(104))));
    assert_eq!(role("teacher", Value::Null), person(Person::Teacher(None)));
    assert_eq!(role("deanery", json!(101)), person(Person::Deanery(Some(101))));
    assert_eq!(role("operator", Value::Null), Ok(Visitor::Operator));
    for (role_said, number) in [
        ("student", Value::Null),
        ("student", json!(-1)),
        ("teacher", json!("1 or 1=1")),
        ("admin", json!(1)),
        ("", json!(1)),
    ] {
        assert!(role(role_said, number.clone()).is_err(), "{role_said} {number}");
    }
}

#[test]
fn token_that_is_not_good_lets_nobody_in() {
    let signer = Signer::new();
    let login = signer.login();
    for more in [
        json!({ "iss": "https://elsewhere" }),
        json!({ "aud": "other" }),
        json!({ "exp": now() - 61 }),
        json!({ "nbf": now() + 600 }),
    ] {
        assert!(login.visitor(&signer.token(&more)).is_err(), "{more}");
    }
    let good = Header { kid: Some("one".to_owned()), ..Header::new(Algorithm::RS256) };
    for missing in ["iss", "aud", "exp"] {
        let mut claims = claims(&json!({}));
        claims.as_object_mut().unwrap().remove(missing);
        assert!(login.visitor(&sign(&good, &claims, &signer.key)).is_err(), "{missing}");
    }
    // Of another signer, under the name of this one's key.
    assert!(login.visitor(&sign(&good, &claims(&json!({})), &new_key())).is_err());
    // Signed with the public key as if it were a secret.
    let public = fs::read(signer.folder.path().join("keys")).unwrap();
    let shared = Header { kid: good.kid.clone(), ..Header::new(Algorithm::HS256) };
    let secret = EncodingKey::from_secret(&public);
    if let Ok(forged) = encode(&shared, &claims(&json!({})), &secret.unwrap()) {
        assert!(login.visitor(&forged).is_err());
    }
    // Not signed at all, cut, and none.
    let token = signer.token(&json!({}));
    let parts: Vec<&str> = token.split('.').collect();
    let none = "eyJhbGciOiJub25lIn0";
    for forged in [
        format!("{none}.{}.", parts[1]),
        format!("{}.{}.", parts[0], parts[1]),
        token[..token.len() - 4].to_owned(),
        String::new(),
        "x".repeat(TOKEN_BYTES_MAX + 1),
    ] {
        assert!(login.visitor(&forged).is_err());
    }
}

#[test]
fn keys_are_looked_at_anew_for_one_that_is_not_known() {
    let signer = Signer::new();
    let login = signer.login();
    let second = new_key();
    let header = Header { kid: Some("two".to_owned()), ..Header::new(Algorithm::RS256) };
    let token = sign(&header, &claims(&json!({})), &second);
    write(&signer.folder.path().join("keys"), vec![jwk(&second, "two")]);
    // Who invents keys has them looked at now and then at most.
    assert!(login.visitor(&token).is_err());
    let long_ago = Instant::now().checked_sub(BETWEEN_LOOKS).unwrap();
    *login.looked.lock().unwrap() = long_ago;
    assert!(login.visitor(&token).is_ok());
    // The elder key signs nothing any more.
    assert!(login.visitor(&signer.token(&json!({}))).is_err());
    // While somebody looks, nobody waits.
    let looking = login.looked.lock().unwrap();
    assert!(login.visitor(&token).is_ok());
    assert!(login.visitor(&signer.token(&json!({}))).is_err());
    drop(looking);
    // Keys that cannot be had leave those that are known.
    fs::remove_file(signer.folder.path().join("keys")).unwrap();
    *login.looked.lock().unwrap() = Instant::now().checked_sub(KEYS_AGE_MAX).unwrap();
    login.look(KEYS_AGE_MAX);
    assert!(login.visitor(&token).is_ok());
}
