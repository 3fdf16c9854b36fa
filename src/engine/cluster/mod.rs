//! A cluster: several processes that compute one dataflow, and live and die as one.
//!
//! Shape: who the processes are in; a timely worker a thread in each of them out.
//!
//! Invariants: no process begins to compute unless all have the same program, the same spec and the
//! same shape of a run; whoever is no process of a cluster is hung up on, and a process of another
//! shape is refused by name. A process that is lost ends all others with a word that names it.
//!
//! Not here: what travels between them (`dataflow`).
//!
//! In reading order: `hosts` (where they are), `handshake` (who they are), `word` (what they say
//! before they compute), `link` (a connection that notices a lost peer).

mod handshake;
mod hosts;
mod link;
mod word;

use std::{
    any::Any,
    io,
    net::TcpStream,
    sync::{Arc, atomic::AtomicBool, mpsc},
    thread,
    time::Duration,
};

use timely::communication::{
    AllocatorBuilder, Hooks,
    allocator::{
        ProcessBuilder,
        zero_copy::initialize::{CommsGuard, initialize_networking_from_sockets},
    },
};

pub use handshake::{Connecting, HandshakeError, Shape};
pub use hosts::{HostsError, parse_hosts, read_hosts};

use link::{Link, Losses};

use super::EngineError;

/// One process's place among those of a cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// By process: where it listens, `host:port`.
    pub hosts: Vec<String>,
    /// Which of them this is.
    pub process: usize,
    /// How long to wait for the others to come.
    pub patience: Duration,
}

/// A process that is gone while it was needed.
#[derive(Debug, thiserror::Error)]
#[error(
    "process {process} at {host} was lost: {how}; a cluster lives and dies as one, so this process \
     ends too: see what that one said, and start all again"
)]
pub struct Lost {
    /// Its number.
    pub process: usize,
    /// Its address.
    pub host: String,
    /// What was noticed.
    pub how: String,
}

/// The connections to the other processes.
pub(super) struct Connections {
    guard: Option<CommsGuard>,
    news: mpsc::Receiver<News>,
    /// For the news that all is done.
    sender: mpsc::Sender<News>,
}

/// What the connections say.
enum News {
    /// A process is gone while it was needed.
    Lost(Lost),
    /// All processes have taken their leave.
    AllDone,
}

/// What timely needs to start this process's workers.
pub(super) type Builders = (Vec<AllocatorBuilder>, Box<dyn Any + Send>);

/// The processes of a cluster, come together and not yet computing.
pub(super) struct Gathered<'c> {
    cluster: &'c Cluster,
    sockets: Vec<Option<TcpStream>>,
}

/// Brings this process together with the others.
pub(super) fn gather<'c>(
    cluster: &'c Cluster,
    shape: &Shape,
    told: &dyn Fn(Connecting<'_>),
    is_to_end: &dyn Fn() -> bool,
) -> Result<Gathered<'c>, HandshakeError> {
    let sockets = handshake::come_together(cluster, shape, told, is_to_end)?;
    Ok(Gathered { cluster, sockets })
}

impl Gathered<'_> {
    /// Whether this process decides for all.
    pub(super) fn is_first(&self) -> bool {
        self.cluster.process == 0
    }

    /// Says to all others what the first process decided.
    pub(super) fn tell(&mut self, word: &[u8]) -> Result<(), Lost> {
        for (process, socket) in self.sockets.iter_mut().enumerate() {
            let Some(socket) = socket else { continue };
            word::tell(socket, word).map_err(|error| lost(self.cluster, process, &error))?;
        }
        Ok(())
    }

    /// Hears what the first process decided. It is waited for even where this process is asked to
    /// end: whoever has begun leaves with all others.
    pub(super) fn hear(&mut self, is_to_end: &dyn Fn() -> bool) -> Result<Vec<u8>, EngineError> {
        let socket = self.sockets[0].as_mut().expect("the first process is another one");
        word::hear(socket).map_err(|error| match is_to_end() {
            true => HandshakeError::Ended.into(),
            false => lost(self.cluster, 0, &error).into(),
        })
    }
}

fn lost(cluster: &Cluster, process: usize, error: &io::Error) -> Lost {
    Lost { process, host: cluster.hosts[process].clone(), how: error.to_string() }
}

/// Connects this process with the others; `stop` is set when one is gone.
pub(super) fn connect(
    gathered: Gathered<'_>,
    workers: usize,
    stop: &Arc<AtomicBool>,
) -> Result<(Builders, Connections), HandshakeError> {
    let Gathered { cluster, sockets } = gathered;
    let (sender, news) = mpsc::channel();
    let losses_of = |(process, socket): (usize, Option<TcpStream>)| {
        socket.map(|socket| {
            let host = cluster.hosts[process].clone();
            Link::new(socket, Losses::new(process, host, sender.clone(), Arc::clone(stop)))
        })
    };
    let links: Vec<Option<Link>> = sockets.into_iter().enumerate().map(losses_of).collect();
    let hooks = Hooks::default();
    let locals =
        ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), hooks.spill.clone());
    let networking =
        initialize_networking_from_sockets(locals, links, cluster.process, workers, hooks);
    let (builders, guard) = networking.map_err(HandshakeError::Threads)?;
    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
    Ok(((builders, Box::new(())), Connections { guard: Some(guard), news, sender }))
}

impl Connections {
    /// The first process that was lost, if one was.
    pub(super) fn lost(&self) -> Option<Lost> {
        match self.news.try_recv() {
            Ok(News::Lost(lost)) => Some(lost),
            Ok(News::AllDone) | Err(_) => None,
        }
    }

    /// Waits until all processes have computed all, or one is lost. This process's workers have
    /// ended.
    pub(super) fn finish(mut self) -> Result<(), Lost> {
        let guard = self.guard.take();
        let sender = self.sender.clone();
        thread::spawn(move || {
            drop(guard);
            // Nobody listens where a process was lost.
            let _ = sender.send(News::AllDone);
        });
        match self.news.recv().expect("this holds a sender") {
            News::Lost(lost) => Err(lost),
            News::AllDone => Ok(()),
        }
    }
}

impl Drop for Connections {
    /// After a failure the threads of the connections wait for peers that may never end; they end
    /// with the process.
    fn drop(&mut self) {
        std::mem::forget(self.guard.take());
    }
}
