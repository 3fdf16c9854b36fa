//! A proxy between the engine and a broker that does to the ends of transactions what networks and
//! busy brokers do: holds, swallows and repeats answers, and cuts connections.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// The requests that end a transaction and that make a writer anew, in Kafka's protocol.
const END_TXN: i16 = 26;
const INIT_PRODUCER_ID: i16 = 22;

/// What is done to the next end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trick {
    /// The answer comes late.
    Delay,
    /// The answer comes twice.
    Repeat,
    /// The answer never comes.
    Swallow,
    /// The connection breaks before the broker hears of it.
    CutBefore,
    /// The connection breaks after the broker has done it, before the answer.
    CutAfter,
    /// The connection breaks, and the broker hears of it when that is asked for (`release`): when,
    /// if nobody prevents that, the next transaction is open.
    Late,
}

/// How late an answer comes.
const LATE: Duration = Duration::from_millis(700);

/// A proxy that listens on a port of its own.
pub struct Proxy {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Where the broker listens.
    broker: String,
    trick: Option<Trick>,
    /// The transactional ids of the ends to which each was done, and how often the broker had made
    /// a writer of that id by then.
    played: HashMap<Trick, Vec<(String, usize)>>,
    made: HashMap<String, usize>,
    /// What the broker said to ends that came late: error codes of Kafka's protocol.
    late: Vec<i16>,
    /// How many of the ends that are late may come.
    released: usize,
}

impl State {
    fn may_come(&mut self) -> bool {
        let is_free = self.released > 0;
        self.released -= usize::from(is_free);
        is_free
    }

    /// What is done to this end of a transaction.
    fn draw(&mut self, request: &[u8]) -> Option<Trick> {
        let trick = self.trick?;
        // In its first versions: length, key and version, correlation id, the client's name, the
        // transactional id.
        assert!(request[6] == 0 && request[7] < 3, "another form of the request");
        let client = usize::from(u16::from_be_bytes([request[12], request[13]]));
        let (length, id) = request[14 + client..].split_at(2);
        let id = &id[..usize::from(u16::from_be_bytes([length[0], length[1]]))];
        let id = String::from_utf8_lossy(id).into_owned();
        let made = self.made.get(&id).copied().unwrap_or_default();
        self.played.entry(trick).or_default().push((id, made));
        Some(trick)
    }
}

impl Proxy {
    /// Listens; for whom, is said later.
    pub fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A broker that is not there hangs up, as it would itself.
                thread::spawn(move || drop(pass(client, &shared)));
            }
        });
        Proxy { port, state }
    }

    pub fn stands_for(&self, broker: &str) {
        broker.clone_into(&mut self.state.lock().expect("nobody panics").broker);
    }

    /// Plays a trick on every end of a transaction from now on; `None` plays none.
    pub fn play(&self, trick: Option<Trick>) {
        self.state.lock().expect("nobody panics").trick = trick;
    }

    /// Lets one of the ends that are late come.
    pub fn release(&self) {
        self.state.lock().expect("nobody panics").released += 1;
    }

    /// What the broker said to the ends that came late.
    pub fn late(&self) -> Vec<i16> {
        self.state.lock().expect("nobody panics").late.clone()
    }

    /// The transactional ids of the ends on which a trick was played.
    pub fn played(&self, trick: Trick) -> Vec<String> {
        let state = self.state.lock().expect("nobody panics");
        state.played.get(&trick).into_iter().flatten().map(|(id, _)| id.clone()).collect()
    }

    /// Whether the broker has made another writer of each id since a trick was played on its end,
    /// from one of these on.
    pub fn are_made_anew(&self, trick: Trick, from: usize) -> bool {
        let state = self.state.lock().expect("nobody panics");
        state.played[&trick][from..].iter().all(|(id, made)| state.made.get(id) > Some(made))
    }
}

/// A message with its length before it.
fn frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + length, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// The transactional id of a request that makes a writer. In the versions since 2: length, key and
/// version, correlation id, the client's name, no tags, the length of the id and one more, the id.
fn made_by(request: &[u8]) -> String {
    assert!(request[6] == 0 && request[7] >= 2, "another form of the request");
    let client = usize::from(u16::from_be_bytes([request[12], request[13]]));
    let id = &request[15 + client..];
    // Who makes no transactions has none.
    String::from_utf8_lossy(&id[1..usize::from(id[0]).max(1)]).into_owned()
}

/// Passes requests on, and by another thread answers.
fn pass(mut client: TcpStream, state: &Arc<Mutex<State>>) -> io::Result<()> {
    let address = state.lock().expect("nobody panics").broker.clone();
    let mut broker = TcpStream::connect(&address)?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    // By correlation id, what is to be done to an answer.
    let tricks = Arc::new(Mutex::new(HashMap::<[u8; 4], Trick>::new()));
    // And which writer it makes.
    let makes = Arc::new(Mutex::new(HashMap::<[u8; 4], String>::new()));
    let answering = {
        let (broker, client) = (broker.try_clone()?, client.try_clone()?);
        let (tricks, makes, state) = (Arc::clone(&tricks), Arc::clone(&makes), Arc::clone(state));
        thread::spawn(move || {
            let hang_up = [broker.try_clone(), client.try_clone()];
            let _ = answer(broker, client, &tricks, &|number, answer| {
                let id = makes.lock().expect("nobody panics").remove(&number);
                // Length, correlation id, no tags, how long to wait, the error.
                if let Some(id) = id.filter(|_| answer[13..15] == [0, 0]) {
                    *state.lock().expect("nobody panics").made.entry(id).or_default() += 1;
                }
            });
            hang_up.into_iter().flatten().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        })
    };
    while let Ok(request) = frame(&mut client) {
        let id = [request[8], request[9], request[10], request[11]];
        let trick = match i16::from_be_bytes([request[4], request[5]]) {
            END_TXN => state.lock().expect("nobody panics").draw(&request),
            INIT_PRODUCER_ID => {
                makes.lock().expect("nobody panics").insert(id, made_by(&request));
                None
            }
            _ => None,
        };
        match trick {
            Some(Trick::CutBefore) => break,
            Some(Trick::Late) => {
                let state = Arc::clone(state);
                thread::spawn(move || -> io::Result<()> {
                    while !state.lock().expect("nobody panics").may_come() {
                        thread::sleep(Duration::from_millis(5));
                    }
                    let mut late = TcpStream::connect(&address)?;
                    late.write_all(&request)?;
                    let answer = frame(&mut late)?;
                    // Length, correlation id, how long to wait, the error.
                    let code = i16::from_be_bytes([answer[12], answer[13]]);
                    state.lock().expect("nobody panics").late.push(code);
                    Ok(())
                });
                break;
            }
            Some(trick) => drop(tricks.lock().expect("nobody panics").insert(id, trick)),
            None => {}
        }
        if broker.write_all(&request).is_err() {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both));
    let _ = answering.join();
    Ok(())
}

/// Passes answers on until one ends it.
fn answer(
    mut broker: TcpStream,
    mut client: TcpStream,
    tricks: &Mutex<HashMap<[u8; 4], Trick>>,
    hear: &dyn Fn([u8; 4], &[u8]),
) -> io::Result<()> {
    loop {
        let answer = frame(&mut broker)?;
        let id = [answer[4], answer[5], answer[6], answer[7]];
        hear(id, &answer);
        let trick = tricks.lock().expect("nobody panics").remove(&id);
        match trick {
            Some(Trick::CutAfter) => return Ok(()),
            Some(Trick::Swallow) => continue,
            Some(Trick::Delay) => thread::sleep(LATE),
            Some(Trick::Repeat) => client.write_all(&answer)?,
            Some(Trick::CutBefore | Trick::Late) | None => {}
        }
        client.write_all(&answer)?;
    }
}
