//! The handshake: how processes find each other, and make sure that they belong together.
//!
//! Shape: addresses and the shape of this process's run in; a connection a peer out.
//!
//! Invariants: process `i` calls those before it and is called by those after it. Each side says
//! who it is and what it would compute before anything else, in a frame of at most
//! `HELLO_BYTES_MAX`; a difference is named, with both values, on both sides. Whoever says nothing
//! that makes sense is hung up on; whoever says nothing keeps nobody waiting.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use socket2::{SockRef, TcpKeepalive};

use super::Cluster;

/// With what a process begins to speak.
const MAGIC: &[u8; 10] = b"tributary\n";
const HELLO_BYTES_MAX: u32 = 4096;
/// Longest word of one process to the others: an offset of each of 10,000 partitions, and more.
const WORD_BYTES_MAX: u32 = 1 << 20;
/// How long a stranger may take to say who it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// How long a peer's machine may be silent before it counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How many may be about to say who they are.
const STRANGERS_MAX: usize = 128;
/// Between two calls of a peer that is not there yet.
const BETWEEN_CALLS: Duration = Duration::from_millis(50);
/// How often the others that are missing are told of.
const BETWEEN_WORDS: Duration = Duration::from_secs(5);

/// What all processes of a cluster must have in common; the names are what people are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// The dataflow's name.
    pub dataflow: String,
    /// A hash of the spec as it is written.
    #[serde(rename = "a spec with hash")]
    pub spec: String,
    /// How many there are.
    #[serde(rename = "--processes")]
    pub processes: usize,
    /// Worker threads of each.
    #[serde(rename = "--workers")]
    pub workers: usize,
    /// The input partitions: a hash of their names, in order.
    #[serde(rename = "--events with hash")]
    pub events: String,
    /// Whether there are documents, and whether changes of them.
    #[serde(rename = "--documents and --changes")]
    pub reference: [bool; 2],
    /// A hash of where the processes are, in order.
    #[serde(rename = "--hosts with hash")]
    pub hosts: String,
    /// Whether the stock dataflow computes.
    #[serde(rename = "--stock")]
    pub stock: bool,
    /// Whether it ends with its inputs.
    #[serde(rename = "--once")]
    pub once: bool,
}

/// What a process says first. The shape of another version may have other fields.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    process: usize,
    version: String,
    shape: serde_json::Map<String, serde_json::Value>,
}

/// How far connecting is.
#[derive(Clone, Copy, Debug)]
pub enum Connecting<'a> {
    /// It waits for these, by number and address.
    Waiting(&'a [(usize, &'a str)]),
    /// All are there.
    Connected,
}

/// Why the processes do not come together.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It cannot listen at its own address.
    #[error(
        "process {process} cannot listen at {host}; is another one there, or the address that of \
         another machine?"
    )]
    Unheard {
        /// This process.
        process: usize,
        /// Its address.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// Some did not come.
    #[error("waited {seconds} s for {missing}; start them, or correct the hosts file")]
    Missing {
        /// Which, with their addresses.
        missing: String,
        /// How long.
        seconds: u64,
        /// What the last call met, where this process is the one that calls.
        #[source]
        source: Option<io::Error>,
    },
    /// A peer would compute something else.
    #[error(
        "process {process} has {what} {theirs}, this one has {ours}; start all with the same \
         program, spec and options"
    )]
    Different {
        /// The peer.
        process: usize,
        /// In what it differs.
        what: String,
        /// What this process has.
        ours: String,
        /// What the peer has.
        theirs: String,
    },
    /// Another process says that it is the one that is expected elsewhere.
    #[error(
        "at {host} process {found} answers where process {expected} is expected; every process \
         needs the same hosts file, and a number of its own"
    )]
    OtherProcess {
        /// Where.
        host: String,
        /// Who should be there.
        expected: usize,
        /// Who is.
        found: usize,
    },
    /// It was asked to end before all were there.
    #[error("asked to end while it waited for other processes; nothing was computed")]
    Ended,
    /// The threads of the connections could not be started.
    #[error("cannot start the threads of the connections")]
    Threads(#[source] io::Error),
}

/// Connects this process with all others.
pub(super) fn connect_all(
    cluster: &Cluster,
    shape: &Shape,
    told: &dyn Fn(Connecting<'_>),
    is_to_end: &dyn Fn() -> bool,
) -> Result<Vec<Option<TcpStream>>, HandshakeError> {
    let Cluster { hosts, process, patience } = cluster;
    let host = &hosts[*process];
    let unheard =
        |source| HandshakeError::Unheard { process: *process, host: host.clone(), source };
    let listener = TcpListener::bind(host).map_err(unheard)?;
    listener.set_nonblocking(true).map_err(unheard)?;
    let mut sockets: Vec<Option<TcpStream>> = hosts.iter().map(|_| None).collect();
    let (begin, mut last_word, mut last_error) = (Instant::now(), None::<Instant>, None);
    let shape = match serde_json::to_value(shape) {
        Ok(serde_json::Value::Object(shape)) => shape,
        _ => unreachable!("a shape is an object of plain values"),
    };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let hello = Arc::new(Hello { process: *process, version, shape });
    let (answered, answers) = mpsc::channel();
    loop {
        for (peer, host) in hosts.iter().enumerate().take(*process) {
            if sockets[peer].is_none() {
                match call(host, &hello) {
                    Ok((socket, theirs)) => {
                        judge(&hello, &theirs)?;
                        if theirs.process != peer {
                            return Err(HandshakeError::OtherProcess {
                                host: host.clone(),
                                expected: peer,
                                found: theirs.process,
                            });
                        }
                        sockets[peer] = Some(socket);
                    }
                    Err(error) => last_error = Some(error),
                }
            }
        }
        while let Ok((socket, _)) = listener.accept() {
            let (hello, answered) = (Arc::clone(&hello), answered.clone());
            // Whoever says nothing keeps nobody waiting; beyond so many it is hung up on at once.
            if Arc::strong_count(&hello) <= STRANGERS_MAX {
                thread::spawn(move || {
                    // Who is no process of a cluster is hung up on.
                    let _ = answer(socket, &hello).map(|answer| answered.send(answer));
                });
            }
        }
        for (socket, theirs) in answers.try_iter() {
            judge(&hello, &theirs)?;
            let place = theirs.process;
            if place <= *process || place >= hosts.len() {
                let (host, expected) = (hosts[*process].clone(), *process);
                return Err(HandshakeError::OtherProcess { host, expected, found: place });
            }
            // One that calls again gave up its earlier call.
            sockets[place] = Some(socket);
        }
        for socket in &mut sockets {
            if socket.as_ref().is_some_and(has_hung_up) {
                *socket = None;
            }
        }
        let absent = |(peer, socket): (usize, &Option<TcpStream>)| {
            (socket.is_none() && peer != *process).then(|| (peer, hosts[peer].as_str()))
        };
        let missing: Vec<_> = sockets.iter().enumerate().filter_map(absent).collect();
        if missing.is_empty() {
            told(Connecting::Connected);
            return Ok(sockets);
        }
        if is_to_end() {
            return Err(HandshakeError::Ended);
        }
        if begin.elapsed() > *patience {
            let named: Vec<_> =
                missing.iter().map(|(peer, host)| format!("process {peer} at {host}")).collect();
            return Err(HandshakeError::Missing {
                missing: named.join(", "),
                seconds: patience.as_secs(),
                source: last_error.filter(|_| missing.iter().any(|(peer, _)| peer < process)),
            });
        }
        if last_word.is_none_or(|word| word.elapsed() > BETWEEN_WORDS) {
            told(Connecting::Waiting(&missing));
            last_word = Some(Instant::now());
        }
        thread::sleep(BETWEEN_CALLS);
    }
}

/// Whether a peer is to compute what this process is.
fn judge(ours: &Hello, theirs: &Hello) -> Result<(), HandshakeError> {
    let process = theirs.process;
    let different = |what: &str, ours: String, theirs: String| HandshakeError::Different {
        process,
        what: what.to_owned(),
        ours,
        theirs,
    };
    if ours.version != theirs.version {
        return Err(different("version", ours.version.clone(), theirs.version.clone()));
    }
    let said = |shape: &serde_json::Map<_, serde_json::Value>, name: &String| {
        shape.get(name).map_or("nothing".to_owned(), ToString::to_string)
    };
    let pairs =
        ours.shape.keys().map(|name| (name, said(&ours.shape, name), said(&theirs.shape, name)));
    match pairs.into_iter().find(|(_, ours, theirs)| ours != theirs) {
        Some((name, ours, theirs)) => Err(different(name, ours, theirs)),
        None => Ok(()),
    }
}

/// Calls a peer.
fn call(host: &str, hello: &Hello) -> io::Result<(TcpStream, Hello)> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, HELLO_PATIENCE) {
            Ok(socket) => return greet(socket, hello),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Whether a peer that was there is gone again.
fn has_hung_up(socket: &TcpStream) -> bool {
    let looked = socket.set_nonblocking(true).and_then(|()| socket.peek(&mut [0]));
    let is_blocking = socket.set_nonblocking(false).is_ok();
    !is_blocking
        || match looked {
            Ok(read) => read == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
}

/// Answers a call.
fn answer(socket: TcpStream, hello: &Hello) -> io::Result<(TcpStream, Hello)> {
    socket.set_nonblocking(false)?;
    greet(socket, hello)
}

/// Reads from a socket until a moment, however the bytes drip.
struct ReadUntil<'s> {
    socket: &'s TcpStream,
    deadline: Instant,
}

impl Read for ReadUntil<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        self.socket.read(buffer)
    }
}

/// Says a word to a peer that waits for it.
pub(super) fn tell(socket: &mut TcpStream, word: &[u8]) -> io::Result<()> {
    socket.write_all(&(word.len() as u32).to_be_bytes())?;
    socket.write_all(word)
}

/// Waits for a word of a peer, as long as it takes; `None` where it is to end first.
pub(super) fn hear(
    socket: &mut TcpStream,
    is_to_end: &dyn Fn() -> bool,
) -> io::Result<Option<Vec<u8>>> {
    let mut begin = [0; size_of::<u32>()];
    let mut read = 0;
    socket.set_read_timeout(Some(BETWEEN_CALLS))?;
    while read < begin.len() {
        match socket.read(&mut begin[read..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                if is_to_end() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
    socket.set_read_timeout(None)?;
    let length = u32::from_be_bytes(begin);
    if length > WORD_BYTES_MAX {
        return Err(io::Error::other("a word that is too long"));
    }
    let mut word = vec![0; length as usize];
    socket.read_exact(&mut word)?;
    Ok(Some(word))
}

/// Both say who they are, then both know.
fn greet(mut socket: TcpStream, hello: &Hello) -> io::Result<(TcpStream, Hello)> {
    socket.set_nodelay(true)?;
    // A peer whose machine is gone says nothing more: the system asks for it.
    let keepalive = TcpKeepalive::new()
        .with_time(SILENCE_MAX / 3)
        .with_interval(SILENCE_MAX / 6)
        .with_retries(4);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    SockRef::from(&socket).set_tcp_user_timeout(Some(SILENCE_MAX))?;
    socket.set_write_timeout(Some(HELLO_PATIENCE))?;
    let body = serde_json::to_vec(hello)?;
    let mut frame = MAGIC.to_vec();
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(&body);
    socket.write_all(&frame)?;
    let mut until = ReadUntil { socket: &socket, deadline: Instant::now() + HELLO_PATIENCE };
    let mut begin = [0; MAGIC.len() + size_of::<u32>()];
    until.read_exact(&mut begin)?;
    let (magic, length) = begin.split_at(MAGIC.len());
    let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
    if magic != MAGIC || length > HELLO_BYTES_MAX {
        return Err(io::Error::other("no process of a cluster answers there"));
    }
    let mut body = vec![0; length as usize];
    until.read_exact(&mut body)?;
    let theirs = serde_json::from_slice(&body)?;
    socket.set_read_timeout(None)?;
    socket.set_write_timeout(None)?;
    Ok((socket, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused_before_its_shape_is_looked_at() {
        let hello = |version: &str, shape: serde_json::Value| Hello {
            process: 1,
            version: version.to_owned(),
            shape: shape.as_object().expect("an object").clone(),
        };
        let ours = hello("0.1.0", serde_json::json!({ "--workers": 2 }));
        assert!(judge(&ours, &ours).is_ok());
        let newer = hello("0.2.0", serde_json::json!({}));
        let refused = judge(&ours, &newer).expect_err("another version").to_string();
        assert!(refused.contains("process 1 has version 0.2.0, this one has 0.1.0"), "{refused}");
        let other = hello("0.1.0", serde_json::json!({ "--workers": 3 }));
        let refused = judge(&ours, &other).expect_err("other workers").to_string();
        assert!(refused.contains("has --workers 3, this one has 2"), "{refused}");
    }
}
