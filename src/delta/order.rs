//! What stands in the same order in two versions.

/// Marks a longest choice of `places` that ascends, by patience sorting (Fredman 1975); a place that is `None` is not
/// chosen. Takes time n log n and 24 bytes a place.
#[must_use]
pub fn ascending(places: &[Option<u64>]) -> Vec<bool> {
    // Of the ascending choices of each length so far, the one that ends lowest, by the number of its last place.
    let mut ends: Vec<(u64, usize)> = Vec::new();
    let mut before: Vec<usize> = vec![usize::MAX; places.len()];
    for (number, place) in places.iter().enumerate() {
        let Some(place) = place else { continue };
        let len = ends.partition_point(|(end, _)| end < place);
        if let (Some((_, last)), Some(before)) =
            (len.checked_sub(1).and_then(|len| ends.get(len)), before.get_mut(number))
        {
            *before = *last;
        }
        match ends.get_mut(len) {
            Some(end) => *end = (*place, number),
            None => ends.push((*place, number)),
        }
    }
    let mut chosen = vec![false; places.len()];
    let mut at = ends.last().map_or(usize::MAX, |(_, last)| *last);
    while let Some(mark) = chosen.get_mut(at) {
        *mark = true;
        at = before.get(at).copied().unwrap_or(usize::MAX);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The length of a longest choice, by trying all.
    fn longest(places: &[Option<u64>], above: Option<u64>) -> usize {
        let Some((first, rest)) = places.split_first() else { return 0 };
        let without = longest(rest, above);
        match first.filter(|first| above.is_none_or(|above| above < *first)) {
            Some(first) => without.max(1 + longest(rest, Some(first))),
            None => without,
        }
    }

    proptest! {
        #[test]
        fn it_ascends_and_none_is_longer(places in proptest::collection::vec(proptest::option::of(0u64..12), 0..14)) {
            let chosen = ascending(&places);
            let marked: Vec<u64> = places.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(place, _)| place.unwrap()).collect();
            prop_assert!(marked.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(marked.len(), longest(&places, None));
        }
    }

    #[test]
    fn what_was_moved_is_left_out() {
        let places = [Some(1), Some(900), Some(2), None, Some(3), Some(4), Some(0)];
        assert_eq!(ascending(&places), [true, false, true, false, true, true, false]);
        assert!(ascending(&[]).is_empty());
        let many: Vec<_> = (0..100_000).map(|number| Some(number ^ 1)).collect();
        assert_eq!(ascending(&many).iter().filter(|chosen| **chosen).count(), 50_000);
    }
}
