//! How hard an answer is packed: as hard as the line leaves time for.
//!
//! What waits to be sent is the time there is: a batch that is packed before the line has carried all of that costs
//! nobody anything, however hard it was packed. On a thin line that is a second and more; on a fast one it is nothing,
//! and packing gets out of the way. Nothing here is asked of the peer, and nothing depends on the data.

use std::time::Duration;

use super::compress::Level;
use super::limits::BATCH_TARGET;

/// What the operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compress {
    /// As the line and the processor allow.
    #[default]
    Auto,
    /// Always the same.
    Fixed(Level),
}

/// How the next batch is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// For a batch of many literals.
    pub level: Level,
    /// For one of [`SMALL`] bytes of literals at most.
    pub small: Level,
    /// For what is new in files that are rebuilt: little beside what it would be without their old versions.
    pub rebuilt: Level,
    /// Whether literals may be packed with those of earlier batches as their history, which takes memory.
    pub history: bool,
}

/// What has been packed for an answer and not been carried by the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Bytes.
    pub bytes: usize,
    /// Whether the receiver lets none of them come: then it is not the line that is slow.
    pub held: bool,
    /// When that was, since the answer began.
    pub at: Duration,
}

/// Finds the [`Effort`] for each batch of one answer.
#[derive(Debug)]
pub struct Controller {
    setting: Compress,
    /// Index in [`STEPS`].
    step: usize,
    /// Nanoseconds for one byte of literals at a cost of 1.
    unit: f64,
    line: Line,
    /// When the batch was begun.
    begun: Duration,
    /// Bytes of literals so far.
    literals: u64,
    /// Bytes of literals since the last step.
    stood: u64,
    history: bool,
    /// What a byte of literals came to in the last large batch.
    ratio: f64,
}

/// A level, and how long it takes against [`Level::FAST`].
struct Step {
    level: u8,
    cost: f64,
}

/// What is climbed, one step a batch. Levels between these take longer than the one below and give little more.
const STEPS: [Step; 6] = [
    Step { level: 3, cost: 1.0 },
    Step { level: 6, cost: 2.2 },
    Step { level: 9, cost: 3.8 },
    Step { level: 12, cost: 6.0 },
    Step { level: 15, cost: 30.0 },
    Step { level: 19, cost: 60.0 },
];
/// The step while nothing is known of the line.
const START: usize = 1;
/// Bytes of literals between two steps up, as each ends the history of what follows; and those at the beginning of an answer,
/// when there is little history to lose.
const STAND: u64 = 8 * 1024 * 1024;
const BEGINNING: u64 = 2 * STAND;
/// Nanoseconds for a byte at a cost of 1 before anything was measured, and at least: data that does not shrink takes
/// next to no time, and says nothing of what comes behind it.
const UNIT: f64 = 3.5;
const UNIT_MIN: f64 = 2.0;
/// Bytes of literals up to which a batch is a small one.
pub const SMALL: usize = 1024 * 1024;
/// Bytes of literals after which an answer is a long one: nobody waits for less of it, but for the end.
const LONG_ANSWER: u64 = 4 * 1024 * 1024;
/// How much faster the line is taken to be where it had carried everything before the next batch was there: how long it
/// has waited is not known.
const FASTER: f64 = 1.5;
/// Seconds after which what the line carried counts for half.
const HALF_FORGOTTEN: f64 = 1.0;

impl Default for Effort {
    fn default() -> Self {
        Self { level: Level::FAST, small: Level::THOROUGH, rebuilt: Level::THOROUGH, history: false }
    }
}

impl Effort {
    /// The level for a batch of that many bytes of literals; `rebuilt` if they are what is new in files that are rebuilt.
    #[must_use]
    pub fn level_for(&self, literals: usize, rebuilt: bool) -> Level {
        match literals {
            _ if rebuilt => self.rebuilt,
            ..=SMALL => self.small,
            _ => self.level,
        }
    }
}

impl Controller {
    /// For an answer that begins, and may use `history` or not.
    #[must_use]
    pub fn new(setting: Compress, history: bool) -> Self {
        let (line, begun) = (Line::default(), Duration::ZERO);
        Self { setting, step: START, unit: UNIT, line, begun, literals: 0, stood: 0, history, ratio: 1.0 }
    }

    /// How to make the next batch, when so much waits.
    pub fn next(&mut self, backlog: Backlog) -> Effort {
        if let Compress::Fixed(level) = self.setting {
            return Effort { level, small: level, rebuilt: level, history: self.history };
        }
        self.line.look(backlog);
        self.begun = backlog.at;
        let young = self.literals < LONG_ANSWER;
        let time = self.time_for(backlog);
        let lasting = self.time_of_a_batch();
        let fits = |step: usize| STEPS.get(step).is_some_and(|at| self.takes(at, BATCH_TARGET) <= time.min(lasting));
        let highest = (0..STEPS.len()).rev().find(|step| fits(*step)).unwrap_or(0);
        if self.line.rate().is_some() && (highest < self.step || self.stood >= STAND || self.literals < BEGINNING) {
            let step = highest.min(self.step + 1);
            self.stood = if step == self.step { self.stood } else { 0 };
            self.step = step;
        }
        let level = self.at().and_then(|at| Level::new(at.level)).unwrap_or(Level::FAST);
        let rebuilt = level.max(Level::THOROUGH);
        let small = if young { rebuilt } else { level };
        Effort { level, small, rebuilt, history: self.history }
    }

    /// Says that a message was made of `literals` bytes of them, that it has `sent` bytes and waits from now on, and what
    /// else does.
    pub fn made(&mut self, literals: u64, sent: usize, left: Backlog) {
        self.literals = self.literals.saturating_add(literals);
        self.stood = self.stood.saturating_add(literals);
        self.line.look(left);
        self.line.queue(sent);
        let took = left.at.saturating_sub(self.begun);
        if literals <= SMALL as u64 {
            return;
        }
        self.ratio = sent as f64 / literals as f64;
        let cost = self.at().map_or(1.0, |at| at.cost);
        let unit = took.as_nanos() as f64 / literals as f64 / cost;
        self.unit = ((self.unit + unit) / 2.0).max(UNIT_MIN);
    }

    fn at(&self) -> Option<&'static Step> {
        STEPS.get(self.step)
    }

    /// Nanoseconds until the line has nothing to carry.
    fn time_for(&self, backlog: Backlog) -> f64 {
        match self.line.rate() {
            Some(rate) if !backlog.held => backlog.bytes as f64 / rate * 1e9,
            _ => 0.0,
        }
    }

    /// Nanoseconds for which a batch keeps the line busy: what takes longer to make would eat up what waits, and the step
    /// would have to be left again, and with it the history.
    fn time_of_a_batch(&self) -> f64 {
        match self.line.rate() {
            Some(rate) if self.history => self.ratio * BATCH_TARGET as f64 / rate * 1e9,
            _ => f64::INFINITY,
        }
    }

    /// Nanoseconds for a batch of so many bytes of literals.
    fn takes(&self, step: &Step, literals: usize) -> f64 {
        self.unit * step.cost * literals as f64
    }
}

/// How fast the line is: what it carried while there was something to carry, the times when it carried nothing among them.
#[derive(Debug, Default)]
struct Line {
    /// What waited when it was looked at last, and what was queued since.
    seen: Option<Backlog>,
    /// Bytes that it carried, and the seconds that took; what is long ago counts for less.
    carried: f64,
    seconds: f64,
}

impl Line {
    /// Bytes a second, once anything is known.
    fn rate(&self) -> Option<f64> {
        (self.carried > 0.0 && self.seconds > 0.0).then(|| self.carried / self.seconds)
    }

    /// Says that so many bytes wait besides.
    fn queue(&mut self, bytes: usize) {
        if let Some(seen) = &mut self.seen {
            seen.bytes = seen.bytes.saturating_add(bytes);
        }
    }

    /// Learns from what is left of what waited.
    fn look(&mut self, now: Backlog) {
        let Some(seen) = self.seen.replace(now) else { return };
        let carried = seen.bytes.saturating_sub(now.bytes) as f64;
        let seconds = now.at.saturating_sub(seen.at).as_secs_f64();
        if seen.bytes == 0 || seen.held || now.held {
            return;
        }
        if now.bytes == 0 {
            // It had carried all before: it is at least so fast, and how much faster is not known.
            if self.rate().is_none_or(|rate| carried > rate * seconds) {
                (self.carried, self.seconds) = (carried * FASTER, seconds);
            }
            return;
        }
        let kept = 0.5_f64.powf(seconds / HALF_FORGOTTEN);
        self.carried = self.carried * kept + carried;
        self.seconds = self.seconds * kept + seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line, a processor and a sender between them, for `seconds`; gives the efforts of all batches, when each was
    /// begun, and how many seconds the line had nothing to carry.
    struct Run {
        efforts: Vec<(f64, Effort)>,
        idle: f64,
    }

    const QUEUE: f64 = 1024.0 * 1024.0;

    /// `line` in bytes a second, `unit` in nanoseconds for a byte at level 3; a batch shrinks to `ratio`.
    fn run(setting: Compress, line: f64, unit: f64, ratio: f64, seconds: f64) -> Run {
        run_in_bursts(setting, line, unit, ratio, seconds, 1.0)
    }

    /// As [`run`], over a line that takes `burst` bytes at a time.
    fn run_in_bursts(setting: Compress, line: f64, unit: f64, ratio: f64, seconds: f64, burst: f64) -> Run {
        let mut controller = Controller::new(setting, true);
        let (mut now, mut queue, mut idle, mut efforts) = (0.0_f64, 0.0_f64, 0.0, Vec::new());
        let seen = |queue: f64, now: f64| Backlog {
            bytes: ((queue / burst).ceil() * burst) as usize,
            held: false,
            at: Duration::from_secs_f64(now),
        };
        let mut pass = |time: f64, queue: &mut f64, now: &mut f64| {
            idle += (time - *queue / line).max(0.0);
            *queue = (*queue - time * line).max(0.0);
            *now += time;
        };
        while now < seconds {
            let effort = controller.next(seen(queue, now));
            efforts.push((now, effort));
            let step = STEPS.iter().find(|step| step.level >= effort.level.number());
            let took = if ratio < 1.0 { unit * step.unwrap().cost } else { 1.0 } * BATCH_TARGET as f64 / 1e9;
            pass(took, &mut queue, &mut now);
            let sent = ratio * BATCH_TARGET as f64;
            controller.made(BATCH_TARGET as u64, sent as usize, seen(queue, now));
            if queue > QUEUE {
                let time = (queue - QUEUE) / line;
                pass(time, &mut queue, &mut now);
            }
            queue += sent;
        }
        Run { efforts, idle }
    }

    fn late(run: &Run) -> Vec<u8> {
        run.efforts.iter().filter(|(at, _)| *at > 2.0).map(|(_, effort)| effort.level.number()).collect()
    }

    #[test]
    fn a_thin_line_is_packed_for_as_hard_as_the_processor_can_and_never_waits() {
        for (line, least, most) in [(0.1e6, 15, 19), (1e6, 15, 19), (2.5e6, 9, 12), (12e6, 3, 9)] {
            let run = run(Compress::Auto, line, 3.5, 0.22, 30.0);
            let levels = late(&run);
            assert!(levels.iter().all(|level| *level >= least), "{line}: {levels:?}");
            assert!(run.idle < 0.2, "{line}: {}", run.idle);
            assert!(levels.contains(&most), "{line}: {levels:?}");
        }
    }

    #[test]
    fn a_line_that_takes_much_at_a_time_is_no_faster_for_it() {
        for burst in [65_536.0, 524_288.0, 1_048_576.0] {
            let run = run_in_bursts(Compress::Auto, 2.5e6, 3.5, 0.33, 30.0, burst);
            let levels = late(&run);
            assert!(levels.iter().all(|level| *level >= 12), "{burst}: {levels:?}");
            assert!(run.idle < 0.2, "{burst}: {}", run.idle);
        }
    }

    #[test]
    fn a_fast_line_is_not_kept_waiting() {
        let run = run(Compress::Auto, 1e9, 3.5, 0.25, 5.0);
        assert!(late(&run).iter().all(|level| *level <= 3), "{:?}", late(&run));
        let begin: Vec<u8> = run.efforts.iter().take(8).map(|(_, effort)| effort.level.number()).collect();
        assert!(begin.iter().all(|level| *level <= 6), "{begin:?}");
    }

    #[test]
    fn a_receiver_that_lets_nothing_come_is_no_thin_line() {
        let mut controller = Controller::new(Compress::Auto, true);
        let at = |batches: u64| Duration::from_millis(10 * batches);
        controller.next(Backlog { bytes: 1024 * 1024, held: false, at: at(0) });
        controller.made(3_000_000, 400_000, Backlog { bytes: 1_000_000, held: false, at: at(1) });
        for i in 0..100u64 {
            let effort = controller.next(Backlog { bytes: 1024 * 1024, held: true, at: at(i + 1) });
            controller.made(3_000_000, 400_000, Backlog { bytes: 1024 * 1024, held: true, at: at(i + 2) });
            assert!(i < 2 || effort.level <= Level::FAST, "{i}: {effort:?}");
        }
    }

    #[test]
    fn what_is_small_is_packed_well_and_a_fixed_level_is_kept() {
        let effort = Controller::new(Compress::Auto, true).next(Backlog { bytes: 0, held: false, at: Duration::ZERO });
        assert_eq!(
            (effort.level_for(SMALL, false), effort.level_for(SMALL + 1, false)),
            (Level::THOROUGH, Level::new(6).unwrap())
        );
        for level in [Level::NONE, Level::FAST, Level::MAX] {
            let run = run(Compress::Fixed(level), 1e6, 3.5, 0.3, 5.0);
            assert!(run.efforts.iter().all(|(_, effort)| [effort.level, effort.small] == [level, level]));
        }
    }

    #[test]
    fn strange_clocks_and_backlogs_lead_to_no_strange_effort() {
        let mut controller = Controller::new(Compress::Auto, true);
        let sizes = [0, usize::MAX, 1, 7, usize::MAX, 0];
        for (bytes, left) in sizes.into_iter().flat_map(|bytes| sizes.map(|left| (bytes, left))) {
            for took in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
                let effort = controller.next(Backlog { bytes, held: false, at: Duration::ZERO });
                assert!(effort.level <= Level::MAX, "{effort:?}");
                controller.made(u64::MAX, usize::MAX, Backlog { bytes: left, held: false, at: took });
            }
        }
    }
}
