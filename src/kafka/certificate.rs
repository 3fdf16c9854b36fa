//! The brokers' certificates: what is wrong with one that is not trusted.
//!
//! Shape: a client's properties in; of the first broker whose certificate fails, the reason and
//! what to do, out.
//!
//! Invariants: only asked once the client said that it trusts no broker; nothing is sent but what a
//! connection begins with, and nothing of it is kept. The client itself says the same words for
//! each reason.

use std::{
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use openssl::{
    ssl::{HandshakeError, SslConnector, SslMethod},
    x509::X509,
};

use super::client::Cause;
use crate::config::Properties;

/// How long a broker may take to show its certificate.
const PATIENCE: Duration = Duration::from_secs(3);

/// The numbers of OpenSSL (`x509_vfy.h`) for what can be wrong with a certificate.
const UNKNOWN_AUTHORITY: [i32; 6] = [2, 7, 18, 19, 20, 21];
const NOT_YET: i32 = 9;
const EXPIRED: i32 = 10;
const OTHER_NAME: [i32; 3] = [62, 63, 64];

/// Why the certificate of a broker is not trusted, and what to do; `None` where all are, or none
/// was shown.
pub(super) fn why_untrusted(properties: &Properties) -> Option<(Cause, &'static str)> {
    let value = |name: &str| {
        let mut named = properties.0.iter().filter(|(property, _)| property == name);
        named.next_back().map(|(_, value)| value.as_str())
    };
    if value("enable.ssl.certificate.verification") == Some("false") {
        return None;
    }
    value("bootstrap.servers")?.split(',').find_map(|broker| {
        let broker = broker.trim();
        let broker = broker.rsplit_once("://").map_or(broker, |(_, address)| address);
        let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
        let (number, said) = verify(broker, host.trim_matches(['[', ']']), value)?;
        let cause = Cause::said(format!("the certificate of {broker}: {said}"));
        Some((cause, remedy(number)))
    })
}

/// Connects as the client does; the number and the words of what is wrong.
fn verify<'p>(
    broker: &str,
    host: &str,
    value: impl Fn(&str) -> Option<&'p str>,
) -> Option<(i32, &'static str)> {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).ok()?;
    if let Some(path) = value("ssl.ca.location") {
        match std::fs::metadata(path).ok()?.is_dir() {
            true => connector.load_verify_locations(None, Some(path.as_ref())).ok()?,
            false => connector.load_verify_locations(Some(path.as_ref()), None).ok()?,
        }
    }
    if let Some(pem) = value("ssl.ca.pem") {
        for certificate in X509::stack_from_pem(pem.as_bytes()).ok()? {
            connector.cert_store_mut().add_cert(certificate).ok()?;
        }
    }
    let is_named = value("ssl.endpoint.identification.algorithm") != Some("none");
    let client = connector.build().configure().ok()?.verify_hostname(is_named);
    let mut addresses = broker.to_socket_addrs().ok()?;
    let stream = addresses.find_map(|at| TcpStream::connect_timeout(&at, PATIENCE).ok())?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    match client.connect(host, stream) {
        Err(HandshakeError::Failure(amid)) => {
            let found = amid.ssl().verify_result();
            let number = found.as_raw();
            (number != 0).then(|| (number, found.error_string()))
        }
        _ => None,
    }
}

fn remedy(number: i32) -> &'static str {
    match number {
        EXPIRED => "renew the certificate of the brokers",
        NOT_YET => "correct the clock here, or that of who issued the brokers' certificate",
        _ if UNKNOWN_AUTHORITY.contains(&number) => {
            "name in ssl.ca.location in kafka.client the authority that signed the brokers' \
             certificate"
        }
        _ if OTHER_NAME.contains(&number) => {
            "name the brokers in kafka.brokers as their certificate does, or issue one with these \
             names"
        }
        _ => "have a certificate issued to the brokers that this client can trust",
    }
}
