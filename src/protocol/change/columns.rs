//! How records of CHANGES are written: field by field, not record by record, so that like stands beside like and
//! packs well.
//!
//! The unpacked body is an array of one binary string for each column. A column holds the values of those records that
//! say the field, in their order. Numbers are little-endian in groups of seven bits, the high bit set
//! where more follow, shortest form; signed ones have their sign in the lowest bit. Texts end in a NUL byte, which none
//! of them holds.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::protocol::message::{WireChange, WireContent, operation};
use crate::protocol::number::{NoNumber, fold, put, take, unfold};
use crate::tree::codec::{Malformed, decode, decode_first, encode};
use crate::tree::entry::{Attribute, Mtime};
use crate::tree::hash::{DirId, FileId, ID_LEN};

/// The columns as they travel.
#[derive(Default, Serialize, Deserialize)]
struct Wire {
    /// `[changes.operations]`: one byte for each record: the operation, and what the record says.
    operations: ByteBuf,
    /// `[changes.keeps]`: of all records.
    keeps: ByteBuf,
    /// `[changes.rests]`: texts, of all records.
    rests: ByteBuf,
    /// `[changes.modes]`: numbers.
    modes: ByteBuf,
    /// `[changes.seconds]`: signed, each less the one before it in this message.
    seconds: ByteBuf,
    /// `[changes.nanos]`: 0 for that before it in this message, else one more than the number itself.
    nanos: ByteBuf,
    /// `[changes.growths]`: signed, of files.
    growths: ByteBuf,
    /// `[changes.classes]`: numbers, of files.
    classes: ByteBuf,
    /// `[changes.targets]`: texts, of links.
    targets: ByteBuf,
    /// `[changes.attributes]`: arrays of attributes, one behind the other.
    attributes: ByteBuf,
    /// `[changes.ids]`: 32 bytes each, of files and held directories.
    ids: ByteBuf,
}

const OPERATION: u8 = 0x07;
const SAYS_MODE: u8 = 0x08;
const SAYS_MTIME: u8 = 0x10;
const SAYS_CONTENT: u8 = 0x20;
const SAYS_ATTRIBUTES: u8 = 0x40;
const UNUSED: u8 = 0x80;

/// Writes records as columns, unpacked.
#[must_use]
pub fn write(records: &[WireChange]) -> Vec<u8> {
    let mut wire = Wire::default();
    let mut last = Mtime::default();
    for record in records {
        let mut said = record.operation & OPERATION;
        put(&mut wire.keeps, u64::from(record.keep));
        put_text(&mut wire.rests, &record.rest);
        if let Some(mode) = record.mode {
            said |= SAYS_MODE;
            put(&mut wire.modes, u64::from(mode));
        }
        if let Some(mtime) = record.mtime {
            said |= SAYS_MTIME;
            put(&mut wire.seconds, fold(mtime.seconds.wrapping_sub(last.seconds).cast_unsigned()));
            let nanos = if mtime.nanos == last.nanos { 0 } else { u64::from(mtime.nanos) + 1 };
            put(&mut wire.nanos, nanos);
            last = mtime;
        }
        if let Some(content) = &record.content {
            said |= SAYS_CONTENT;
            match content {
                WireContent::File { growth, class, id } => {
                    put(&mut wire.growths, fold(growth.cast_unsigned()));
                    put(&mut wire.classes, *class);
                    wire.ids.extend_from_slice(id.as_bytes());
                }
                WireContent::Link(target) => put_text(&mut wire.targets, target),
                WireContent::Directory(id) => wire.ids.extend_from_slice(id.as_bytes()),
            }
        }
        if let Some(attributes) = &record.attributes {
            said |= SAYS_ATTRIBUTES;
            wire.attributes.extend(encode(attributes));
        }
        wire.operations.push(said);
    }
    encode(&wire)
}

/// Reads records one by one from unpacked columns.
pub struct Columns {
    wire: Wire,
    at: Places,
    last: Mtime,
}

/// How far each column was read.
#[derive(Default)]
struct Places {
    operations: usize,
    keeps: usize,
    rests: usize,
    modes: usize,
    seconds: usize,
    nanos: usize,
    growths: usize,
    classes: usize,
    targets: usize,
    attributes: usize,
    ids: usize,
}

impl Columns {
    /// Takes the columns apart.
    ///
    /// # Errors
    /// [`Malformed`] when they are no columns.
    pub fn new(unpacked: &[u8]) -> Result<Self, Malformed> {
        Ok(Self { wire: decode("changes", unpacked)?, at: Places::default(), last: Mtime::default() })
    }

    /// How many records there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.wire.operations.len() as u64
    }

    /// The next record; `None` behind the last, when nothing is left in any column.
    ///
    /// # Errors
    /// [`Malformed`] when a column ends before the records do, or goes on behind them.
    pub fn next_record(&mut self) -> Result<Option<WireChange>, Malformed> {
        let Some(said) = self.wire.operations.get(self.at.operations).copied() else {
            return self.ended().then_some(None).ok_or_else(|| rule("have more in a column than records"));
        };
        self.at.operations += 1;
        if said & UNUSED != 0 {
            return Err(rule("have a bit that means nothing"));
        }
        let operation = said & OPERATION;
        let keep = small(number(&self.wire.keeps, &mut self.at.keeps)?)?;
        let rest = text(&self.wire.rests, &mut self.at.rests)?;
        let mode = match said & SAYS_MODE {
            0 => None,
            _ => Some(small(number(&self.wire.modes, &mut self.at.modes)?)?),
        };
        let mtime = if said & SAYS_MTIME == 0 { None } else { Some(self.mtime()?) };
        let content = if said & SAYS_CONTENT == 0 { None } else { Some(self.content(operation)?) };
        let attributes = if said & SAYS_ATTRIBUTES == 0 { None } else { Some(self.attributes()?) };
        Ok(Some(WireChange { keep, rest, operation, mode, mtime, content, attributes }))
    }

    fn mtime(&mut self) -> Result<Mtime, Malformed> {
        let difference = signed(number(&self.wire.seconds, &mut self.at.seconds)?);
        let nanos = match number(&self.wire.nanos, &mut self.at.nanos)?.checked_sub(1) {
            None => self.last.nanos,
            Some(nanos) => small(nanos)?,
        };
        self.last = Mtime { seconds: self.last.seconds.wrapping_add(difference), nanos };
        Ok(self.last)
    }

    fn content(&mut self, operation: u8) -> Result<WireContent, Malformed> {
        match operation {
            operation::FILE => Ok(WireContent::File {
                growth: signed(number(&self.wire.growths, &mut self.at.growths)?),
                class: number(&self.wire.classes, &mut self.at.classes)?,
                id: FileId::from_bytes(self.id()?),
            }),
            operation::LINK => Ok(WireContent::Link(text(&self.wire.targets, &mut self.at.targets)?)),
            operation::HELD_DIRECTORY => Ok(WireContent::Directory(DirId::from_bytes(self.id()?))),
            _ => Err(rule("say content of what has none")),
        }
    }

    fn id(&mut self) -> Result<[u8; ID_LEN], Malformed> {
        let rest = self.wire.ids.get(self.at.ids..).unwrap_or_default();
        let id = rest.first_chunk::<ID_LEN>().ok_or_else(ends_early)?;
        self.at.ids += ID_LEN;
        Ok(*id)
    }

    fn attributes(&mut self) -> Result<Vec<Attribute>, Malformed> {
        let rest = self.wire.attributes.get(self.at.attributes..).unwrap_or_default();
        let (attributes, len) = decode_first("attributes", rest)?;
        self.at.attributes += len;
        Ok(attributes)
    }

    fn ended(&self) -> bool {
        let Self { wire, at, .. } = self;
        [
            (&wire.keeps, at.keeps),
            (&wire.rests, at.rests),
            (&wire.modes, at.modes),
            (&wire.seconds, at.seconds),
            (&wire.nanos, at.nanos),
            (&wire.growths, at.growths),
            (&wire.classes, at.classes),
            (&wire.targets, at.targets),
            (&wire.attributes, at.attributes),
            (&wire.ids, at.ids),
        ]
        .iter()
        .all(|(column, at)| column.len() == *at)
    }
}

fn rule(rule: &'static str) -> Malformed {
    Malformed::Rule { what: "changes", rule }
}

fn ends_early() -> Malformed {
    rule("have a column that ends before the records do")
}

fn put_text(column: &mut Vec<u8>, text: &[u8]) {
    column.extend_from_slice(text);
    column.push(0);
}

fn number(column: &[u8], at: &mut usize) -> Result<u64, Malformed> {
    let mut rest = column.get(*at..).unwrap_or_default();
    let number = take(&mut rest).map_err(|no| match no {
        NoNumber::Cut => ends_early(),
        NoNumber::Long | NoNumber::Large => rule("have a number that is too large or not in its shortest form"),
    })?;
    *at = column.len() - rest.len();
    Ok(number)
}

fn signed(number: u64) -> i64 {
    unfold(number).cast_signed()
}

/// A number that has to fit into a smaller type.
fn small<T: TryFrom<u64>>(number: u64) -> Result<T, Malformed> {
    T::try_from(number).map_err(|_| rule("have a number that is too large"))
}

fn text(column: &[u8], at: &mut usize) -> Result<Vec<u8>, Malformed> {
    let rest = column.get(*at..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == 0).ok_or_else(ends_early)?;
    *at += end + 1;
    Ok(rest.get(..end).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(operation: u8) -> BoxedStrategy<WireContent> {
        let id = any::<[u8; ID_LEN]>();
        match operation {
            operation::FILE => (any::<i64>(), any::<u64>(), id)
                .prop_map(|(growth, class, id)| WireContent::File { growth, class, id: FileId::from_bytes(id) })
                .boxed(),
            operation::LINK => "[^\0]{0,9}".prop_map(|target| WireContent::Link(target.into_bytes())).boxed(),
            _ => id.prop_map(|id| WireContent::Directory(DirId::from_bytes(id))).boxed(),
        }
    }

    fn record() -> impl Strategy<Value = WireChange> {
        let attribute = (any::<u16>(), any::<bool>(), any::<Vec<u8>>());
        let attribute = attribute.prop_map(|(tag, critical, value)| Attribute { tag, critical, value });
        let fields = (
            any::<u32>(),
            "[^\0]{0,9}",
            any::<Option<u16>>(),
            any::<Option<(i64, u32)>>(),
            proptest::option::of(proptest::collection::vec(attribute, 0..3)),
        );
        let content = (0u8..8).prop_flat_map(|operation| {
            let has = matches!(operation, operation::FILE | operation::LINK | operation::HELD_DIRECTORY);
            let content = if has { proptest::option::of(content(operation)).boxed() } else { Just(None).boxed() };
            (Just(operation), content)
        });
        (fields, content).prop_map(|((keep, rest, mode, mtime, attributes), (operation, content))| {
            let mtime = mtime.map(|(seconds, nanos)| Mtime { seconds, nanos });
            WireChange { keep, rest: rest.into_bytes(), operation, mode, mtime, content, attributes }
        })
    }

    fn read(unpacked: &[u8]) -> Result<Vec<WireChange>, Malformed> {
        let mut columns = Columns::new(unpacked)?;
        std::iter::from_fn(|| columns.next_record().transpose()).collect()
    }

    proptest! {
        #[test]
        fn any_records_round_trip(records in proptest::collection::vec(record(), 0..20)) {
            let written = write(&records);
            prop_assert_eq!(Columns::new(&written).unwrap().count(), records.len() as u64);
            prop_assert_eq!(read(&written).unwrap(), records);
            for end in 0..written.len() {
                prop_assert!(read(&written[..end]).is_err());
            }
        }
    }

    #[test]
    fn columns_end_where_the_records_do() {
        let honest = || Wire {
            operations: vec![operation::REMOVE].into(),
            keeps: vec![0].into(),
            rests: b"x\0".to_vec().into(),
            ..Wire::default()
        };
        let is_read = |wire: &Wire| read(&encode(wire)).is_ok();
        assert!(is_read(&honest()));
        let break_with = |f: &dyn Fn(&mut Wire)| {
            let mut wire = honest();
            f(&mut wire);
            assert!(!is_read(&wire));
        };
        break_with(&|wire| wire.keeps.push(0));
        break_with(&|wire| wire.keeps.clear());
        break_with(&|wire| wire.rests.push(0));
        break_with(&|wire| wire.rests.truncate(1));
        break_with(&|wire| wire.modes.push(0));
        break_with(&|wire| wire.ids.push(0));
        break_with(&|wire| wire.attributes.push(0x90));
        for said in [SAYS_MODE, SAYS_MTIME, SAYS_CONTENT, SAYS_ATTRIBUTES, UNUSED] {
            break_with(&|wire| wire.operations = vec![said].into());
        }
    }

    #[test]
    fn numbers_have_one_form() {
        for value in [0, 1, 0x7f, 0x80, 1 << 20, u64::MAX] {
            let (mut column, mut at) = (Vec::new(), 0);
            put(&mut column, value);
            assert_eq!((number(&column, &mut at), at), (Ok(value), column.len()));
        }
        for wrong in [vec![0x80, 0], vec![0x80], vec![0xff; 11], [vec![0xff; 9], vec![2]].concat()] {
            assert!(number(&wrong, &mut 0).is_err(), "{wrong:?}");
        }
    }
}
