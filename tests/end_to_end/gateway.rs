//! A server before a node of Elasticsearch that does what one node cannot: TLS, keys, and answers
//! as of a cluster that is not well.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use openssl::{
    pkey::PKey,
    ssl::{SslAcceptor, SslMethod},
    x509::X509,
};
use serde_json::Value;
use ureq::Agent;

use crate::stack::Node;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is refused with a status, and an error of a kind.
    Refused(u16, &'static str),
    /// Its answer says this in a place.
    Says(&'static str, Value),
    /// Half of its answer comes, and then nothing.
    Cut,
    /// Its answer comes so much later.
    Late(Duration),
}

/// What is to go wrong: of requests whose path holds a word.
type Rule = Option<(&'static str, Fault)>;

/// The server.
pub struct Gateway {
    /// Where it listens.
    pub url: String,
    rule: Arc<Mutex<Rule>>,
    /// What it lets in, as HTTP writes it.
    pass: Arc<Mutex<String>>,
    met: Arc<AtomicU64>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

impl Gateway {
    /// A gateway that shows this certificate and its key, in PEM form.
    pub fn start(node: &'static Node, certificate: &str, private: &str) -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it listens").port();
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).expect("TLS");
        let certificate = X509::from_pem(certificate.as_bytes()).expect("a certificate");
        let private = PKey::private_key_from_pem(private.as_bytes()).expect("its key");
        acceptor.set_certificate(&certificate).expect("it is one");
        acceptor.set_private_key(&private).expect("it fits");
        let acceptor = acceptor.build();
        let gateway = Gateway {
            url: format!("https://localhost:{port}"),
            rule: Arc::default(),
            pass: Arc::new(Mutex::new("ApiKey first key".to_owned())),
            met: Arc::default(),
        };
        let (rule, pass, met) = (gateway.rule.clone(), gateway.pass.clone(), gateway.met.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let (acceptor, rule, pass, met) =
                    (acceptor.clone(), rule.clone(), pass.clone(), met.clone());
                thread::spawn(move || {
                    let stream: TcpStream = stream;
                    // Whoever does not trust it goes away.
                    let Ok(stream) = acceptor.accept(stream) else { return };
                    serve(Box::new(stream), node, &rule, &pass, &met);
                });
            }
        });
        gateway
    }

    /// From now on this goes wrong, and nothing else.
    pub fn set(&self, rule: Rule) {
        *self.rule.lock().expect("nobody panics in here") = rule;
        self.met.store(0, Ordering::Relaxed);
    }

    /// From now on whoever says this (`Authorization`) is let in, and nobody else.
    pub fn let_in(&self, pass: &str) {
        pass.clone_into(&mut self.pass.lock().expect("nobody panics in here"));
    }

    /// How often that went wrong.
    pub fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }
}

/// Serves one connection.
fn serve(
    stream: Box<dyn Stream>,
    node: &Node,
    rule: &Mutex<Rule>,
    pass: &Mutex<String>,
    met: &AtomicU64,
) {
    let agent = Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
        let (mut length, mut shown) = (0, String::new());
        loop {
            let mut header = String::new();
            if stream.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().expect("a number"),
                "authorization" => value.clone_into(&mut shown),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let fault = rule.lock().expect("nobody panics in here").clone();
        let fault = fault.filter(|(word, _)| path.contains(word)).map(|(_, fault)| fault);
        let fault = match shown == *pass.lock().expect("nobody panics in here") {
            true => fault,
            false => Some(Fault::Refused(401, "security_exception")),
        };
        if fault.is_some() {
            met.fetch_add(1, Ordering::Relaxed);
        }
        let request = ureq::http::Request::builder().method(method);
        let request = request.uri(format!("{}{path}", node.url));
        let request = request.header("content-type", "application/json").body(body);
        let (status, mut answer) = if let Some(Fault::Refused(status, kind)) = fault {
            (status, format!("{{\"error\":{{\"type\":\"{kind}\"}}}}").into_bytes())
        } else {
            let Ok(whole) = agent.run(request.expect("a request")) else { return };
            let status = whole.status().as_u16();
            let read = whole.into_body().into_with_config().limit(1 << 30).read_to_vec();
            (status, read.expect("the node answers"))
        };
        if let Some(Fault::Says(place, value)) = &fault {
            let mut said: Value = serde_json::from_slice(&answer).expect("JSON");
            *said.pointer_mut(place).unwrap_or_else(|| panic!("{place} in {path}")) = value.clone();
            answer = said.to_string().into_bytes();
        }
        let head = format!("HTTP/1.1 {status} so\r\ncontent-length: {}\r\n\r\n", answer.len());
        if let Some(Fault::Late(by)) = fault {
            thread::sleep(by);
        }
        let cut = matches!(fault, Some(Fault::Cut));
        let sent = if cut { &answer[..answer.len() / 2] } else { &answer };
        let stream = stream.get_mut();
        let written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent));
        if written.and_then(|()| stream.flush()).is_err() || cut {
            return;
        }
    }
}
