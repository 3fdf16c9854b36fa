//! What the engine does, step by step, and what happens to it.

use stateright::{Model, Property};

use crate::world::{
    Brokers, Entry, ITEMS, Open, Progress, SHARDS, Script, WORKERS, WRITERS, owns, writer_of,
};

/// The rules of the protocol; the model without one of them must fail.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub lead_is_guarded: bool,
    pub owed_is_sent_again: bool,
    pub sends_without_comparing: bool,
    pub held_before_counts: bool,
    pub looks_at_first_who_leads: bool,
    pub looks_again_who_leads: bool,
    pub named_are_fenced: bool,
    pub both_are_fenced: bool,
    pub reads_to_the_end: bool,
    pub disturbed_is_unknown: bool,
}

impl Rules {
    pub const ALL: Rules = Rules {
        lead_is_guarded: true,
        owed_is_sent_again: true,
        sends_without_comparing: true,
        held_before_counts: true,
        looks_at_first_who_leads: true,
        looks_again_who_leads: true,
        named_are_fenced: true,
        both_are_fenced: true,
        reads_to_the_end: true,
        disturbed_is_unknown: true,
    };
}

/// How much happens.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub starts: u8,
    pub kills: u8,
    /// How many starts run at once.
    pub at_once: u8,
    /// How many ends of transactions go wrong.
    pub disturbed: u8,
    /// How many epochs there are.
    pub epochs: u8,
    /// Whether there are starts of one worker too.
    pub narrow_starts: bool,
    /// Whether records may be marked later than their transaction is committed, and transactions
    /// time out whose writer is there.
    pub is_slow: bool,
}

pub struct Protocol {
    pub rules: Rules,
    pub limits: Limits,
    pub script: Script,
}

/// How far a start is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Begun,
    /// It has taken the lead's id.
    TookLead,
    /// It has read of which generation the lead record is, and how many workers it names.
    ReadLead(u8, u8),
    /// Fences this writer next.
    Fencing(u8),
    Fenced,
    Running,
}

/// How far a worker is with its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// It has no writers; of this epoch it is not known whether it is committed.
    NoWriters {
        in_doubt: bool,
    },
    /// It has taken the first of its ids.
    OneWriter {
        in_doubt: bool,
    },
    /// It has taken both, and has not looked at anything yet.
    Unsure {
        in_doubt: bool,
    },
    /// It has seen that its start leads.
    Leads {
        in_doubt: bool,
    },
    Ready,
    /// Its records are sent.
    Sent,
    /// Its progress record too.
    Whole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Worker {
    step: Step,
    /// Which of its two writers writes next.
    turn: u8,
    /// By turn, whether nobody has taken the writer's id since this worker did.
    has_id: [bool; 2],
    /// Whether it had writers before.
    is_again: bool,
    /// Which epoch, of those of its start, comes next.
    next: u8,
    /// By shard, the item that first touched what waits to be corrected or sent again.
    waiting: [Option<u8>; SHARDS],
    /// The same, once the transaction under way is committed.
    left: [Option<u8>; SHARDS],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Start {
    phase: Phase,
    /// Whether nobody has taken the lead's id since this start did.
    has_lead: bool,
    generation: u8,
    /// How many workers its lead record names.
    named: u8,
    workers: u8,
    /// What it found to be written.
    found: [Progress; SHARDS],
    /// Its epochs with their vectors: those of the chain, then its own.
    epochs: Vec<(u8, u8)>,
    chain: u8,
    each: [Worker; WORKERS],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    brokers: Brokers,
    starts: Vec<Start>,
    begun: u8,
    killed: u8,
    disturbed: u8,
}

/// What becomes of the end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Answered,
    /// It is done, and nobody hears of it.
    Unanswered,
    /// It is not done.
    Lost,
    /// It comes later.
    Late,
    /// It is sent again after a break and done; the first sending comes later.
    Twice,
}

/// Which of what waits is corrected in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    None,
    First,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Begin {
        workers: u8,
    },
    Kill(usize),
    TakeLead(usize),
    ReadLead(usize),
    /// Writes the next lead record; whether it is told that it did.
    WriteLead(usize, bool),
    Fence(usize),
    ReadProgress(usize),
    /// Cuts an epoch that holds the inputs up to a vector.
    Cut(usize, u8),
    TakeId(usize, usize),
    LookWhoLeads(usize, usize),
    LookWhatIsThere(usize, usize),
    Send(usize, usize, Turn),
    SendProgress(usize, usize),
    End(usize, usize, End),
    /// What is late comes.
    Deliver,
    /// The transaction of a writer times out.
    TimeOut(u8),
    /// The records of what a writer committed are marked.
    Mark(u8),
}

impl Action {
    /// Which start goes on by it.
    pub fn start(self) -> Option<usize> {
        match self {
            Action::TakeLead(start)
            | Action::ReadLead(start)
            | Action::WriteLead(start, _)
            | Action::Fence(start)
            | Action::ReadProgress(start)
            | Action::Cut(start, _)
            | Action::TakeId(start, _)
            | Action::LookWhoLeads(start, _)
            | Action::LookWhatIsThere(start, _)
            | Action::Send(start, ..)
            | Action::SendProgress(start, _)
            | Action::End(start, ..) => Some(start),
            Action::Begin { .. }
            | Action::Kill(_)
            | Action::Deliver
            | Action::TimeOut(_)
            | Action::Mark(_) => None,
        }
    }
}

const NEW: Worker = Worker {
    step: Step::NoWriters { in_doubt: false },
    turn: 0,
    has_id: [false; 2],
    is_again: false,
    next: 0,
    waiting: [None; SHARDS],
    left: [None; SHARDS],
};

impl Protocol {
    /// What a start makes of the progress that it found.
    fn resume(&self, start: &mut Start) {
        let mut chain: Vec<(u8, u8)> = start.found.iter().map(|p| (p.epoch, p.vector)).collect();
        chain.sort_unstable();
        chain.dedup();
        let (_, end) = *chain.last().expect("there are shards");
        start.chain = chain.len() as u8;
        start.epochs = chain;
        let Script { documents, touched, given } = &self.script;
        let counts = if self.rules.held_before_counts { touched } else { given };
        for (number, worker) in start.each.iter_mut().enumerate() {
            let own = |shard: &usize| owns(number as u8, start.workers, *shard);
            let settled = (0..SHARDS).filter(own).map(|shard| start.found[shard].settled).min();
            let Some(settled) = settled else { continue };
            for shard in (0..SHARDS).filter(own).filter(|_| self.rules.owed_is_sent_again) {
                let mut items = settled + 1..=end;
                let first = items.find(|item| counts[usize::from(*item)][shard]);
                let [was, is] = [settled, end].map(|cut| documents[usize::from(cut)][shard]);
                if self.rules.sends_without_comparing || was != is {
                    worker.waiting[shard] = first;
                }
            }
        }
    }

    /// What a worker sends of its next epoch.
    fn send(&self, start: &Start, number: u8, turn: Turn) -> (Open, [Option<u8>; SHARDS]) {
        let worker = &start.each[usize::from(number)];
        let place = usize::from(worker.next);
        let (epoch, vector) = start.epochs[place];
        let before = if place == 0 { 0 } else { start.epochs[place - 1].1 };
        let (mut records, mut left) = ([None; SHARDS], worker.waiting);
        let is_replay = worker.next < start.chain;
        let mut turns = match turn {
            Turn::None => 0,
            Turn::First => 1,
            Turn::All => SHARDS,
        };
        for shard in (0..SHARDS).filter(|shard| owns(number, start.workers, *shard)) {
            let document = |cut: u8| self.script.documents[usize::from(cut)][shard];
            if epoch <= start.found[shard].epoch {
                continue;
            }
            if before == 0 && vector > 0 {
                records[shard] = Some(document(vector));
                if !is_replay {
                    left[shard] = None;
                }
                continue;
            }
            if is_replay {
                // Corrections are in the state, and none goes out.
                continue;
            }
            if document(before) != document(vector) && left[shard].is_none() {
                let mut items = before + 1..=vector;
                left[shard] = items.find(|item| self.script.touched[usize::from(*item)][shard]);
            }
            if left[shard].is_some() && turns > 0 {
                turns -= 1;
                left[shard] = None;
                records[shard] = Some(document(vector));
            }
        }
        (Open { epoch, records }, left)
    }

    /// Whether something of a worker's waits.
    fn waits(&self, start: &Start) -> bool {
        start.each.iter().any(|worker| worker.waiting.iter().any(Option::is_some))
    }

    fn worker_actions(&self, state: &State, of: usize, number: usize, actions: &mut Vec<Action>) {
        let start = &state.starts[of];
        let worker = &start.each[number];
        match worker.step {
            Step::NoWriters { .. } | Step::OneWriter { .. } => {
                actions.push(Action::TakeId(of, number));
            }
            Step::Unsure { .. } => actions.push(Action::LookWhoLeads(of, number)),
            Step::Leads { .. } => {
                if state.brokers.hidden.is_empty() || !self.rules.reads_to_the_end {
                    actions.push(Action::LookWhatIsThere(of, number));
                }
            }
            Step::Ready => {
                let writer = usize::from(writer_of(number, worker.turn));
                let is_refused = worker.has_its_id() && state.brokers.unmarked[writer];
                if usize::from(worker.next) >= start.epochs.len() || is_refused {
                    return;
                }
                actions.push(Action::Send(of, number, Turn::None));
                // Both turns, where they differ from none and from each other.
                let sent = |turn| self.send(start, number as u8, turn);
                if sent(Turn::First) != sent(Turn::None) {
                    actions.push(Action::Send(of, number, Turn::First));
                }
                if sent(Turn::All) != sent(Turn::First) {
                    actions.push(Action::Send(of, number, Turn::All));
                }
            }
            Step::Sent => actions.push(Action::SendProgress(of, number)),
            Step::Whole => {
                actions.push(Action::End(of, number, End::Answered));
                if state.disturbed < self.limits.disturbed {
                    let ends = [End::Unanswered, End::Lost, End::Late, End::Twice];
                    actions.extend(ends.map(|end| Action::End(of, number, end)));
                }
            }
        }
    }
}

/// Somebody takes the id of a writer from whoever has it.
fn take(brokers: &mut Brokers, starts: &mut [Start], writer: u8) {
    brokers.take(writer);
    let (worker, turn) = (usize::from(writer / 2), usize::from(writer % 2));
    starts.iter_mut().for_each(|start| start.each[worker].has_id[turn] = false);
}

impl Worker {
    /// Whether nobody has taken the id of the writer whose turn it is.
    fn has_its_id(&self) -> bool {
        self.has_id[usize::from(self.turn)]
    }

    /// What it wrote is known to be committed.
    fn committed(&mut self) {
        self.waiting = self.left;
        self.next += 1;
        self.turn = 1 - self.turn;
        self.step = Step::Ready;
    }
}

impl Start {
    /// Goes on with the next epoch that brings something to a worker; what is held is passed over.
    fn pass(&mut self, number: usize) {
        let own = |shard: &usize| owns(number as u8, self.workers, *shard);
        let held = (0..SHARDS).filter(own).map(|shard| self.found[shard].epoch).min();
        let worker = &mut self.each[number];
        while let Some((epoch, _)) = self.epochs.get(usize::from(worker.next)) {
            if held.is_some_and(|held| *epoch > held) {
                break;
            }
            worker.next += 1;
        }
    }

    /// Up to which epoch a worker knows a shard to be written.
    fn known(&self, number: usize, shard: usize) -> u8 {
        let written = self.each[number].next.checked_sub(1);
        let written = written.map_or(0, |place| self.epochs[usize::from(place)].0);
        written.max(self.found[shard].epoch)
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.begun < self.limits.starts && state.starts.len() < self.limits.at_once.into() {
            actions.push(Action::Begin { workers: 2 });
            if self.limits.narrow_starts && state.begun > 0 {
                actions.push(Action::Begin { workers: 1 });
            }
        }
        if state.brokers.late.is_some() {
            actions.push(Action::Deliver);
        }
        for writer in 0..WRITERS as u8 {
            // Also that of one which is there and sleeps for long; elsewhere that alone makes many
            // times the states.
            let is_of =
                |start: &Start| start.each[usize::from(writer / 2)].has_id[usize::from(writer % 2)];
            let is_open = state.brokers.open[usize::from(writer)].is_some();
            if is_open && (self.limits.is_slow || !state.starts.iter().any(is_of)) {
                actions.push(Action::TimeOut(writer));
            }
            if state.brokers.unmarked[usize::from(writer)] {
                actions.push(Action::Mark(writer));
            }
        }
        for (of, start) in state.starts.iter().enumerate() {
            if state.killed < self.limits.kills {
                actions.push(Action::Kill(of));
            }
            match start.phase {
                Phase::Begun => actions.push(Action::TakeLead(of)),
                Phase::TookLead => actions.push(Action::ReadLead(of)),
                Phase::ReadLead(..) => {
                    actions.push(Action::WriteLead(of, true));
                    if start.has_lead && state.disturbed < self.limits.disturbed {
                        actions.push(Action::WriteLead(of, false));
                    }
                }
                Phase::Fencing(_) => actions.push(Action::Fence(of)),
                Phase::Fenced => {
                    if state.brokers.hidden.is_empty() || !self.rules.reads_to_the_end {
                        actions.push(Action::ReadProgress(of));
                    }
                }
                Phase::Running => {
                    let (epoch, vector) = *start.epochs.last().expect("the chain is not empty");
                    // Cutting earlier than somebody can use it changes nothing.
                    let is_needed = start.each[..usize::from(start.workers)].iter().any(|worker| {
                        worker.step == Step::Ready && usize::from(worker.next) == start.epochs.len()
                    });
                    if is_needed && epoch < self.limits.epochs {
                        let least = if self.waits(start) { vector } else { vector + 1 };
                        let vectors = least..=ITEMS.min(vector + 2);
                        actions.extend(vectors.map(|vector| Action::Cut(of, vector)));
                    }
                    for number in 0..start.workers.into() {
                        self.worker_actions(state, of, number, actions);
                    }
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let State { brokers, starts, begun, killed, disturbed } = &mut state;
        match action {
            Action::Begin { workers } => {
                *begun += 1;
                starts.push(Start {
                    phase: Phase::Begun,
                    has_lead: false,
                    generation: 0,
                    named: 0,
                    workers,
                    found: Default::default(),
                    epochs: Vec::new(),
                    chain: 0,
                    each: [NEW; WORKERS],
                });
            }
            Action::Kill(of) => {
                *killed += 1;
                starts.remove(of);
            }
            Action::TakeLead(of) => {
                starts.iter_mut().for_each(|start| start.has_lead = false);
                starts[of].has_lead = true;
                starts[of].phase = Phase::TookLead;
            }
            Action::ReadLead(of) => {
                starts[of].phase = Phase::ReadLead(brokers.generation, brokers.workers);
            }
            Action::WriteLead(of, is_told) => {
                let start = &mut starts[of];
                let Phase::ReadLead(generation, workers) = start.phase else {
                    unreachable!("it has read it")
                };
                let is_taken = start.has_lead || !self.rules.lead_is_guarded;
                let (generation, named) = (generation + 1, workers.max(start.workers));
                if is_taken {
                    (brokers.generation, brokers.workers) = (generation, named);
                }
                if is_taken && is_told {
                    (start.generation, start.named) = (generation, named);
                    start.phase = Phase::Fencing(0);
                } else {
                    // It begins again; the engine ends where another start has led meanwhile.
                    start.phase = Phase::Begun;
                }
                *disturbed += u8::from(!is_told);
            }
            Action::Fence(of) => {
                let Phase::Fencing(writer) = starts[of].phase else { unreachable!("it fences") };
                let is_named =
                    self.rules.named_are_fenced || brokers.have_committed[usize::from(writer)];
                if is_named && (self.rules.both_are_fenced || writer % 2 == 0) {
                    take(brokers, starts, writer);
                }
                let is_last = writer + 1 == 2 * starts[of].named;
                starts[of].phase = if is_last { Phase::Fenced } else { Phase::Fencing(writer + 1) };
            }
            Action::ReadProgress(of) => {
                let start = &mut starts[of];
                start.found = brokers.progress;
                start.phase = Phase::Running;
                self.resume(start);
                (0..start.workers.into()).for_each(|number| start.pass(number));
            }
            Action::Cut(of, vector) => {
                let (epoch, _) = *starts[of].epochs.last().expect("the chain is not empty");
                starts[of].epochs.push((epoch + 1, vector));
            }
            Action::TakeId(of, number) => {
                let (turn, step) = match starts[of].each[number].step {
                    Step::NoWriters { in_doubt } => (0, Step::OneWriter { in_doubt }),
                    Step::OneWriter { in_doubt } => (1, Step::Unsure { in_doubt }),
                    _ => unreachable!("it has both"),
                };
                take(brokers, starts, writer_of(number, turn));
                let worker = &mut starts[of].each[number];
                worker.has_id[usize::from(turn)] = true;
                worker.step = step;
            }
            Action::LookWhoLeads(of, number) => {
                let start = &mut starts[of];
                let worker = &mut start.each[number];
                let Step::Unsure { in_doubt } = worker.step else { unreachable!("it is unsure") };
                let looks = match worker.is_again {
                    true => self.rules.looks_again_who_leads,
                    false => self.rules.looks_at_first_who_leads,
                };
                worker.step = Step::Leads { in_doubt };
                if looks && brokers.generation > start.generation {
                    starts.remove(of);
                }
            }
            Action::LookWhatIsThere(of, number) => {
                let start = &mut starts[of];
                let Step::Leads { in_doubt } = start.each[number].step else {
                    unreachable!("it has seen that its start leads")
                };
                let doubtful = start.epochs.get(usize::from(start.each[number].next));
                let doubtful = doubtful.filter(|_| in_doubt).map_or(0, |(epoch, _)| *epoch);
                let mut is_there = in_doubt;
                let mut is_foreign = false;
                for shard in (0..SHARDS).filter(|s| owns(number as u8, start.workers, *s)) {
                    let (held, known) = (brokers.progress[shard].epoch, start.known(number, shard));
                    is_there &= held == doubtful.max(known);
                    is_foreign |= held != known && held != doubtful.max(known);
                }
                if is_foreign {
                    starts.remove(of);
                } else {
                    let worker = &mut start.each[number];
                    worker.is_again = true;
                    worker.step = Step::Ready;
                    if is_there {
                        worker.committed();
                    }
                }
            }
            Action::Send(of, number, turn) => {
                let (open, left) = self.send(&starts[of], number as u8, turn);
                let worker = &mut starts[of].each[number];
                if worker.has_its_id() {
                    worker.left = left;
                    worker.step = Step::Sent;
                    let writer = writer_of(number, worker.turn);
                    brokers.open[usize::from(writer)] = Some(open);
                } else {
                    worker.step = Step::NoWriters { in_doubt: false };
                }
            }
            Action::SendProgress(of, number) => {
                let start = &mut starts[of];
                let worker = &mut start.each[number];
                if !worker.has_its_id() {
                    worker.step = Step::NoWriters { in_doubt: true };
                } else {
                    worker.step = Step::Whole;
                    let (epoch, vector) = start.epochs[usize::from(worker.next)];
                    let owed = worker.left.iter().flatten().min().map_or(vector, |item| item - 1);
                    let progress = Progress { epoch, vector, settled: owed.min(vector) };
                    let (writer, of) = (writer_of(number, worker.turn), start.workers);
                    brokers.hidden.push(Entry { writer, of, progress, is_committed: false });
                    // It belongs to whichever transaction is open when it comes.
                    let records = [None; SHARDS];
                    brokers.open[usize::from(writer)].get_or_insert(Open { epoch, records });
                }
            }
            Action::End(of, number, end) => {
                let worker = &mut starts[of].each[number];
                let (is_own, writer) = (worker.has_its_id(), writer_of(number, worker.turn));
                if is_own && matches!(end, End::Answered | End::Unanswered | End::Twice) {
                    brokers.commit(writer);
                }
                if is_own && matches!(end, End::Late | End::Twice) {
                    brokers.late = Some(writer);
                }
                *disturbed += u8::from(end != End::Answered);
                let is_known = match end {
                    End::Answered => is_own,
                    // The library sends it again by itself, and says that all is well.
                    End::Twice => is_own && !self.rules.disturbed_is_unknown,
                    _ => false,
                };
                if is_known {
                    worker.committed();
                } else {
                    worker.step = Step::NoWriters { in_doubt: true };
                }
            }
            Action::Deliver => {
                let writer = brokers.late.take()?;
                brokers.commit(writer);
            }
            Action::TimeOut(writer) => {
                take(brokers, starts, writer);
            }
            Action::Mark(writer) => brokers.mark(writer),
        }
        if !self.limits.is_slow {
            (0..WRITERS as u8).for_each(|writer| state.brokers.mark(writer));
        }
        for worker in state.starts.iter_mut().flat_map(|start| &mut start.each) {
            let is_under_way = match worker.step {
                Step::NoWriters { in_doubt }
                | Step::OneWriter { in_doubt }
                | Step::Unsure { in_doubt }
                | Step::Leads { in_doubt } => in_doubt,
                Step::Ready => false,
                Step::Sent | Step::Whole => true,
            };
            if !is_under_way {
                // States that differ in what nobody looks at are one.
                worker.left = [None; SHARDS];
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("outputs are as they must be", |model: &Protocol, state: &State| {
                state.brokers.are_as_they_must_be(&model.script)
            }),
            Property::sometimes("all is written and settled", |model, state: &State| {
                state.brokers.are_done() && state.begun == model.limits.starts
            }),
        ]
    }
}
