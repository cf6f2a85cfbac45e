//! What visitors of the web send: a target and a range, in any bytes.

use mirra::tree::name::Name;
use mirra::web::limits::TARGET_MAX;
use mirra::web::range::{Part, part};
use mirra::web::target::Target;

/// A target has names that a path can have, and a range lies in its file. The first eight bytes are a file's size, what
/// stands before the first line's end is the target, the rest the range.
pub(crate) fn web(data: &[u8]) {
    let Some((size, text)) = data.split_first_chunk() else { return };
    let (size, text) = (u64::from_be_bytes(*size), String::from_utf8_lossy(text));
    let (target, range) = text.split_once('\n').unwrap_or((&text, ""));
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    if let Ok(target) = Target::parse(path, query) {
        assert!(target.names.iter().map(Vec::len).sum::<usize>() <= TARGET_MAX);
        for name in &target.names {
            assert!(Name::new(name).is_ok() || name.len() > 255 || name == b".mirra", "{name:?}");
        }
        assert!(target.slash || !target.names.is_empty());
    }
    if let Part::Bytes(first, last) = part(Some(range), size) {
        assert!(first <= last && last < size, "{first}-{last} of {size}");
    }
}
