//! The handshake: how processes find each other, and make sure that they belong together.
//!
//! Shape: addresses and the shape of this process's run in; a connection a peer out.
//!
//! Invariants: process `i` calls those before it and is called by those after it. Each side says
//! who it is and what it would compute before anything else, in a frame of at most
//! `HELLO_BYTES_MAX`; a difference is named, with both values, on both sides. Whoever says nothing
//! that makes sense is hung up on; whoever says nothing keeps nobody waiting.
//!
//! Who is connected with all others says that it is here; where the first process decides
//! something, it does so once all are. Then each says that it begins, and begins once all have said
//! so. Who is asked to end before it says that says farewell to each instead, also to those that it
//! was about to meet: so nobody has begun without it, and all end without a fault.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use socket2::{SockRef, TcpKeepalive};

use super::{
    Cluster, Lost,
    word::{self, Next, Word},
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
/// Between two looks at what peers say.
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

/// By process: the connection with it, where it is another one and there.
type Peers = Vec<Option<TcpStream>>;

/// The processes of a cluster that come together.
pub(super) struct Gathering<'c> {
    cluster: &'c Cluster,
    peers: Peers,
    is_to_end: &'c dyn Fn() -> bool,
}

impl<'c> Gathering<'c> {
    /// Connects this process with all others, and waits until each is connected with all.
    pub(super) fn gather(
        cluster: &'c Cluster,
        shape: &Shape,
        told: &dyn Fn(Connecting<'_>),
        is_to_end: &'c dyn Fn() -> bool,
    ) -> Result<Gathering<'c>, HandshakeError> {
        let peers = cluster.hosts.iter().map(|_| None).collect();
        let mut gathering = Gathering { cluster, peers, is_to_end };
        gathering.or_part(|gathering| {
            connect_all(cluster, shape, &mut gathering.peers, told, is_to_end)?;
            gathering.agree(Word::Here, is_to_end)
        })?;
        told(Connecting::Connected);
        Ok(gathering)
    }

    /// Tells all others what this process decided.
    pub(super) fn tell(&mut self, what: &[u8]) -> Result<(), HandshakeError> {
        self.or_part(|gathering| gathering.each(|_, peer| word::tell(peer, what)))
    }

    /// Hears what the first process decided, as long as that takes.
    pub(super) fn hear(&mut self) -> Result<Vec<u8>, HandshakeError> {
        self.or_part(|gathering| {
            let mut heard = None;
            while heard.is_none() {
                gathering.give_up_if_asked()?;
                gathering.each(|process, peer| {
                    if process == 0 && word::peek(peer)? == Next::Else {
                        heard = Some(word::hear(peer)?);
                    }
                    Ok(())
                })?;
                thread::sleep(BETWEEN_LOOKS);
            }
            Ok(heard.expect("it was waited for"))
        })
    }

    /// Begins, once all do.
    pub(super) fn begin(mut self) -> Result<Peers, HandshakeError> {
        self.or_part(|gathering| {
            gathering.give_up_if_asked()?;
            gathering.agree(Word::Begins, &|| false)
        })?;
        Ok(self.peers)
    }

    /// Says a word to all others, and waits until each has said the same.
    fn agree(&mut self, word: Word, is_to_end: &dyn Fn() -> bool) -> Result<(), HandshakeError> {
        self.each(|_, peer| word::say(peer, word))?;
        let mut missing: Vec<bool> = self.peers.iter().map(Option::is_some).collect();
        while missing.contains(&true) {
            if is_to_end() {
                return Err(HandshakeError::Ended);
            }
            self.each(|process, peer| {
                if missing[process] && word::peek(peer)? == Next::Word(word) {
                    word::skip(peer)?;
                    missing[process] = false;
                }
                Ok(())
            })?;
            thread::sleep(BETWEEN_LOOKS);
        }
        Ok(())
    }

    /// Does something with each of the others, unless one of them was asked to end or is gone.
    fn each(
        &mut self,
        mut does: impl FnMut(usize, &mut TcpStream) -> io::Result<()>,
    ) -> Result<(), HandshakeError> {
        for (process, peer) in self.peers.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            let done = match word::peek(peer) {
                Ok(Next::Word(Word::Farewell)) => return Err(left(self.cluster, process)),
                Ok(_) => does(process, peer),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                return Err(match word::peek(peer) {
                    // It said so before.
                    Ok(Next::Word(Word::Farewell)) => left(self.cluster, process),
                    _ if (self.is_to_end)() => HandshakeError::Ended,
                    _ => HandshakeError::Lost(super::lost(self.cluster, process, &error)),
                });
            }
        }
        Ok(())
    }

    fn give_up_if_asked(&self) -> Result<(), HandshakeError> {
        match (self.is_to_end)() {
            true => Err(HandshakeError::Ended),
            false => Ok(()),
        }
    }

    /// Says farewell to all others where a step ended since this process or another was asked to
    /// end.
    fn or_part<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, HandshakeError>,
    ) -> Result<T, HandshakeError> {
        let end = step(self);
        if let Err(HandshakeError::Ended | HandshakeError::Left { .. }) = end {
            self.peers.iter_mut().flatten().for_each(word::part);
        }
        end
    }
}

fn left(cluster: &Cluster, process: usize) -> HandshakeError {
    HandshakeError::Left { process, host: cluster.hosts[process].clone() }
}

/// How processes meet that say who they are, each on a thread of its own.
struct Meetings {
    hello: Hello,
    /// How many are under way in which this process may have said who it is.
    open: AtomicUsize,
    /// Whether this process leaves.
    is_over: AtomicBool,
}

/// How a meeting ended.
enum Met {
    /// With one that called this process.
    Caller(TcpStream, Hello),
    /// With one that was called, by number.
    Called(usize, io::Result<(TcpStream, Hello)>),
}

impl Meetings {
    /// Both say who they are, then both know; `end` hands on how that went.
    fn meet(
        &self,
        socket: io::Result<TcpStream>,
        end: impl FnOnce(io::Result<(TcpStream, Hello)>),
    ) {
        self.open.fetch_add(1, Ordering::SeqCst);
        end(socket.and_then(|mut socket| {
            introduce(&mut socket, &self.hello)?;
            match hear_out(&socket, &self.is_over) {
                Ok(theirs) => Ok((socket, theirs)),
                Err(error) => {
                    // It may know this process by now.
                    word::part(&mut socket);
                    Err(error)
                }
            }
        }));
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// Ends what is under way, and says farewell to whoever was met meanwhile.
    fn part(&self, met: &mpsc::Receiver<Met>) {
        self.is_over.store(true, Ordering::SeqCst);
        loop {
            let was_open = self.open.load(Ordering::SeqCst) > 0;
            for met in met.try_iter() {
                if let Met::Caller(mut peer, _) | Met::Called(_, Ok((mut peer, _))) = met {
                    word::part(&mut peer);
                }
            }
            if !was_open {
                return;
            }
            thread::sleep(BETWEEN_LOOKS);
        }
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
    let (open, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let meetings = Arc::new(Meetings { hello, open, is_over });
    let (ended, met) = mpsc::channel();
    let mut is_calling = vec![false; *process];
    loop {
        for (peer, host) in hosts.iter().enumerate().take(*process) {
            if peers[peer].is_none() && !std::mem::replace(&mut is_calling[peer], true) {
                let (meetings, ended) = (Arc::clone(&meetings), ended.clone());
                let host = host.clone();
                thread::spawn(move || {
                    // Nobody listens where this process has met all, or failed.
                    meetings.meet(connect(&host), |met| drop(ended.send(Met::Called(peer, met))));
                });
            }
        }
        while let Ok((socket, _)) = listener.accept() {
            let (meetings, ended) = (Arc::clone(&meetings), ended.clone());
            // Whoever says nothing keeps nobody waiting; beyond so many it is hung up on at once.
            if Arc::strong_count(&meetings) <= STRANGERS_MAX {
                thread::spawn(move || {
                    meetings.meet(Ok(socket), |met| {
                        // Who is no process of a cluster is hung up on.
                        if let Ok((socket, hello)) = met {
                            drop(ended.send(Met::Caller(socket, hello)));
                        }
                    });
                });
            }
        }
        for met in met.try_iter() {
            let (called, met) = match met {
                Met::Caller(socket, theirs) => (None, Ok((socket, theirs))),
                Met::Called(peer, met) => {
                    is_calling[peer] = false;
                    (Some(peer), met)
                }
            };
            let (socket, theirs) = match met {
                Ok(met) => met,
                Err(error) => {
                    last_error = Some(error);
                    continue;
                }
            };
            judge(&meetings.hello, &theirs)?;
            let place = theirs.process;
            let is_expected = match called {
                Some(peer) => place == peer,
                None => place > *process && place < hosts.len(),
            };
            if !is_expected {
                let expected = called.unwrap_or(*process);
                let host = hosts[expected].clone();
                return Err(HandshakeError::OtherProcess { host, expected, found: place });
            }
            // One that calls again gave up its earlier call.
            peers[place] = Some(socket);
        }
        let mut who_left = None;
        for (process, peer) in peers.iter_mut().enumerate() {
            match peer.as_ref().map(word::peek) {
                Some(Ok(Next::Word(Word::Farewell))) => who_left = Some(process),
                Some(Err(_)) => *peer = None,
                None | Some(Ok(_)) => {}
            }
        }
        let absent = |(peer, connected): (usize, &Option<TcpStream>)| {
            (connected.is_none() && peer != *process).then(|| (peer, hosts[peer].as_str()))
        };
        let missing: Vec<_> = peers.iter().enumerate().filter_map(absent).collect();
        if missing.is_empty() && who_left.is_none() {
            return Ok(());
        }
        if who_left.is_some() || is_to_end() {
            meetings.part(&met);
            return Err(who_left.map_or(HandshakeError::Ended, |process| left(cluster, process)));
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

/// Connects with a peer.
fn connect(host: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, HELLO_PATIENCE) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Says who this process is.
fn introduce(socket: &mut TcpStream, hello: &Hello) -> io::Result<()> {
    socket.set_nonblocking(false)?;
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
fn hear_out(socket: &TcpStream, is_over: &AtomicBool) -> io::Result<Hello> {
    let deadline = Instant::now() + HELLO_PATIENCE;
    let mut until = ReadUntil { socket, deadline, is_over };
    let mut begin = [0; MAGIC.len() + size_of::<u32>()];
    until.read_exact(&mut begin)?;
    let (magic, length) = begin.split_at(MAGIC.len());
    let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
    if magic != MAGIC || length > HELLO_BYTES_MAX {
        return Err(io::Error::other("no process of a cluster answers there"));
    }
    let mut body = vec![0; length as usize];
    until.read_exact(&mut body)?;
    socket.set_read_timeout(None)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Reads from a socket until a moment, however the bytes drip, or until this process leaves.
struct ReadUntil<'s> {
    socket: &'s TcpStream,
    deadline: Instant,
    is_over: &'s AtomicBool,
}

impl Read for ReadUntil<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(BETWEEN_CALLS))?;
        loop {
            match self.socket.read(buffer) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    ) => {}
                done => return done,
            }
            if self.is_over.load(Ordering::SeqCst) || Instant::now() > self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
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
