//! Two ends in memory under a schedule from a seed.

use std::collections::{BTreeMap, VecDeque};

use mirra::protocol::connection::{Connection, Event, Priority, StreamId};
use mirra::protocol::error::{ProtocolError, close};

use super::{Dice, connections};

/// A line in one direction: bytes under way, in order.
#[derive(Default)]
struct Line {
    bytes: VecDeque<u8>,
}

/// One end with all it has said and heard on each stream.
struct End {
    connection: Connection,
    line: Line,
    said: BTreeMap<StreamId, Vec<(u8, Vec<u8>)>>,
    heard: BTreeMap<StreamId, Vec<(u8, Vec<u8>)>>,
    unreleased: Vec<(StreamId, usize)>,
    finished: Vec<StreamId>,
    open: Vec<StreamId>,
    closed: Option<u16>,
}

impl End {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            line: Line::default(),
            said: BTreeMap::new(),
            heard: BTreeMap::new(),
            unreleased: Vec::new(),
            finished: Vec::new(),
            open: Vec::new(),
            closed: None,
        }
    }

    /// Says something at random.
    fn act(&mut self, dice: &mut Dice) {
        let tag = dice.below(5) as u8;
        let size = match dice.below(8) {
            0 => dice.below(1_500_000),
            1..4 => dice.below(100_000),
            _ => dice.below(40),
        };
        match dice.below(6) {
            0 if self.connection.can_open() => {
                let body = dice.bytes(size);
                let priority = [Priority::Live, Priority::Bulk][dice.below(2)];
                let id = self.connection.open(priority, tag, body.clone()).unwrap();
                self.said.insert(id, vec![(tag, body)]);
                self.open.push(id);
            }
            1 => {
                let body = dice.bytes(size.min(4096));
                self.connection.send(0, tag, body.clone()).unwrap();
                self.said.entry(0).or_default().push((tag, body));
            }
            2 if !self.open.is_empty() => {
                let id = self.open.swap_remove(dice.below(self.open.len()));
                self.connection.finish(id).unwrap();
            }
            3 => self.connection.set_record_size(dice.below(70_000)),
            _ if !self.open.is_empty() => {
                let id = self.open[dice.below(self.open.len())];
                let body = dice.bytes(size);
                self.connection.send(id, tag, body.clone()).unwrap();
                self.said.entry(id).or_default().push((tag, body));
            }
            _ => {}
        }
    }

    fn hear(&mut self, dice: &mut Dice) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Opened(id) => self.open.push(id),
                Event::Message { stream, tag, body } => {
                    self.unreleased.push((stream, body.len()));
                    self.heard.entry(stream).or_default().push((tag, body));
                }
                Event::Finished(id) => self.finished.push(id),
                Event::Reset { .. } => panic!("nobody resets here"),
                Event::Closed(code) => self.closed = Some(code),
            }
        }
        for _ in 0..dice.below(self.unreleased.len() + 1) {
            let (stream, length) = self.unreleased.swap_remove(dice.below(self.unreleased.len()));
            self.connection.release(stream, length);
        }
    }

    fn transmit(&mut self, now_ms: u64, dice: &mut Dice) {
        let mut out = Vec::new();
        let added = self.connection.poll_transmit(now_ms, &mut out, dice.below(200_000));
        assert_eq!(added, out.len());
        self.connection.transmitted(now_ms, added);
        self.line.bytes.extend(out);
    }
}

/// Moves some bytes of a line into the other end.
fn carry(line: &mut Line, to: &mut End, now_ms: u64, dice: &mut Dice) -> Result<(), ProtocolError> {
    if !to.connection.wants_input() {
        return Ok(());
    }
    let reach = [3, 100, 70_000, 400_000][dice.below(4)];
    let count = dice.below(reach).min(line.bytes.len());
    let mut bytes: Vec<u8> = line.bytes.drain(..count).collect();
    to.connection.handle_input(now_ms, &mut bytes)
}

/// Runs both ends for some steps, each saying and hearing things at random.
fn run(seed: u64, steps: usize) -> (End, End, u64) {
    let mut dice = Dice(seed);
    let (ours, theirs) = connections();
    let (mut ours, mut theirs) = (End::new(ours), End::new(theirs));
    let mut now_ms = 0;
    for _ in 0..steps {
        now_ms += dice.below(200) as u64;
        for end in [&mut ours, &mut theirs] {
            end.connection.handle_timeout(now_ms).unwrap();
            end.act(&mut dice);
            end.transmit(now_ms, &mut dice);
        }
        carry(&mut ours.line, &mut theirs, now_ms, &mut dice).unwrap();
        carry(&mut theirs.line, &mut ours, now_ms, &mut dice).unwrap();
        ours.hear(&mut dice);
        theirs.hear(&mut dice);
    }
    (ours, theirs, now_ms)
}

/// Lets both ends come to rest.
fn settle(ours: &mut End, theirs: &mut End, mut now_ms: u64, dice: &mut Dice) {
    for end in [&mut *ours, &mut *theirs] {
        for id in std::mem::take(&mut end.open) {
            end.connection.finish(id).unwrap();
        }
    }
    for _ in 0..200_000 {
        now_ms += 40;
        for end in [&mut *ours, &mut *theirs] {
            end.connection.handle_timeout(now_ms).unwrap();
            end.transmit(now_ms, dice);
        }
        carry(&mut ours.line, theirs, now_ms, dice).unwrap();
        carry(&mut theirs.line, ours, now_ms, dice).unwrap();
        ours.hear(dice);
        theirs.hear(dice);
        for end in [&mut *ours, &mut *theirs] {
            for id in std::mem::take(&mut end.open) {
                end.connection.finish(id).unwrap();
            }
        }
        let quiet = |end: &End| end.line.bytes.is_empty() && end.connection.is_flushed();
        let released = ours.unreleased.is_empty() && theirs.unreleased.is_empty();
        if released && quiet(ours) && quiet(theirs) {
            return;
        }
    }
    panic!("two honest ends do not come to rest");
}

#[test]
fn all_that_is_said_is_heard_once_and_in_order() {
    for seed in 0..24 {
        let (mut ours, mut theirs, now_ms) = run(seed, 150);
        settle(&mut ours, &mut theirs, now_ms, &mut Dice(seed));
        assert_eq!(ours.said, theirs.heard, "seed {seed}");
        assert_eq!(theirs.said, ours.heard, "seed {seed}");
        assert!(ours.said.len() > 3, "seed {seed} says too little");
        ours.connection.close(close::DONE);
        let mut last = Vec::new();
        ours.connection.poll_transmit(now_ms, &mut last, usize::MAX);
        theirs.connection.handle_input(now_ms, &mut last).unwrap();
        theirs.hear(&mut Dice(1));
        assert_eq!(theirs.closed, Some(close::DONE));
        assert_eq!(theirs.connection.handle_eof(), Ok(()));
        assert_eq!(ours.connection.handle_eof(), Ok(()));
    }
}

#[test]
fn cut_anywhere_is_an_error_and_all_before_is_true() {
    for seed in 100..140 {
        let mut dice = Dice(seed);
        let steps = 5 + dice.below(80);
        let (ours, mut theirs, _) = run(seed, steps);
        theirs.hear(&mut dice);
        assert_eq!(theirs.connection.handle_eof(), Err(ProtocolError::Truncated));
        for (id, heard) in &theirs.heard {
            assert_eq!(*heard, ours.said[id][..heard.len()], "seed {seed}, stream {id}");
        }
        for id in theirs.finished {
            assert_eq!(theirs.heard.get(&id), ours.said.get(&id), "seed {seed}, stream {id}");
        }
    }
}
