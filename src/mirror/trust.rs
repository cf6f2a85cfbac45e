//! Believing what a peer says is the newest: pins, root files, heads and beats (the client workflow of The Update
//! Framework specification, section 5, reduced to one role).

use super::clock::now_ms;
use super::served::Newest;
use crate::disk::index::heads::{HeadState, Pin, StoredHead};
use crate::disk::index::{Index, IndexError, ModuleNumber};
use crate::protocol::message::State;
use crate::tree::hash::{Authority, HeadId, ModuleId, authority_text};
use crate::tree::signed::{Beat, Envelope, Head, RootFile, TrustError};

/// Why a state is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BeliefError {
    /// A signature, a key, a sequence or a time is wrong.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The pinned authority is another one.
    #[error("the key of the module is {found}, {known} was pinned")]
    Pinned {
        /// What it claims.
        found: String,
        /// What is pinned.
        known: String,
    },
    /// The answer lacks what was asked for.
    #[error("the answer lacks the {0}")]
    Lacks(&'static str),
    /// The index fails.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// What was believed.
#[derive(Debug, Clone)]
pub(super) struct Belief {
    /// Who speaks for the module.
    pub(super) authority: Authority,
    /// The newest head.
    pub(super) head: Head,
    /// Its id.
    pub(super) id: HeadId,
    /// Whether the authority was accepted because it was the first one seen.
    pub(super) first_contact: bool,
    /// When the beat that vouches for the head's age was issued, Unix milliseconds; `None` when none came that is
    /// good: the module may be stale.
    pub(super) fresh: Option<u64>,
}

/// What this side knows of a module before it asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// The pinned authority.
    pub(super) authority: Option<Authority>,
    /// Root files by version.
    pub(super) roots: Vec<(u64, Vec<u8>)>,
    /// The newest head that was accepted.
    pub(super) head: Option<StoredHead>,
}

impl Known {
    /// Reads what the index holds.
    ///
    /// # Errors
    /// [`IndexError`].
    pub(super) fn load(index: &Index, module: ModuleNumber) -> Result<Self, IndexError> {
        let reader = index.reader()?;
        let authority = reader.pin(module)?.map(|pin| pin.authority);
        let (roots, head) = (reader.root_files(module, 1)?, reader.newest_head(module, HeadState::Accepted)?);
        Ok(Self { authority, roots, head })
    }
}

/// Checks an answer to POLL for the module `name` and records what is believed, durably, before any of it is acted on.
/// `named` is the authority that the operator named.
///
/// # Errors
/// [`BeliefError`]; nothing is recorded then.
pub(super) fn believe(
    index: &Index,
    module: ModuleNumber,
    name: &str,
    named: Option<Authority>,
    known: &Known,
    state: &State,
) -> Result<Belief, BeliefError> {
    let now = now_ms();
    let Judged { roots, belief, envelope, beat } = judge(name, named, known, state, now)?;
    record(index, module, known, &roots, &belief, envelope, beat, now)?;
    Ok(belief)
}

/// Checks an answer to POLL for the module `name` by what it holds alone, for who only looks: nothing is recorded, so
/// nothing older is noticed.
///
/// # Errors
/// [`BeliefError`].
pub(super) fn glance(name: &str, named: Option<Authority>, state: &State) -> Result<Belief, BeliefError> {
    Ok(judge(name, named, &Known::default(), state, now_ms())?.belief)
}

/// What an answer is worth.
struct Judged {
    roots: Roots,
    belief: Belief,
    /// The head as it was signed.
    envelope: Vec<u8>,
    /// A beat that vouches for it, as it was signed.
    beat: Option<Vec<u8>>,
}

fn judge(name: &str, named: Option<Authority>, known: &Known, state: &State, now: u64) -> Result<Judged, BeliefError> {
    let roots = Roots::verify(known, named, state)?;
    if roots.newest.expires.is_some_and(|expires| expires <= now) {
        return Err(TrustError::Expired { what: "root file" }.into());
    }
    let module_id = ModuleId::of(&roots.authority, name);
    let (head, id, envelope) = match &state.head {
        Some(bytes) => {
            let envelope = Envelope::decode(bytes).map_err(TrustError::from)?;
            let head: Head = envelope.verify(&roots.newest.head_keys, 1)?;
            (head, HeadId::of(envelope.payload()), bytes.to_vec())
        }
        None => {
            let stored = known.head.as_ref().ok_or(BeliefError::Lacks("head"))?;
            let envelope = Envelope::decode(&stored.envelope).map_err(TrustError::from)?;
            (envelope.unverified().map_err(TrustError::from)?, stored.id, stored.envelope.clone())
        }
    };
    if head.module != module_id || head.name != name {
        return Err(TrustError::OtherModule { what: "head" }.into());
    }
    if state.head.is_some() && head.epoch != roots.newest.epoch {
        return Err(TrustError::Chain {
            what: "head",
            why: "was signed under another epoch than that of the root file",
        }
        .into());
    }
    if let Some(stored) = &known.head {
        head.check_follows(&id, (stored.epoch, stored.sequence, &stored.id))?;
    }
    let beat =
        state.beat.as_ref().map(|bytes| fresh_beat(bytes, &roots.newest, &head, &id, now)).transpose()?.flatten();
    let belief = Belief {
        authority: roots.authority,
        id,
        first_contact: known.authority.is_none() && named.is_none(),
        fresh: beat.as_ref().map(|(issued, _)| *issued),
        head,
    };
    Ok(Judged { roots, belief, envelope, beat: beat.map(|(_, bytes)| bytes) })
}

/// A head that was believed before, if the index still has it.
///
/// # Errors
/// [`IndexError`].
pub(super) fn recall(index: &Index, module: ModuleNumber, id: &HeadId) -> Result<Option<Belief>, IndexError> {
    let reader = index.reader()?;
    let (Some(stored), Some(pin)) = (reader.head(module, id)?, reader.pin(module)?) else { return Ok(None) };
    let newest = Newest::of(&stored, reader.beat(module)?);
    Ok(newest.map(|newest| Belief {
        authority: pin.authority,
        fresh: newest.beat.map(|(issued, _)| issued),
        head: newest.head,
        id: newest.id,
        first_contact: false,
    }))
}

/// Root files that were believed.
struct Roots {
    authority: Authority,
    newest: RootFile,
    /// Those that came with this answer.
    new: Vec<(u64, Vec<u8>)>,
}

impl Roots {
    fn verify(known: &Known, named: Option<Authority>, state: &State) -> Result<Self, BeliefError> {
        let mut files: Vec<Vec<u8>> = known.roots.iter().map(|(_, bytes)| bytes.clone()).collect();
        let had = files.len();
        files.extend(state.roots.iter().map(|bytes| bytes.to_vec()));
        let (first, rest) = files.split_first().ok_or(BeliefError::Lacks("root file"))?;
        let first = Envelope::decode(first).map_err(TrustError::from)?;
        let claimed = Authority::of(first.payload());
        for expected in [named, known.authority].into_iter().flatten() {
            if expected != claimed {
                return Err(BeliefError::Pinned { found: authority_text(&claimed), known: authority_text(&expected) });
            }
        }
        let mut newest = RootFile::verify_first(&first, &claimed)?;
        for bytes in rest {
            newest = newest.verify_next(&Envelope::decode(bytes).map_err(TrustError::from)?)?;
        }
        let new = files.into_iter().enumerate().skip(had).map(|(i, bytes)| (i as u64 + 1, bytes)).collect();
        Ok(Self { authority: claimed, newest, new })
    }
}

/// A beat counts when it is signed, of this head, and within its time; one that is over is only no proof of freshness.
fn fresh_beat(
    bytes: &[u8],
    root: &RootFile,
    head: &Head,
    id: &HeadId,
    now: u64,
) -> Result<Option<(u64, Vec<u8>)>, TrustError> {
    let beat: Beat = Envelope::decode(bytes)?.verify(&root.head_keys, 1)?;
    if beat.module != head.module {
        return Err(TrustError::OtherModule { what: "beat" });
    }
    let of_head = beat.head == *id && (beat.epoch, beat.sequence) == (head.epoch, head.sequence);
    // A clock that is a little ahead at the root is no lie.
    let good = now < beat.expires && beat.issued <= now.saturating_add(CLOCK_AHEAD_MS);
    Ok((of_head && good).then(|| (beat.issued, bytes.to_vec())))
}

/// How far a root's clock may be ahead of ours, in milliseconds.
const CLOCK_AHEAD_MS: u64 = 10 * 60_000;

#[allow(clippy::too_many_arguments, reason = "one transaction over everything that was learned")]
fn record(
    index: &Index,
    module: ModuleNumber,
    known: &Known,
    roots: &Roots,
    belief: &Belief,
    envelope: Vec<u8>,
    beat: Option<Vec<u8>>,
    now: u64,
) -> Result<(), IndexError> {
    let mut batch = index.batch()?;
    if known.authority.is_none() {
        batch.put_pin(module, &Pin { authority: belief.authority, first_seen: now })?;
    }
    for (version, bytes) in &roots.new {
        batch.put_root_file(module, *version, bytes)?;
    }
    if known.head.as_ref().is_none_or(|head| head.id != belief.id) {
        let Head { epoch, sequence, snapshot, .. } = belief.head;
        let stored = StoredHead { epoch, sequence, id: belief.id, snapshot, envelope, state: HeadState::Accepted };
        batch.put_head(module, &stored)?;
    }
    if let Some(beat) = beat {
        batch.put_beat(module, &beat)?;
    }
    batch.commit()
}
