//! Records packed with zstd: `[packed.length]` u32 big-endian, the exact unpacked length, then one zstd frame.

use zstd::zstd_safe::CParameter;

use super::limits::PACKED_MAX;
use crate::tree::codec::Malformed;

/// Level for records; they are small beside content, and travel first.
const LEVEL: i32 = 6;
/// Bytes of records that are packed as well as can be: that takes some tens of milliseconds.
const THOROUGH_MAX: usize = 64 * 1024;
const LEVEL_THOROUGH: i32 = 19;
/// Level for records above that, where they are worth more than those of [`pack`].
const LEVEL_LARGE: i32 = 9;
/// Windows that every decoder has, as powers of two.
const WINDOW_LOG_MIN: u32 = 10;
const WINDOW_LOG_MAX: u32 = 27;

/// Packs records.
#[must_use]
pub fn pack(records: &[u8]) -> Vec<u8> {
    pack_at(LEVEL, records)
}

/// As [`pack`], with more effort: for what may be all that travels.
#[must_use]
pub fn pack_thoroughly(records: &[u8]) -> Vec<u8> {
    pack_at(if records.len() <= THOROUGH_MAX { LEVEL_THOROUGH } else { LEVEL_LARGE }, records)
}

fn pack_at(level: i32, records: &[u8]) -> Vec<u8> {
    let mut packed = u32::try_from(records.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    // Compression into memory has no failure but exhaustion of it.
    packed.extend(zstd::bulk::compress(records, level).unwrap_or_default());
    packed
}

/// Unpacks records into exactly the length that the head names.
///
/// # Errors
/// [`Malformed`] when the length is over the bound or not what the frame holds.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>, Malformed> {
    let rule = |rule| Malformed::Rule { what: "packed records", rule };
    let (head, frame) = packed.split_first_chunk::<4>().ok_or_else(|| rule("the head is cut"))?;
    let length = u32::from_be_bytes(*head);
    crate::tree::codec::bounded("packed records", u64::from(length), u64::from(PACKED_MAX))?;
    let records =
        unpack_exactly(frame, length as usize, &[]).ok_or_else(|| rule("the frame is not one of that length"))?;
    Ok(records)
}

/// Decodes one zstd frame that holds exactly `length` bytes, with `prefix` as its history; `None` for anything else.
#[must_use]
pub fn unpack_exactly(frame: &[u8], length: usize, prefix: &[u8]) -> Option<Vec<u8>> {
    // One frame and nothing behind it: a second one would be decoded as well.
    if zstd::zstd_safe::find_frame_compressed_size(frame).ok()? != frame.len() {
        return None;
    }
    let mut context = zstd::zstd_safe::DCtx::try_create()?;
    if !prefix.is_empty() {
        context.ref_prefix(prefix).ok()?;
    }
    let mut out = Vec::with_capacity(length);
    let written = context.decompress(&mut out, frame).ok()?;
    (written == length && out.len() == length).then_some(out)
}

/// Encodes `data` as one zstd frame at `level`, with `prefix` as its history.
#[must_use]
pub fn pack_with(data: &[u8], level: i32, prefix: &[u8]) -> Option<Vec<u8>> {
    pack_tuned(data, level, &[], prefix)
}

/// As [`pack_with`], with some of the level's parameters replaced.
#[must_use]
pub fn pack_tuned(data: &[u8], level: i32, tuning: &[CParameter], prefix: &[u8]) -> Option<Vec<u8>> {
    let mut context = zstd::zstd_safe::CCtx::try_create()?;
    let plain = [
        CParameter::CompressionLevel(level),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::WindowLog(window_log(data.len() + prefix.len())),
    ];
    for parameter in plain.iter().chain(tuning) {
        context.set_parameter(*parameter).ok()?;
    }
    if !prefix.is_empty() {
        context.ref_prefix(prefix).ok()?;
    }
    let mut out = Vec::with_capacity(zstd::zstd_safe::compress_bound(data.len()));
    context.compress2(&mut out, data).ok()?;
    Some(out)
}

/// The smallest window that holds so many bytes: history outside of it would be of no use.
fn window_log(bytes: usize) -> u32 {
    bytes.max(1 << WINDOW_LOG_MIN).next_power_of_two().ilog2().min(WINDOW_LOG_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_lies_about_length_fail() {
        for n in [0usize, 1, 100, 100_000] {
            let records: Vec<u8> = (0..n).map(|i| (i % 7) as u8).collect();
            let packed = pack(&records);
            assert_eq!(unpack(&packed).unwrap(), records);
            assert_eq!(unpack(&pack_thoroughly(&records)).unwrap(), records);
            let mut lie = packed.clone();
            lie[3] ^= 1;
            assert!(unpack(&lie).is_err());
            let mut huge = packed.clone();
            huge[..4].copy_from_slice(&u32::MAX.to_be_bytes());
            assert!(unpack(&huge).is_err());
            assert!(unpack(&[packed.clone(), packed[4..].to_vec()].concat()).is_err());
        }
        assert!(unpack(&[0, 0]).is_err());
    }

    #[test]
    fn a_prefix_makes_the_frame_smaller_and_is_needed_to_read_it() {
        let old: Vec<u8> =
            (0..4_000u32).flat_map(|i| blake3::hash(&i.to_le_bytes()).as_bytes()[..4].to_vec()).collect();
        let mut new = old.clone();
        new[100] ^= 1;
        let frame = pack_with(&new, 3, &old).unwrap();
        assert!(frame.len() < 200);
        assert_eq!(unpack_exactly(&frame, new.len(), &old), Some(new.clone()));
        assert_ne!(unpack_exactly(&frame, new.len(), &[]), Some(new.clone()));
        assert_eq!(unpack_exactly(&frame, new.len() - 1, &old), None);
    }

    #[test]
    fn a_frame_that_grows_is_stopped_at_the_named_length() {
        let bomb = pack_with(&vec![0; 50_000_000], 3, &[]).unwrap();
        assert!(bomb.len() < 10_000);
        assert_eq!(unpack_exactly(&bomb, 64 * 1024, &[]), None);
    }
}
