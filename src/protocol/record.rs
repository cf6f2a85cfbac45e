//! One record: the unit that is sealed, sent and opened as a whole.
//!
//! ```text
//!  0      2                                            len + 2
//! +------+--------------------------------------------+
//! | len  | sealed: type, stream, body | tag, 16 bytes |
//! +------+--------------------------------------------+
//! ```
//!
//! The parts are `[record.length]`, `[record.type]`, `[record.stream]`, `[record.body]` and
//! `[record.tag]`. This file reads and writes the plain side; [`super::connection`] decides what a record means.

use super::error::{ProtocolError, Rule};
use super::limits::{RECORD_HEADER_LEN, RECORD_LEN_MIN};
use super::noise::{NoiseError, Sealer};

/// The stream of control messages and of records that belong to the connection as a whole.
pub const CONTROL_STREAM: u32 = 0;

const DATA_MORE: u8 = 0;
const DATA_LAST: u8 = 1;
const CREDIT: u8 = 2;
const RESET: u8 = 3;
const PING: u8 = 4;
const CLOSE: u8 = 5;
const ERROR: u8 = 6;

const PING_ASK: u8 = 0;
const PING_ANSWER: u8 = 1;

/// Eight bytes that an answer to a PING repeats: `[ping.token]`.
pub type PingToken = [u8; 8];

/// A record after opening, borrowed from the buffer it was opened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// Bytes of a stream direction; with `last` nothing follows in it.
    Data {
        /// The stream.
        stream: u32,
        /// Whether the direction ends here.
        last: bool,
        /// The bytes: `[data.bytes]`.
        bytes: &'a [u8],
    },
    /// Leave to send more bytes on a stream.
    Credit {
        /// The stream.
        stream: u32,
        /// How many bytes more: `[credit.amount]`.
        amount: u32,
    },
    /// The end of both directions of a stream at once.
    Reset {
        /// The stream.
        stream: u32,
        /// Why.
        code: u16,
    },
    /// A question for a sign of life.
    Ping {
        /// What the answer must repeat.
        token: PingToken,
    },
    /// The answer to a [`Record::Ping`].
    Pong {
        /// The token of the question.
        token: PingToken,
    },
    /// The orderly end of the connection.
    Close {
        /// Why.
        code: u16,
    },
    /// The end of the connection because of what the receiver of this record did.
    Error {
        /// The rule that was broken.
        code: u16,
    },
}

/// Checks the length field of a record: `[record.length]`.
pub fn check_length(field: [u8; 2]) -> Result<usize, ProtocolError> {
    let length = usize::from(u16::from_be_bytes(field));
    if length < RECORD_LEN_MIN { Err(Rule::RecordLength.into()) } else { Ok(length) }
}

impl<'a> Record<'a> {
    /// Reads the plain bytes of a record.
    pub fn parse(plain: &'a [u8]) -> Result<Self, Rule> {
        let (header, body) = plain.split_first_chunk::<RECORD_HEADER_LEN>().ok_or(Rule::RecordLength)?;
        // [record.type] [record.stream]
        let [kind, id @ ..] = *header;
        let stream = u32::from_be_bytes(id);
        match kind {
            DATA_MORE | DATA_LAST => Self::parse_data(stream, kind == DATA_LAST, body),
            CREDIT if stream != CONTROL_STREAM => {
                let amount = u32::from_be_bytes(exactly(body)?);
                Ok(Record::Credit { stream, amount })
            }
            RESET if stream != CONTROL_STREAM => Ok(Record::Reset { stream, code: u16::from_be_bytes(exactly(body)?) }),
            PING if stream == CONTROL_STREAM => {
                // [ping.kind] [ping.token]
                let [mark, token @ ..] = exactly::<9>(body)?;
                match mark {
                    PING_ASK => Ok(Record::Ping { token }),
                    PING_ANSWER => Ok(Record::Pong { token }),
                    _ => Err(Rule::RecordBody),
                }
            }
            CLOSE if stream == CONTROL_STREAM => Ok(Record::Close { code: u16::from_be_bytes(exactly(body)?) }),
            ERROR if stream == CONTROL_STREAM => Ok(Record::Error { code: u16::from_be_bytes(exactly(body)?) }),
            CREDIT..=ERROR => Err(Rule::StreamId),
            _ => Err(Rule::RecordType),
        }
    }

    fn parse_data(stream: u32, last: bool, bytes: &'a [u8]) -> Result<Self, Rule> {
        match (last, bytes.is_empty(), stream == CONTROL_STREAM) {
            (false, true, _) => Err(Rule::RecordBody),
            (true, _, true) => Err(Rule::StreamId),
            _ => Ok(Record::Data { stream, last, bytes }),
        }
    }

    /// Appends this record to `out`, sealed.
    pub fn write(&self, sealer: &mut Sealer, out: &mut Vec<u8>) -> Result<(), NoiseError> {
        match *self {
            Record::Data { stream, last, bytes } => write_data(sealer, out, stream, |body| {
                body.extend_from_slice(bytes);
                last
            }),
            Record::Credit { stream, amount } => write_record(sealer, out, CREDIT, stream, &amount.to_be_bytes()),
            Record::Reset { stream, code } => write_record(sealer, out, RESET, stream, &code.to_be_bytes()),
            Record::Ping { token } => write_ping(sealer, out, PING_ASK, token),
            Record::Pong { token } => write_ping(sealer, out, PING_ANSWER, token),
            Record::Close { code } => write_record(sealer, out, CLOSE, CONTROL_STREAM, &code.to_be_bytes()),
            Record::Error { code } => write_record(sealer, out, ERROR, CONTROL_STREAM, &code.to_be_bytes()),
        }
    }
}

/// Appends one data record whose body `fill` writes straight into `out`, at most
/// `RECORD_BODY_MAX` bytes; `fill` says whether the direction ends with it.
pub(super) fn write_data(
    sealer: &mut Sealer,
    out: &mut Vec<u8>,
    stream: u32,
    fill: impl FnOnce(&mut Vec<u8>) -> bool,
) -> Result<(), NoiseError> {
    let start = begin(out, DATA_MORE, stream);
    if fill(out)
        && let Some(kind) = out.get_mut(start + 2)
    {
        *kind = DATA_LAST;
    }
    seal(sealer, out, start)
}

fn write_record(sealer: &mut Sealer, out: &mut Vec<u8>, kind: u8, stream: u32, body: &[u8]) -> Result<(), NoiseError> {
    let start = begin(out, kind, stream);
    out.extend_from_slice(body);
    seal(sealer, out, start)
}

fn write_ping(sealer: &mut Sealer, out: &mut Vec<u8>, mark: u8, token: PingToken) -> Result<(), NoiseError> {
    let [a, b, c, d, e, f, g, h] = token;
    write_record(sealer, out, PING, CONTROL_STREAM, &[mark, a, b, c, d, e, f, g, h])
}

/// Leaves room for the length, then writes the header; gives the place of the record.
fn begin(out: &mut Vec<u8>, kind: u8, stream: u32) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0, 0, kind]);
    out.extend_from_slice(&stream.to_be_bytes());
    start
}

/// Seals what stands behind `start` and fills in the length; on failure takes the record back.
fn seal(sealer: &mut Sealer, out: &mut Vec<u8>, start: usize) -> Result<(), NoiseError> {
    let (_, record) = out.split_at_mut(start);
    let Some((length, plain)) = record.split_first_chunk_mut::<2>() else {
        return Err(NoiseError::Short);
    };
    let sealed = sealer.seal(plain).and_then(|tag| {
        let total = u16::try_from(plain.len() + tag.len()).map_err(|_| NoiseError::Exhausted)?;
        *length = total.to_be_bytes();
        Ok(tag)
    });
    match sealed {
        Ok(tag) => out.extend_from_slice(&tag),
        Err(error) => {
            out.truncate(start);
            return Err(error);
        }
    }
    Ok(())
}

fn exactly<const N: usize>(body: &[u8]) -> Result<[u8; N], Rule> {
    body.try_into().map_err(|_| Rule::RecordBody)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_bodies_outside_the_table_are_refused() {
        let check = |plain: &[u8], rule| assert_eq!(Record::parse(plain), Err(rule), "{plain:?}");
        check(&[0, 0, 0, 0], Rule::RecordLength);
        check(&[7, 0, 0, 0, 0, 1], Rule::RecordType);
        check(&[255, 0, 0, 0, 1, 1], Rule::RecordType);
        check(&[DATA_MORE, 0, 0, 0, 1], Rule::RecordBody);
        check(&[DATA_LAST, 0, 0, 0, 0, 9], Rule::StreamId);
        check(&[CREDIT, 0, 0, 0, 0, 0, 1, 0, 0], Rule::StreamId);
        check(&[CREDIT, 0, 0, 0, 1, 0, 1, 0], Rule::RecordBody);
        check(&[RESET, 0, 0, 0, 1, 0], Rule::RecordBody);
        check(&[RESET, 0, 0, 0, 0, 0, 1], Rule::StreamId);
        check(&[PING, 0, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8], Rule::RecordBody);
        check(&[PING, 0, 0, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8], Rule::StreamId);
        check(&[CLOSE, 0, 0, 0, 0], Rule::RecordBody);
        check(&[ERROR, 0, 0, 0, 3, 0, 1], Rule::StreamId);
    }

    #[test]
    fn golden_plain_bytes_read_as_their_records() {
        let check = |plain: &[u8], record| assert_eq!(Record::parse(plain), Ok(record));
        check(&[0, 0, 0, 0, 1, 9], Record::Data { stream: 1, last: false, bytes: &[9] });
        check(&[1, 0, 0, 1, 0], Record::Data { stream: 256, last: true, bytes: &[] });
        check(&[2, 0, 0, 0, 2, 0, 4, 0, 0], Record::Credit { stream: 2, amount: 262_144 });
        check(&[3, 0, 0, 0, 2, 1, 2], Record::Reset { stream: 2, code: 0x0102 });
        check(&[4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8], Record::Ping { token: [1, 2, 3, 4, 5, 6, 7, 8] });
        check(&[5, 0, 0, 0, 0, 0, 1], Record::Close { code: 1 });
        check(&[6, 0, 0, 0, 0, 2, 1], Record::Error { code: 0x0201 });
    }

    #[test]
    fn length_field_must_hold_header_and_tag() {
        assert!(check_length([0, 20]).is_err());
        assert_eq!(check_length([0, 21]), Ok(21));
        assert_eq!(check_length([255, 255]), Ok(65_535));
    }
}
