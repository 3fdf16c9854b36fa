//! Hosts files: where the processes of a cluster are found.
//!
//! Shape: the text of a file in, `host:port` a line, in the order of the processes, empty lines and
//! lines that begin with `#` left out; the addresses out.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Longest hosts file: 64 processes with the longest names there are.
const HOSTS_BYTES_MAX: u64 = 64 << 10;

/// Why a hosts file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// It cannot be read.
    #[error(
        "cannot read hosts file \"{path}\"; give one with host:port a line, in the order of the \
         processes"
    )]
    Unreadable {
        /// The file, as it was named.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is too long, or no text.
    #[error("hosts file \"{path}\" is longer than 64 KiB or no UTF-8 text; give host:port a line")]
    NotHosts {
        /// The file, as it was named.
        path: PathBuf,
    },
    /// A line is no address.
    #[error("hosts file \"{path}\", line {line}: not host:port with a port from 1 to 65535")]
    NoAddress {
        /// The file, as it was named.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Two lines name the same address.
    #[error(
        "hosts file \"{path}\", line {line}: the address of line {first} again; each process has \
         its own"
    )]
    Twice {
        /// The file, as it was named.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Where it stood first.
        first: usize,
    },
    /// It names another number of processes.
    #[error("hosts file \"{path}\" names {named} processes and --processes says {processes}")]
    OtherNumber {
        /// The file, as it was named.
        path: PathBuf,
        /// Addresses in it.
        named: usize,
        /// What was asked for.
        processes: usize,
    },
}

/// Reads a hosts file of so many processes.
///
/// # Errors
/// When it cannot be read, or does not name exactly so many addresses, all different.
pub fn read_hosts(path: &Path, processes: usize) -> Result<Vec<String>, HostsError> {
    let unreadable = |source| HostsError::Unreadable { path: path.to_owned(), source };
    let (file, mut bytes) = (File::open(path).map_err(unreadable)?, Vec::new());
    file.take(HOSTS_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > HOSTS_BYTES_MAX {
        return Err(HostsError::NotHosts { path: path.to_owned() });
    }
    parse_hosts(path, &bytes, processes)
}

/// Reads the bytes of a hosts file that was read from `path`.
///
/// # Errors
/// When they do not name exactly so many addresses, all different.
pub fn parse_hosts(path: &Path, bytes: &[u8], processes: usize) -> Result<Vec<String>, HostsError> {
    let path = || path.to_owned();
    let text = str::from_utf8(bytes).map_err(|_| HostsError::NotHosts { path: path() })?;
    let (mut hosts, mut lines) = (Vec::new(), HashMap::new());
    for (place, line) in text.lines().enumerate() {
        let (address, line) = (line.trim(), place + 1);
        if address.is_empty() || address.starts_with('#') {
            continue;
        }
        if !is_address(address) {
            return Err(HostsError::NoAddress { path: path(), line });
        }
        if let Some(first) = lines.insert(address, line) {
            return Err(HostsError::Twice { path: path(), line, first });
        }
        hosts.push(address.to_owned());
    }
    if hosts.len() != processes {
        return Err(HostsError::OtherNumber { path: path(), named: hosts.len(), processes });
    }
    Ok(hosts)
}

/// Whether a text is a host and a port; whether the host is there, only the network knows.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = !host.is_empty() && host.chars().all(is_host);
    let six = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_six = six.is_some_and(|six| six.parse::<std::net::Ipv6Addr>().is_ok());
    let is_port = port.bytes().all(|digit| digit.is_ascii_digit());
    (is_name || is_six) && is_port && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, processes: usize) -> Result<Vec<String>, String> {
        let parsed = parse_hosts(Path::new("hosts"), text.as_bytes(), processes);
        parsed.map_err(|error| error.to_string())
    }

    #[test]
    fn hosts_are_read_in_order() {
        let text = "# the cluster\n a.example:2101 \n\n[::1]:2102\r\n10.0.0.3:2103";
        assert_eq!(parse(text, 3).unwrap(), ["a.example:2101", "[::1]:2102", "10.0.0.3:2103"]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        for (text, said) in [
            ("a:1\nb", "line 2: not host:port"),
            ("a:0\nb:1", "line 1: not host:port"),
            ("a:1\nb:65536", "line 2: not host:port"),
            ("a:1\nb:+1", "line 2: not host:port"),
            ("a:1\n::1:2", "line 2: not host:port"),
            ("a:1\n[::z]:2", "line 2: not host:port"),
            ("a:1\n:2", "line 2: not host:port"),
            ("a:1\n#\na:1", "line 3: the address of line 1 again"),
            ("a:1", "names 1 processes and --processes says 2"),
            ("a:1\nb:1\nc:1", "names 3 processes and --processes says 2"),
        ] {
            let error = parse(text, 2).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
