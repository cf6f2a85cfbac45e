//! The gate, to the millisecond; and that nothing is lost, whatever the order.

use proptest::prelude::*;

use super::*;

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// `r` ready, `w` writing, `t` touched, `d` deep, each with its path; `all`.
fn hint(text: &str) -> Hint {
    match text.split_at(1) {
        ("r", rest) => Hint::Ready(path(rest)),
        ("w", rest) => Hint::Writing(path(rest)),
        ("t", rest) => Hint::Touched(path(rest)),
        ("d", rest) => Hint::Deep(path(rest)),
        _ => Hint::All,
    }
}

fn shown(ready: &Ready) -> String {
    let one = |(path, depth): (&TreePath, &Depth)| format!("{path}{}", if *depth == Depth::Below { "/" } else { "" });
    if ready.all { "all".into() } else { ready.paths.iter().map(one).collect::<Vec<_>>().join(" ") }
}

/// Gives the hints at their times, takes whenever it is due, and says what was taken when.
fn run(gate: Gate, hints: &[(u64, &str)]) -> Vec<(u64, String)> {
    let mut gathering = Gathering::new(gate);
    let mut taken = Vec::new();
    let mut until = |gathering: &mut Gathering, end: Option<Duration>| {
        while let Some(due) = gathering.due().filter(|due| end.is_none_or(|end| *due < end)) {
            // A millisecond earlier there is nothing.
            let early = due.saturating_sub(ms(1));
            if gathering.writing.next_quiet().is_none_or(|at| at > early) {
                assert_eq!(gathering.take(early), None);
            }
            taken.extend(gathering.take(due).map(|ready| (due.as_millis() as u64, shown(&ready))));
        }
    };
    for (at, text) in hints {
        until(&mut gathering, Some(ms(*at)));
        gathering.hint(hint(text), ms(*at));
    }
    until(&mut gathering, None);
    taken
}

fn check(gate: Gate, hints: &[(u64, &str)], wanted: &[(u64, &str)]) {
    let wanted: Vec<_> = wanted.iter().map(|(at, text)| (*at, (*text).to_owned())).collect();
    assert_eq!(run(gate, hints), wanted, "{gate} {hints:?}");
}

#[test]
fn a_live_gate_waits_for_a_lull_but_not_long() {
    let live = |hints: &[(u64, &str)], wanted: &[(u64, &str)]| check(Gate::Live, hints, wanted);
    live(&[], &[]);
    live(&[(100, "ra")], &[(150, "a")]);
    live(&[(100, "ra"), (149, "rb")], &[(199, "a b")]);
    live(&[(100, "ra"), (151, "rb")], &[(150, "a"), (201, "b")]);
    live(&[(0, "ra"), (10, "da"), (20, "ra/x")], &[(70, "a/")]);
    live(&[(0, "ra"), (10, "all"), (20, "rb")], &[(70, "all")]);
    live(&[(0, "ta")], &[(50, "a")]);
    let names: Vec<_> = (0..30).map(|n| format!("r{n:02}")).collect();
    let burst: Vec<_> = names.iter().enumerate().map(|(n, name)| (n as u64 * 40, name.as_str())).collect();
    let taken = run(Gate::Live, &burst);
    assert_eq!(taken.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1_000, 1_210]);
}

#[test]
fn what_is_being_written_waits_until_it_is_closed_or_quiet() {
    let live = |hints: &[(u64, &str)], wanted: &[(u64, &str)]| check(Gate::Live, hints, wanted);
    live(&[(0, "wa")], &[(2_050, "a")]);
    live(&[(0, "wa"), (500, "ra")], &[(550, "a")]);
    live(&[(0, "wa"), (1_999, "wa"), (3_998, "wa")], &[(6_048, "a")]);
    live(&[(0, "wa"), (10, "ta")], &[(2_050, "a")]);
    live(&[(0, "wa"), (10, "rb")], &[(60, "b"), (2_050, "a")]);
    // Ready, and written again before it was taken.
    live(&[(0, "ra"), (10, "wa"), (300, "ra")], &[(350, "a")]);
    live(&[(0, "ra"), (0, "rb"), (10, "wa")], &[(50, "b"), (2_060, "a")]);
    // A directory does not take with it what is written in it.
    live(&[(0, "dd"), (10, "wd/x")], &[(50, "d/"), (2_060, "d/x")]);
    // A log that never rests.
    let log: Vec<_> = (0..100).map(|n| (n * 1_000, "wlog")).collect();
    live(&log, &[(101_050, "log")]);
    // Nobody asked in time.
    let mut late = Gathering::new(Gate::Live);
    late.hint(hint("wa"), ms(0));
    late.hint(hint("rb"), ms(9_000));
    assert!(late.writing().is_empty());
    assert_eq!(late.take(ms(9_000)).map(|ready| shown(&ready)), Some("a b".into()));
}

#[test]
fn a_quiet_gate_waits_until_nothing_changes() {
    let quiet = |hints: &[(u64, &str)], wanted: &[(u64, &str)]| check(Gate::Quiet(ms(30_000)), hints, wanted);
    quiet(&[(0, "ra")], &[(30_000, "a")]);
    quiet(&[(0, "ra"), (29_999, "rb")], &[(59_999, "a b")]);
    quiet(&[(0, "ra"), (29_999, "wb")], &[(59_999, "a b")]);
    quiet(&[(0, "wa")], &[(30_000, "a")]);
    let steady: Vec<_> = (0..1_000).map(|n| (n * 10_000, "ra")).collect();
    quiet(&steady, &[(10_020_000, "a")]);
    let short = |hints: &[(u64, &str)], wanted: &[(u64, &str)]| check(Gate::Quiet(ms(500)), hints, wanted);
    short(&[(0, "ra"), (100, "wb")], &[(600, "a"), (2_100, "b")]);
    check(Gate::Quiet(ms(0)), &[(7, "ra"), (8, "rb")], &[(7, "a"), (8, "b")]);
    check(Gate::Quiet(Duration::MAX), &[(7, "ra")], &[(Duration::MAX.as_millis() as u64, "a")]);
}

#[test]
fn a_manual_gate_gathers_nothing_and_knows_what_is_written() {
    check(Gate::Manual, &[(0, "ra"), (1, "all"), (2, "wb")], &[]);
    let mut manual = Gathering::new(Gate::Manual);
    manual.hint(hint("wa"), ms(0));
    manual.hint(hint("wb"), ms(10));
    manual.hint(hint("ra"), ms(20));
    assert_eq!(*manual.writing(), BTreeSet::from([path("b")]));
    assert_eq!((manual.take(ms(2_010)), manual.due()), (None, None));
    assert!(manual.writing().is_empty());
}

#[test]
fn a_new_gate_loses_nothing() {
    let mut gathering = Gathering::new(Gate::Manual);
    gathering.hint(hint("ra"), ms(5));
    gathering.set_gate(Gate::Live);
    assert_eq!(gathering.due(), Some(ms(55)));
    assert!(gathering.take(ms(55)).unwrap().all);
    gathering.hint(hint("rb"), ms(60));
    gathering.set_gate(Gate::Quiet(ms(1_000)));
    assert_eq!(gathering.due(), Some(ms(1_060)));
    gathering.set_gate(Gate::Live);
    assert_eq!(gathering.due(), Some(ms(110)));
    gathering.set_gate(Gate::Manual);
    assert_eq!((gathering.due(), gathering.take(ms(9_999))), (None, None));
}

#[test]
fn what_is_put_back_comes_again_but_not_too_early() {
    let mut gathering = Gathering::new(Gate::Live);
    gathering.hint(hint("ra"), ms(0));
    gathering.hint(hint("rb"), ms(0));
    let ready = gathering.take(ms(50)).unwrap();
    gathering.hint(hint("wb"), ms(60));
    gathering.put_back(ready, ms(700));
    assert_eq!((gathering.due(), gathering.take(ms(699))), (Some(ms(700)), None));
    gathering.hint(hint("rc"), ms(690));
    assert_eq!(gathering.due(), Some(ms(740)));
    assert_eq!(shown(&gathering.take(ms(740)).unwrap()), "a c");
    assert_eq!(gathering.take(ms(2_110)).map(|ready| shown(&ready)), Some("b".into()));
    assert_eq!(gathering.due(), None);
}

#[test]
fn files_beyond_the_bound_on_writing_are_ready() {
    let mut gathering = Gathering::new(Gate::Live);
    for n in 0..=WRITING_MAX {
        gathering.hint(Hint::Writing(path(&n.to_string())), ms(0));
    }
    assert_eq!(gathering.writing().len(), WRITING_MAX);
    assert_eq!(shown(&gathering.take(ms(50)).unwrap()), WRITING_MAX.to_string());
    assert_eq!(gathering.take(ms(2_050)).unwrap().paths.len(), WRITING_MAX);
}

/// How many takes a burst of `count` files spread over `span` is split into, and how long after the last change the
/// last of them comes.
fn takes_of_burst(count: u32, span: Duration) -> (usize, Duration) {
    let mut gathering = Gathering::new(Gate::Live);
    let (mut takes, mut taken, mut end) = (0, 0, Duration::ZERO);
    let mut take = |gathering: &mut Gathering, due| {
        if let Some(ready) = gathering.take(due) {
            (takes, taken, end) = (takes + 1, taken + ready.paths.len(), due);
        }
    };
    for n in 0..count {
        let now = span * n / (count - 1);
        while let Some(due) = gathering.due().filter(|due| *due <= now) {
            take(&mut gathering, due);
        }
        gathering.hint(Hint::Ready(path(&format!("d{}/f{n}", n % 7))), now);
    }
    while let Some(due) = gathering.due() {
        take(&mut gathering, due);
    }
    assert_eq!(taken, count as usize);
    (takes, end - span)
}

#[test]
fn a_burst_is_few_snapshots() {
    assert_eq!(takes_of_burst(10_000, ms(1_500)), (2, ms(50)));
    assert_eq!(takes_of_burst(10_000, ms(300)), (1, ms(50)));
    assert_eq!(takes_of_burst(100_000, ms(10_000)).0, 10);
}

#[derive(Debug, Clone)]
enum Step {
    Hint(Hint),
    Wait(u64),
    Take,
    /// Takes, fails, and puts back for so many milliseconds.
    Fail(u64),
    Gate(Gate),
}

fn some_path() -> impl Strategy<Value = TreePath> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "a-b"]), 1..4).prop_map(|names| path(&names.join("/")))
}

fn some_step() -> impl Strategy<Value = Step> {
    let gate = prop::sample::select(vec![Gate::Live, Gate::Quiet(ms(700)), Gate::Quiet(ms(5_000))]);
    prop_oneof![
        4 => some_path().prop_map(|path| Step::Hint(Hint::Ready(path))),
        4 => some_path().prop_map(|path| Step::Hint(Hint::Writing(path))),
        2 => some_path().prop_map(|path| Step::Hint(Hint::Touched(path))),
        1 => some_path().prop_map(|path| Step::Hint(Hint::Deep(path))),
        1 => Just(Step::Hint(Hint::All)),
        5 => prop_oneof![0..60u64, 0..3_000u64].prop_map(Step::Wait),
        5 => Just(Step::Take),
        1 => (0..4_000u64).prop_map(Step::Fail),
        1 => gate.prop_map(Step::Gate),
    ]
}

/// Keeps what must still be delivered, in the dumbest way.
#[derive(Default)]
struct Owed(BTreeMap<TreePath, Depth>);

impl Owed {
    fn add(&mut self, path: TreePath, depth: Depth) {
        let old = self.0.entry(path).or_insert(depth);
        *old = depth.max(*old);
    }

    fn hint(&mut self, hint: &Hint) {
        match hint {
            Hint::Ready(path) | Hint::Touched(path) | Hint::Writing(path) => self.add(path.clone(), Depth::Alone),
            Hint::Deep(path) => self.add(path.clone(), Depth::Below),
            Hint::All => self.add(TreePath::top(), Depth::Below),
        }
    }

    fn taken(&mut self, ready: &Ready, writing: &BTreeSet<TreePath>) {
        self.0.retain(|path, depth| {
            let kept_back = *depth == Depth::Alone && writing.contains(path);
            let is_in = |at: (&TreePath, &Depth)| match at.1 {
                Depth::Below => path.is_within(at.0),
                Depth::Alone => *depth == Depth::Alone && path == at.0,
            };
            kept_back || !(ready.all || ready.paths.iter().any(is_in))
        });
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_half_written_is_taken(steps in prop::collection::vec(some_step(), 1..60)) {
        let (mut gathering, mut owed, mut now) = (Gathering::new(Gate::Live), Owed::default(), Duration::ZERO);
        let mut last_write: BTreeMap<TreePath, Duration> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Hint(hint) => {
                    owed.hint(&hint);
                    match &hint {
                        Hint::Writing(path) => drop(last_write.insert(path.clone(), now)),
                        Hint::Ready(path) => drop(last_write.remove(path)),
                        _ => {}
                    }
                    gathering.hint(hint, now);
                }
                Step::Wait(millis) => now += ms(millis),
                Step::Gate(gate) => gathering.set_gate(gate),
                Step::Take | Step::Fail(_) => {
                    let Some(ready) = gathering.take(now) else { continue };
                    prop_assert!(!ready.is_empty() && (!ready.all || ready.paths.is_empty()));
                    for (path, depth) in &ready.paths {
                        let above = ready.paths.iter().filter(|(at, depth)| **depth == Depth::Below && *at != path);
                        prop_assert!(above.into_iter().all(|(at, _)| !path.is_within(at)), "{:?}", ready);
                        let is_written = last_write.get(path).is_some_and(|at| now < *at + QUIET);
                        prop_assert!(*depth == Depth::Below || !is_written, "{path} is being written");
                    }
                    for (path, at) in &last_write {
                        prop_assert_eq!(gathering.writing().contains(path), now < *at + QUIET);
                    }
                    owed.taken(&ready, &gathering.writing());
                    if let Step::Fail(millis) = step {
                        ready.paths.iter().for_each(|(path, depth)| owed.add(path.clone(), *depth));
                        if ready.all {
                            owed.add(TreePath::top(), Depth::Below);
                        }
                        gathering.put_back(ready, now + ms(millis));
                    }
                }
            }
        }
        while let Some(due) = gathering.due() {
            if let Some(ready) = gathering.take(due.max(now)) {
                owed.taken(&ready, &gathering.writing());
            }
        }
        prop_assert!(owed.0.is_empty(), "never delivered: {:?}", owed.0);
        prop_assert!(gathering.writing().is_empty());
    }
}
