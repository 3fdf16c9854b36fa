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

use handshake::Gathering;
use link::{Link, Losses};

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

/// The processes of a cluster, connected and not yet computing.
pub(super) struct Gathered<'c> {
    cluster: &'c Cluster,
    gathering: Gathering<'c>,
}

/// Brings this process together with the others.
pub(super) fn gather<'c>(
    cluster: &'c Cluster,
    shape: &Shape,
    told: &dyn Fn(Connecting<'_>),
    is_to_end: &'c dyn Fn() -> bool,
) -> Result<Gathered<'c>, HandshakeError> {
    let gathering = Gathering::gather(cluster, shape, told, is_to_end)?;
    Ok(Gathered { cluster, gathering })
}

impl Gathered<'_> {
    /// Whether this process decides for all.
    pub(super) fn is_first(&self) -> bool {
        self.cluster.process == 0
    }

    /// Tells all others what the first process decided.
    pub(super) fn tell(&mut self, what: &[u8]) -> Result<(), HandshakeError> {
        self.gathering.tell(what)
    }

    /// Hears what the first process decided.
    pub(super) fn hear(&mut self) -> Result<Vec<u8>, HandshakeError> {
        self.gathering.hear()
    }
}

fn lost(cluster: &Cluster, process: usize, error: &io::Error) -> Lost {
    Lost { process, host: cluster.hosts[process].clone(), how: error.to_string() }
}

/// Begins with the others; `stop` is set when one is gone from then on.
pub(super) fn connect(
    gathered: Gathered<'_>,
    workers: usize,
    stop: &Arc<AtomicBool>,
) -> Result<(Builders, Connections), HandshakeError> {
    let Gathered { cluster, gathering } = gathered;
    let sockets = gathering.begin()?;
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
