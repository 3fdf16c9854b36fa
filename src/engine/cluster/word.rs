//! Words: what processes that are connected say to each other before they compute.
//!
//! Shape: a length of four bytes, and so many bytes; three lengths are words themselves.
//!
//! Invariants: each process says to each `Here`, then `Begins`, or instead of one of them
//! `Farewell`, after which it says nothing more. What the first process decided it tells in
//! between. After `Begins` comes what `link` carries.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
};

/// Longest word: an offset of each of 10,000 partitions, and more.
const BYTES_MAX: u32 = 1 << 20;

/// A word that says all by being said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Who says it is connected with all others.
    Here,
    /// Who says it computes once all have said so, and leaves only with all others.
    Begins,
    /// Who says it was asked to end.
    Farewell,
}

impl Word {
    const ALL: [Word; 3] = [Word::Here, Word::Begins, Word::Farewell];

    fn bytes(self) -> [u8; 4] {
        match self {
            Word::Here => u32::MAX - 2,
            Word::Begins => u32::MAX - 1,
            Word::Farewell => u32::MAX,
        }
        .to_be_bytes()
    }
}

/// Says a word.
pub(super) fn say(socket: &mut TcpStream, word: Word) -> io::Result<()> {
    socket.write_all(&word.bytes())
}

/// Says farewell, after which nothing more is said; one that is gone needs none.
pub(super) fn part(socket: &mut TcpStream) {
    let _ = say(socket, Word::Farewell).and_then(|()| socket.shutdown(Shutdown::Write));
}

/// What is to be heard next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing yet.
    Nothing,
    Word(Word),
    /// What is told, or what `link` carries.
    Else,
}

/// Looks what comes next, without waiting for it; an error where no more can come.
pub(super) fn peek(socket: &TcpStream) -> io::Result<Next> {
    let mut begin = [0; 4];
    socket.set_nonblocking(true)?;
    let peeked = socket.peek(&mut begin);
    socket.set_nonblocking(false)?;
    match peeked {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")),
        Ok(4) => {
            let word = Word::ALL.into_iter().find(|word| word.bytes() == begin);
            Ok(word.map_or(Next::Else, Next::Word))
        }
        Ok(_) => Ok(Next::Nothing),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Next::Nothing),
        Err(error) => Err(error),
    }
}

/// Passes over a word that was seen.
pub(super) fn skip(socket: &mut TcpStream) -> io::Result<()> {
    socket.read_exact(&mut [0; 4])
}

/// Tells something of any length.
pub(super) fn tell(socket: &mut TcpStream, what: &[u8]) -> io::Result<()> {
    socket.write_all(&(what.len() as u32).to_be_bytes())?;
    socket.write_all(what)
}

/// Hears what is told; it has begun to come.
pub(super) fn hear(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > BYTES_MAX {
        return Err(io::Error::other("a word that is too long"));
    }
    let mut what = vec![0; length as usize];
    socket.read_exact(&mut what)?;
    Ok(what)
}
