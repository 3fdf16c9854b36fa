//! Words: what processes that are connected say to each other before they compute.
//!
//! Shape: a length of four bytes, and so many bytes; two lengths are words themselves.
//!
//! Invariants: what a process says to begin with is `Begins` or `Farewell`; after `Begins` come
//! words of the first process, and then what `link` carries.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

/// Longest word: an offset of each of 10,000 partitions, and more.
const BYTES_MAX: u32 = 1 << 20;

const BEGINS: [u8; 4] = 0_u32.to_be_bytes();
const FAREWELL: [u8; 4] = u32::MAX.to_be_bytes();

/// A word that says all by being said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Who says it is connected with all others.
    Begins,
    /// Who says it was asked to end.
    Farewell,
}

/// Says a word.
pub(super) fn say(socket: &mut TcpStream, word: Word) -> io::Result<()> {
    socket.write_all(match word {
        Word::Begins => &BEGINS,
        Word::Farewell => &FAREWELL,
    })
}

/// Looks which word comes next, without waiting for one; an error where no more can come.
pub(super) fn peek(socket: &TcpStream) -> io::Result<Option<Word>> {
    let mut begin = [0; 4];
    socket.set_nonblocking(true)?;
    let peeked = socket.peek(&mut begin);
    socket.set_nonblocking(false)?;
    match peeked {
        Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")),
        Ok(4) if begin == BEGINS => Ok(Some(Word::Begins)),
        Ok(4) if begin == FAREWELL => Ok(Some(Word::Farewell)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Passes over a word that was seen.
pub(super) fn skip(socket: &mut TcpStream) -> io::Result<()> {
    socket.read_exact(&mut [0; 4])
}

/// Says something of any length.
pub(super) fn tell(socket: &mut TcpStream, what: &[u8]) -> io::Result<()> {
    socket.write_all(&(what.len() as u32).to_be_bytes())?;
    socket.write_all(what)
}

/// Waits for what a peer tells, as long as it takes.
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
