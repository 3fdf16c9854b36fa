//! What must hold for any bytes at all; each function panics where it does not.
//!
//! Shape: bytes in, nothing out. The fuzz targets and `tests/it/fuzzed.rs` share these.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, LazyLock},
};

use tributary::{
    engine::cluster::parse_hosts,
    reference::{Content, Projector, document},
    source::Decoder,
    spec::Spec,
};

static SPEC: LazyLock<Arc<Spec>> = LazyLock::new(|| {
    let text = include_str!("../dataflows/attendance.toml");
    Arc::new(Spec::parse(Path::new("attendance.toml"), text).expect("the spec is sound"))
});

/// Every event has an outcome, and the same one whether the short cut or the long way decodes it: a
/// space in front is one that no producer writes.
pub fn events(bytes: &[u8]) {
    let mut decoder = Decoder::new(Arc::clone(&SPEC));
    let outcome = decoder.decode(bytes).map(<[u8]>::to_vec);
    if bytes.len() < SPEC.events.bytes_max {
        let long_way = decoder.decode(&[b" ", bytes].concat()).map(<[u8]>::to_vec);
        assert_eq!(outcome, long_way);
    }
    assert_eq!(outcome, decoder.decode(bytes).map(<[u8]>::to_vec), "a decoder remembers nothing");
}

/// Every line is a document or refused, and a document has at most one key of each lookup.
pub fn documents(bytes: &[u8]) {
    let projector = Projector::new(Arc::clone(&SPEC));
    let Ok(line) = document::read(bytes, &projector) else { return };
    if let Content::Claims(claims) = line.statement.content {
        let lookups: HashSet<_> = claims.iter().map(|claim| claim.lookup).collect();
        assert_eq!(lookups.len(), claims.len());
        assert!(claims.iter().all(|claim| claim.document == line.statement.id));
    }
}

/// Every text is a spec or has violations, each with a place in it.
pub fn spec(bytes: &[u8]) {
    let path = Path::new("fuzzed.toml");
    match Spec::parse_bytes(path, bytes) {
        Ok(spec) => assert!(!spec.views.is_empty()),
        Err(violations) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!(!violations.found.is_empty());
            assert!(violations.found.iter().all(|violation| violation.line <= lines));
            assert!(!violations.to_string().is_empty());
        }
    }
}

/// Every file names exactly so many addresses, or is refused.
pub fn hosts(bytes: &[u8]) {
    for processes in [1, 2, 3] {
        if let Ok(hosts) = parse_hosts(Path::new("hosts"), bytes, processes) {
            assert_eq!(hosts.len(), processes);
            assert!(hosts.iter().all(|host| host.contains(':')));
        }
    }
}
