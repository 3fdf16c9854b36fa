//! A relay before ClickHouse that does to requests what networks and busy servers do.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub enum Trick {
    /// It never reaches the server, and nobody answers.
    HoldBefore,
    /// It is done, and nobody answers.
    HoldAfter,
    /// The connection breaks before the server hears of it.
    CutBefore,
    /// It is done, and the connection breaks before the answer.
    CutAfter,
    /// The server is asked with this in the URL too.
    With(&'static str),
    /// It is answered with an error of this number and name.
    Refused(u32, &'static str),
}

/// A relay that listens on a port of its own, and passes everything on but what a rule says.
pub struct Relay {
    pub url: String,
    rule: Arc<Mutex<Rule>>,
}

#[derive(Default)]
struct Rule {
    /// Requests that hold this word, in the URL or in what they bring,
    word: &'static str,
    trick: Option<Trick>,
    /// so many of them.
    left: usize,
    met: usize,
}

impl Relay {
    /// Stands before a server.
    pub fn start(server: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let rule = Arc::<Mutex<Rule>>::default();
        let (shared, server) = (Arc::clone(&rule), server.replace("http://", ""));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, server) = (Arc::clone(&shared), server.clone());
                // A server that is not there hangs up, as it would itself.
                thread::spawn(move || drop(pass(client, &server, &shared)));
            }
        });
        Relay { url, rule }
    }

    /// From now on this becomes of so many requests that hold a word.
    pub fn play(&self, word: &'static str, trick: Trick, times: usize) {
        let rule = Rule { word, trick: Some(trick), left: times, met: 0 };
        *self.rule.lock().expect("nobody panics") = rule;
    }

    /// Of how many it did.
    pub fn met(&self) -> usize {
        self.rule.lock().expect("nobody panics").met
    }
}

impl Rule {
    fn draw(&mut self, head: &str, body: &[u8]) -> Option<Trick> {
        let holds = head.contains(self.word)
            || body.windows(self.word.len().max(1)).any(|part| part == self.word.as_bytes());
        let is_met = self.trick.is_some() && holds && self.met < self.left;
        self.met += usize::from(is_met);
        self.trick.filter(|_| is_met)
    }
}

/// A request: its first line, its headers but those of its length, and what it brings.
fn request(client: &mut BufReader<TcpStream>) -> io::Result<(String, String, Vec<u8>)> {
    let (mut first, mut headers, mut length, mut is_chunked) =
        (String::new(), String::new(), 0, false);
    client.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if client.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let lower = line.trim_end().to_ascii_lowercase();
        match lower.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().expect("a number"),
            Some(("transfer-encoding", _)) => is_chunked = true,
            Some(("connection", _)) => {}
            Some(_) => headers += &line,
            None => break,
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    while is_chunked {
        let mut line = String::new();
        client.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim_end(), 16).expect("a length");
        let mut chunk = vec![0; size + 2];
        client.read_exact(&mut chunk)?;
        body.extend_from_slice(&chunk[..size]);
        is_chunked = size > 0;
    }
    Ok((first, headers, body))
}

/// Passes one request on, and its answer back.
fn pass(client: TcpStream, server: &str, rule: &Mutex<Rule>) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let (mut first, headers, body) = request(&mut client)?;
    let trick = rule.lock().expect("nobody panics").draw(&first, &body);
    let mut until_it_goes = || io::copy(&mut client, &mut io::sink()).map(drop);
    match trick {
        Some(Trick::CutBefore) => return Ok(()),
        Some(Trick::HoldBefore) => return until_it_goes(),
        Some(Trick::Refused(code, name)) => {
            let said = format!("Code: {code}. DB::Exception: so it is. ({name}) (version 1)");
            let length = said.len();
            let head = format!("HTTP/1.1 500 no\r\ncontent-length: {length}\r\n");
            return write!(client.get_mut(), "{head}connection: close\r\n\r\n{said}");
        }
        Some(Trick::With(setting)) => first = first.replacen('?', &format!("?{setting}&"), 1),
        Some(Trick::HoldAfter | Trick::CutAfter) | None => {}
    }
    let mut upstream = TcpStream::connect(server)?;
    let length = body.len();
    write!(upstream, "{first}{headers}connection: close\r\ncontent-length: {length}\r\n\r\n")?;
    upstream.write_all(&body)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    match trick {
        Some(Trick::CutAfter) => Ok(()),
        Some(Trick::HoldAfter) => until_it_goes(),
        _ => client.get_mut().write_all(&answer),
    }
}
