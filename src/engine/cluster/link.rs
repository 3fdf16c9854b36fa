//! Links: connections between processes that notice when the other side is gone.
//!
//! Shape: a connected socket in; the same bytes through it, but for its end.
//!
//! Invariants: the end of a connection is clean after the message of no length with which the other
//! side takes its leave; at any other place, or by an error, the peer is lost. Then that is said
//! once, and the thread that noticed stops for good: the layer above would end the process without
//! a word that helps.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use timely::communication::allocator::zero_copy::stream::Stream;

use super::{Lost, News};

/// Where it is said that a peer is lost.
#[derive(Clone)]
pub(super) struct Losses {
    process: usize,
    host: String,
    news: mpsc::Sender<News>,
    /// Set, so that the workers stop.
    stop: Arc<AtomicBool>,
}

/// A connection to another process.
pub(super) struct Link {
    socket: TcpStream,
    losses: Losses,
    received: Received,
}

/// Where in the sequence of messages the bytes that were received end.
#[derive(Default)]
struct Received {
    /// Of a header that is not whole.
    header: Vec<u8>,
    /// Bytes of the body that are still to come.
    body: usize,
    has_left: bool,
}

impl Losses {
    pub(super) fn new(
        process: usize,
        host: String,
        news: mpsc::Sender<News>,
        stop: Arc<AtomicBool>,
    ) -> Losses {
        Losses { process, host, news, stop }
    }

    /// Says that the peer is lost, and never comes back.
    fn lose(&self, how: &str) -> ! {
        let lost = Lost { process: self.process, host: self.host.clone(), how: how.to_owned() };
        // Nobody listens once another loss ends the process.
        let _ = self.news.send(News::Lost(lost));
        self.stop.store(true, Ordering::Relaxed);
        loop {
            std::thread::park();
        }
    }
}

impl Link {
    pub(super) fn new(socket: TcpStream, losses: Losses) -> Link {
        Link { socket, losses, received: Received::default() }
    }
}

const HEADER_BYTES: usize = 6 * size_of::<u64>();

impl Received {
    /// Follows the messages through some more bytes.
    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let of_body = self.body.min(bytes.len());
            self.body -= of_body;
            bytes = &bytes[of_body..];
            let missing = HEADER_BYTES - self.header.len();
            let (of_header, rest) = bytes.split_at(missing.min(bytes.len()));
            self.header.extend_from_slice(of_header);
            bytes = rest;
            if self.header.len() == HEADER_BYTES {
                self.body = body_bytes(&self.header);
                self.has_left = self.body == 0;
                self.header.clear();
            }
        }
    }
}

/// How many bytes follow a header.
fn body_bytes(header: &[u8]) -> usize {
    let length = header[4 * size_of::<u64>()..5 * size_of::<u64>()].try_into();
    u64::from_be_bytes(length.expect("a header has six numbers")) as usize
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.read(buffer) {
                Ok(0) if !self.received.has_left => {
                    self.losses.lose("it closed the connection before its end");
                }
                Ok(read) => {
                    self.received.pass(&buffer[..read]);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It left, so what its host says of the connection after that is no matter.
                Err(_) if self.received.has_left => return Ok(0),
                Err(error) => self.losses.lose(&error.to_string()),
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.socket.write(bytes) {
                Ok(0) => self.losses.lose("it takes no more"),
                Ok(written) => return Ok(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.losses.lose(&error.to_string()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Stream for Link {
    fn try_clone(&self) -> io::Result<Link> {
        Ok(Link::new(self.socket.try_clone()?, self.losses.clone()))
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.socket.shutdown(how) {
            // The other side has left already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use timely::communication::networking::MessageHeader;

    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let header = MessageHeader {
            channel: 1,
            source: 2,
            target_lower: 3,
            target_upper: 4,
            length,
            seqno: 5,
        };
        let mut bytes = Vec::new();
        header.write_to(&mut bytes).unwrap();
        assert_eq!(bytes.len(), HEADER_BYTES);
        bytes.resize(HEADER_BYTES + length, 0);
        bytes
    }

    #[test]
    fn only_the_message_of_no_length_is_a_leave() {
        let mut bytes = message(300);
        bytes.extend(message(1));
        let whole = bytes.len();
        bytes.extend(message(0));
        for part in [1, 7, 48, 100, 10_000] {
            let mut received = Received::default();
            for (place, bytes) in bytes.chunks(part).enumerate() {
                received.pass(bytes);
                let passed = (place * part) + bytes.len();
                assert_eq!(received.has_left, passed == whole + HEADER_BYTES, "{passed}");
            }
        }
    }
}
