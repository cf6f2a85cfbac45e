//! What lies in a module of another mirra, asked without a home: the tree of its newest signed head, of which only the
//! pages come that are looked at.

use std::time::Duration;

use super::dial::{chain, nonsense};
use super::failure::{Exit, Failure};
use super::line::Line;
use super::monitor::{Monitor, Phase};
use super::node::poll;
use super::report::{EntryKind, Looked, RemoteEntry};
use super::trust::{Belief, BeliefError, Known, glance};
use crate::protocol::browse::{Browse, BrowseError, Listed};
use crate::protocol::message::{Descend, Message, Refused, refusal, tag};
use crate::tree::address::Address;
use crate::tree::codec::decode;
use crate::tree::entry::{Body, Entry};
use crate::tree::hash::authority_text;
use crate::tree::name::TreePath;

/// A place in a module of another mirra.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Host, module, path and, if it is known, key.
    pub address: Address,
    /// Whether all below it is listed as well.
    pub recursive: bool,
    /// How long the other end may be silent.
    pub timeout: Duration,
}

/// Lists `place`: `each` hears some entries at a time, those of one directory together and in order; it may end the
/// listing with a failure of its own. What it hears is what the module's owner has signed, entry by entry.
///
/// # Errors
/// [`Failure`], also when nothing is at that place.
pub fn look(
    place: &Place,
    monitor: &dyn Monitor,
    each: &mut dyn FnMut(Vec<RemoteEntry>) -> Result<(), Failure>,
) -> Result<Looked, Failure> {
    let address = &place.address;
    let usage = |why: String| {
        let fix = "mirra ls HOST[:PORT]/MODULE[/PATH]";
        Failure::new(Exit::Usage, format!("cannot list {address}"), why, fix)
    };
    let name = address.module.as_deref().ok_or_else(|| usage("it names no module".to_owned()))?;
    let path = TreePath::new(address.path.as_bytes()).map_err(|e| usage(e.to_string()))?;
    monitor.phase(Phase::Connecting);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::local("cannot start threads", &e))?;
    let line = Line::open(runtime.handle(), &address.host, name, place.timeout)?;
    let state = poll(&line, &Known::default(), monitor)?;
    let belief = glance(name, address.key, &state).map_err(|e| distrust(&line, &e))?;
    if belief.fresh.is_none() {
        monitor.note("no proof came that this is the newest snapshot: the source may be stale");
    }
    monitor.phase(Phase::Fetching);
    let browse = Browse::new(belief.head.snapshot, &path, place.recursive).map_err(|e| failed(&line, e))?;
    let entries = descend(&line, &belief, browse, monitor, each)?;
    line.close();
    runtime.shutdown_background();
    Ok(Looked {
        module: name.to_owned(),
        sequence: belief.head.sequence,
        key: authority_text(&belief.authority),
        key_named: address.key.is_some(),
        entries,
    })
}

/// Takes the pages round by round; says how many entries were listed.
fn descend(
    line: &Line,
    belief: &Belief,
    mut browse: Browse,
    monitor: &dyn Monitor,
    each: &mut dyn FnMut(Vec<RemoteEntry>) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut count = 0;
    let exchange =
        line.ask(Message::new(tag::DESCEND, &Descend { module: line.module.clone(), head: belief.id, brief: false }))?;
    loop {
        let Some(message) = exchange.receive(monitor)? else { return Err(failed(line, cut_short())) };
        match message.tag {
            tag::PAGES => {}
            tag::REFUSED if refusal_code(&message) == refusal::TOO_LARGE => {
                return Err(failed(line, BrowseError::TooLarge));
            }
            _ => return Err(line.unexpected(&message)),
        }
        for Listed { dir, entries } in browse.pages(&message.body).map_err(|e| failed(line, e))? {
            let files = entries.len() as u64;
            count += files;
            monitor.advance(files, 0);
            each(entries.into_iter().map(|entry| told(&dir, entry)).collect())?;
        }
        match browse.next_round() {
            None => {}
            Some(Some(want)) => exchange.send(want)?,
            Some(None) => break,
        }
    }
    exchange.finish()?;
    Ok(count)
}

fn told(dir: &TreePath, entry: Entry) -> RemoteEntry {
    let (path, mtime) = (dir.join(&entry.name).as_bytes().to_vec(), entry.meta.mtime);
    let kind = match entry.body {
        Body::File { size, .. } => EntryKind::File { size },
        Body::Directory { entries, bytes, .. } => EntryKind::Directory { entries, bytes },
        Body::Link { target } => EntryKind::Link { target: target.into_vec() },
    };
    RemoteEntry { path, kind, mode: entry.meta.mode, mtime: (mtime.seconds, mtime.nanos) }
}

fn refusal_code(message: &Message) -> u16 {
    decode::<Refused>("refusal", &message.body).map_or(0, |refused| refused.0)
}

fn cut_short() -> BrowseError {
    crate::tree::codec::Malformed::Rule { what: "listing", rule: "it ended before all pages had come" }.into()
}

fn distrust(line: &Line, error: &BeliefError) -> Failure {
    let what = format!("what {} says of {} is not believed", line.host, line.module);
    let fix = match error {
        BeliefError::Pinned { .. } => "ask the owner for the right key, or use another source of the module",
        _ => "use another source of the module",
    };
    Failure::new(Exit::Trust, what, chain(error), fix)
}

fn failed(line: &Line, error: BrowseError) -> Failure {
    let (host, module) = (&line.host, &line.module);
    match error {
        BrowseError::Malformed(error) => nonsense(host, &error),
        BrowseError::Nothing(path) => {
            let above = path.split_last().map_or(String::new(), |(above, _)| slashed(&above));
            let fix = format!("mirra ls {host}/{module}{above} shows what is there");
            let what = format!("there is no {path} in {module} of {host}");
            Failure::new(Exit::NoModule, what, "its newest snapshot does not hold it", fix)
        }
        BrowseError::NoDirectory(path) => {
            let fix = format!("mirra ls -l {host}/{module}{} shows what it is", slashed(&path));
            let what = format!("nothing can be below {path} in {module} of {host}");
            Failure::new(Exit::NoModule, what, "it is a file or a link, no directory", fix)
        }
        BrowseError::TooLarge => Failure::new(
            Exit::Other,
            format!("the listing of {module} is too large"),
            "too many directories lie beside each other",
            format!("list one at a time: mirra ls -R {host}/{module}/DIR"),
        ),
    }
}

fn slashed(path: &TreePath) -> String {
    if path.is_top() { String::new() } else { format!("/{path}") }
}
