//! The handshake: how processes find each other, and make sure that they belong together.
//!
//! Shape: addresses and the shape of this process's run in; a connection a peer out.
//!
//! Invariants: process `i` calls those before it and is called by those after it. The caller, then
//! the called says who it is and what it would compute before anything else, in a frame of at most
//! `HELLO_BYTES_MAX`; a difference is named, with both values, on both sides. Whoever says nothing
//! that makes sense is hung up on; whoever says nothing keeps nobody waiting.
//!
//! Who is connected with all others says to each that it begins, and begins once each has said so.
//! Who is asked to end before that says farewell to each instead: so nobody has begun without it,
//! and all end without a fault. Who has said that it begins leaves only with all others.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use socket2::{SockRef, TcpKeepalive};

use super::{
    Cluster, Lost,
    word::{self, Word},
};

/// With what a process begins to speak.
const MAGIC: &[u8; 10] = b"tributary\n";
const HELLO_BYTES_MAX: u32 = 4096;
/// How long a stranger may take to say who it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// How long a peer's machine may be silent before it counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How many may be about to say who they are.
const STRANGERS_MAX: usize = 128;
/// Between two calls of a peer that is not there yet.
const BETWEEN_CALLS: Duration = Duration::from_millis(50);
/// Between two looks at a peer that is there and has not begun.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
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
    /// Another one was.
    #[error(
        "process {process} at {host} was asked to end before all were there, and a cluster lives \
         and dies as one; nothing was computed"
    )]
    Left {
        /// The one that left.
        process: usize,
        /// Its address.
        host: String,
    },
    /// One was lost when it was about to begin.
    #[error(transparent)]
    Lost(Lost),
    /// The threads of the connections could not be started.
    #[error("cannot start the threads of the connections")]
    Threads(#[source] io::Error),
}

/// A process that is connected.
struct Peer {
    socket: TcpStream,
    has_begun: bool,
}

/// What is to be seen of a peer.
enum Seen {
    /// It is there.
    There,
    /// It was asked to end.
    Leaves,
}

impl Peer {
    fn look(&mut self) -> io::Result<Seen> {
        loop {
            match word::peek(&self.socket)? {
                Some(Word::Farewell) => return Ok(Seen::Leaves),
                Some(Word::Begins) if !self.has_begun => {
                    word::skip(&mut self.socket)?;
                    self.has_begun = true;
                }
                _ => return Ok(Seen::There),
            }
        }
    }
}

/// By process: the connection with it, where it is another one and there.
type Peers = Vec<Option<Peer>>;

/// Connects this process with all others, and begins with them.
pub(super) fn come_together(
    cluster: &Cluster,
    shape: &Shape,
    told: &dyn Fn(Connecting<'_>),
    is_to_end: &dyn Fn() -> bool,
) -> Result<Vec<Option<TcpStream>>, HandshakeError> {
    let mut peers: Peers = cluster.hosts.iter().map(|_| None).collect();
    let together = connect_all(cluster, shape, &mut peers, told, is_to_end)
        .and_then(|()| begin_with_all(cluster, &mut peers, is_to_end));
    match together {
        Ok(()) => {
            told(Connecting::Connected);
            Ok(peers.into_iter().map(|peer| peer.map(|peer| peer.socket)).collect())
        }
        Err(end @ (HandshakeError::Ended | HandshakeError::Left { .. })) => {
            for peer in peers.iter_mut().flatten() {
                // One that is gone needs no word.
                let _ = word::say(&mut peer.socket, Word::Farewell);
            }
            Err(end)
        }
        Err(error) => Err(error),
    }
}

/// Fills in the connections with all others.
fn connect_all(
    cluster: &Cluster,
    shape: &Shape,
    peers: &mut Peers,
    told: &dyn Fn(Connecting<'_>),
    is_to_end: &dyn Fn() -> bool,
) -> Result<(), HandshakeError> {
    let Cluster { hosts, process, patience } = cluster;
    let host = &hosts[*process];
    let unheard =
        |source| HandshakeError::Unheard { process: *process, host: host.clone(), source };
    let listener = TcpListener::bind(host).map_err(unheard)?;
    listener.set_nonblocking(true).map_err(unheard)?;
    let (begin, mut last_word, mut last_error) = (Instant::now(), None::<Instant>, None);
    let shape = match serde_json::to_value(shape) {
        Ok(serde_json::Value::Object(shape)) => shape,
        _ => unreachable!("a shape is an object of plain values"),
    };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let hello = Hello { process: *process, version, shape };
    let (heard, strangers) = mpsc::channel();
    let hearing = Arc::new(());
    loop {
        for (peer, host) in hosts.iter().enumerate().take(*process) {
            if peers[peer].is_none() {
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
                        peers[peer] = Some(Peer { socket, has_begun: false });
                    }
                    Err(error) => last_error = Some(error),
                }
            }
        }
        while let Ok((socket, _)) = listener.accept() {
            let (hearing, heard) = (Arc::clone(&hearing), heard.clone());
            // Whoever says nothing keeps nobody waiting; beyond so many it is hung up on at once.
            if Arc::strong_count(&hearing) <= STRANGERS_MAX {
                thread::spawn(move || {
                    // Who is no process of a cluster is hung up on.
                    let _ = hear_out(socket).map(|caller| heard.send(caller));
                    drop(hearing);
                });
            }
        }
        for (mut socket, theirs) in strangers.try_iter() {
            // Answered only here: who was answered is told of an end.
            let is_answered = introduce(&mut socket, &hello).is_ok();
            judge(&hello, &theirs)?;
            let place = theirs.process;
            if place <= *process || place >= hosts.len() {
                let (host, expected) = (hosts[*process].clone(), *process);
                return Err(HandshakeError::OtherProcess { host, expected, found: place });
            }
            // One that calls again gave up its earlier call.
            peers[place] = is_answered.then_some(Peer { socket, has_begun: false });
        }
        for (process, peer) in peers.iter_mut().enumerate() {
            match peer.as_mut().map(Peer::look) {
                Some(Ok(Seen::Leaves)) => return Err(left(cluster, process)),
                Some(Err(_)) => *peer = None,
                None | Some(Ok(Seen::There)) => {}
            }
        }
        let absent = |(peer, connected): (usize, &Option<Peer>)| {
            (connected.is_none() && peer != *process).then(|| (peer, hosts[peer].as_str()))
        };
        let missing: Vec<_> = peers.iter().enumerate().filter_map(absent).collect();
        if missing.is_empty() {
            return Ok(());
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

/// Says to all others that this process begins, and waits until each has said the same.
fn begin_with_all(
    cluster: &Cluster,
    peers: &mut Peers,
    is_to_end: &dyn Fn() -> bool,
) -> Result<(), HandshakeError> {
    // Of one that is lost, where nobody was asked to end.
    let gone = |process, error| match is_to_end() {
        true => HandshakeError::Ended,
        false => HandshakeError::Lost(super::lost(cluster, process, &error)),
    };
    for (process, peer) in peers.iter_mut().enumerate() {
        let Some(peer) = peer else { continue };
        if let Err(error) = word::say(&mut peer.socket, Word::Begins) {
            return match peer.look() {
                Ok(Seen::Leaves) => Err(left(cluster, process)),
                _ => Err(gone(process, error)),
            };
        }
    }
    loop {
        for (process, peer) in peers.iter_mut().enumerate() {
            match peer.as_mut().map(Peer::look) {
                Some(Ok(Seen::Leaves)) => return Err(left(cluster, process)),
                Some(Err(error)) => return Err(gone(process, error)),
                None | Some(Ok(Seen::There)) => {}
            }
        }
        if peers.iter().flatten().all(|peer| peer.has_begun) {
            return Ok(());
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

fn left(cluster: &Cluster, process: usize) -> HandshakeError {
    HandshakeError::Left { process, host: cluster.hosts[process].clone() }
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

/// Calls a peer, and hears who it is.
fn call(host: &str, hello: &Hello) -> io::Result<(TcpStream, Hello)> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, HELLO_PATIENCE) {
            Ok(mut socket) => {
                introduce(&mut socket, hello)?;
                return hear_out(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Says who this process is.
fn introduce(socket: &mut TcpStream, hello: &Hello) -> io::Result<()> {
    socket.set_nodelay(true)?;
    // A peer whose machine is gone says nothing more: the system asks for it.
    let keepalive = TcpKeepalive::new()
        .with_time(SILENCE_MAX / 3)
        .with_interval(SILENCE_MAX / 6)
        .with_retries(4);
    SockRef::from(&*socket).set_tcp_keepalive(&keepalive)?;
    SockRef::from(&*socket).set_tcp_user_timeout(Some(SILENCE_MAX))?;
    socket.set_write_timeout(Some(HELLO_PATIENCE))?;
    let body = serde_json::to_vec(hello)?;
    let mut frame = MAGIC.to_vec();
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(&body);
    socket.write_all(&frame)?;
    socket.set_write_timeout(None)
}

/// Hears who is at the other side.
fn hear_out(socket: TcpStream) -> io::Result<(TcpStream, Hello)> {
    socket.set_nonblocking(false)?;
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
    Ok((socket, theirs))
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
