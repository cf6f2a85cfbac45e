//! Lines that are thin, and lines that break.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Place, own_address, soon};
use crate::fixture::{Dice, MODULE, text};

/// Bytes that a thin line carries at a time.
const SIP: usize = 4_096;

/// A line between two daemons, until it is dropped.
struct Relay {
    address: String,
    state: Arc<State>,
}

struct State {
    to: String,
    /// Bytes a second in each direction.
    rate: u64,
    /// Bytes that have passed from the far end.
    passed: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
    over: AtomicBool,
}

impl Relay {
    fn start(to: &str, rate: u64) -> Self {
        let address = own_address();
        let listener = TcpListener::bind(&address).unwrap();
        let (passed, open, over) = (AtomicU64::new(0), Mutex::default(), AtomicBool::new(false));
        let state = Arc::new(State { to: to.to_owned(), rate, passed, open, over });
        let shared = state.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::Relaxed) {
                    return;
                }
                // Nobody at the far end: the near one is told by the end of its connection.
                let Ok(far) = TcpStream::connect(&shared.to) else { continue };
                let ends = [&near, &far].map(|end| end.try_clone().unwrap());
                shared.open.lock().unwrap().extend(ends.iter().map(|end| end.try_clone().unwrap()));
                let [near_out, far_out] = ends;
                let (up, down) = (shared.clone(), shared.clone());
                std::thread::spawn(move || up.pass(near, far_out, false));
                std::thread::spawn(move || down.pass(far, near_out, true));
            }
        });
        Self { address, state }
    }

    /// Breaks all connections; new ones work.
    fn cut(&self) {
        for end in self.state.open.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::Relaxed)
    }
}

impl State {
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, counts: bool) {
        let mut buffer = [0; SIP];
        while let Ok(got @ 1..) = from.read(&mut buffer) {
            // What the line did not carry before, it does not carry later.
            std::thread::sleep(Duration::from_micros(got as u64 * 1_000_000 / self.rate));
            if to.write_all(&buffer[..got]).is_err() {
                break;
            }
            if counts {
                self.passed.fetch_add(got as u64, Ordering::Relaxed);
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
        self.cut();
        let _ = TcpStream::connect(&self.address);
    }
}

#[test]
fn a_thin_line_carries_whole_snapshots_while_the_root_changes_without_pause() {
    const FILES: u64 = 20;
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| {
        (0..FILES).for_each(|n| fs::write(tree.join(format!("f{n}")), text(&mut Dice(n), 30_000)).unwrap());
    });
    let line = Relay::start(&root.address, 150_000);
    let near = place.node("near", &line.address);
    near.converges(&tree, MODULE, "first");
    let over = AtomicBool::new(false);
    let (written, seen) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut dice = Dice(99);
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                fs::write(tree.join(format!("f{}", round % FILES)), text(&mut dice, 30_000)).unwrap();
                round += 1;
                std::thread::sleep(Duration::from_millis(40));
            }
            round
        });
        let (began, first) = (Instant::now(), near.sequence(MODULE));
        let mut seen = HashSet::new();
        // Long enough for several, and on a machine that has much else to do as long as one takes.
        while began.elapsed() < Duration::from_secs(if seen.is_empty() { 60 } else { 8 }) {
            seen.extend(near.sequence(MODULE).filter(|now| Some(*now) > first));
            std::thread::sleep(Duration::from_millis(100));
        }
        over.store(true, Ordering::Relaxed);
        (writer.join().unwrap(), seen)
    });
    eprintln!("{written} writes, {} snapshots seen, {} bytes", seen.len(), line.passed());
    assert!(!seen.is_empty(), "nothing new was seen in {written} writes");
    near.converges(&tree, MODULE, "the writer has stopped");
    assert!(near.status(MODULE)["error"].is_null());
}

#[test]
fn a_line_that_breaks_again_and_again_delivers_in_the_end() {
    let place = Place::new();
    let (root, tree) = place.root("live", |tree| fs::write(tree.join("a"), "a").unwrap());
    let line = Relay::start(&root.address, 4_000_000);
    let near = place.node("near", &line.address);
    near.converges(&tree, MODULE, "first");
    let mut dice = Dice(5);
    for n in 0..16 {
        fs::write(tree.join(format!("large{n}")), dice.bytes(500_000)).unwrap();
    }
    for _ in 0..4 {
        let at = line.passed();
        soon("some of it", || (line.passed() > at + 700_000).then_some(()));
        line.cut();
    }
    near.converges(&tree, MODULE, "delivered");
    // What had come was kept: all of it was not sent again each time.
    assert!(line.passed() < 16_000_000, "{} bytes", line.passed());
}
