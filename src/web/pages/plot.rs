//! Small plots as the paths of an SVG, without a style in them: the style sheet colours them.

use super::model::Point;

/// Width of a plot in its own units.
pub(super) const WIDTH: u64 = 600;
/// Height of a plot in its own units.
pub(super) const HEIGHT: u64 = 100;
/// What stays free above the highest point, so that a figure that never changes is seen as a line below the edge.
const HEADROOM: u64 = 12;
/// Points that a plot draws at most.
const POINTS_MAX: usize = 600;

/// A figure over time as steps: each holds until the next, the last until `until_ms`. `None` where there is nothing to
/// draw. The area ends on the ground, so that its line alone is not to be drawn.
pub(super) fn steps(points: &[Point], until_ms: u64) -> Option<String> {
    let scale = Scale::new(points, until_ms)?;
    let points = thinned(points);
    let mut path = String::new();
    for (point, next) in points.iter().zip(points.iter().skip(1).map(|next| next.at_ms).chain([until_ms])) {
        let (from, to, top) = (scale.x(point.at_ms), scale.x(next), scale.y(point.bytes));
        let start = if path.is_empty() { format!("M{from} {HEIGHT}V{top}") } else { format!("V{top}") };
        path.push_str(&format!("{start}H{to}"));
    }
    Some(format!("{path}V{HEIGHT}Z"))
}

/// Figures of spans of time as bars beside each other, the last up to `until_ms`. `None` where there is nothing to draw.
pub(super) fn bars(points: &[Point], until_ms: u64) -> Option<String> {
    let scale = Scale::new(points, until_ms)?;
    let points = thinned(points);
    let mut path = String::new();
    for (point, next) in points.iter().zip(points.iter().skip(1).map(|next| next.at_ms).chain([until_ms])) {
        let (from, to) = (scale.x(point.at_ms), scale.x(next));
        // A gap between bars that are wide enough for one.
        let to = if to > from + 3 { to - 1 } else { to };
        path.push_str(&format!("M{from} {HEIGHT}V{}H{to}V{HEIGHT}Z", scale.y(point.bytes)));
    }
    Some(path)
}

struct Scale {
    from_ms: u64,
    span_ms: u64,
    top: u64,
}

impl Scale {
    fn new(points: &[Point], until_ms: u64) -> Option<Self> {
        let from_ms = points.first()?.at_ms;
        let span_ms = until_ms.checked_sub(from_ms).filter(|span| *span > 0)?;
        let top = points.iter().map(|point| point.bytes).max().filter(|top| *top > 0)?;
        Some(Self { from_ms, span_ms, top })
    }

    fn x(&self, at_ms: u64) -> u64 {
        share(at_ms.saturating_sub(self.from_ms), self.span_ms, WIDTH)
    }

    fn y(&self, bytes: u64) -> u64 {
        HEIGHT - share(bytes, self.top, HEIGHT - HEADROOM)
    }
}

/// `part` of `whole`, on a line that is `length` long.
fn share(part: u64, whole: u64, length: u64) -> u64 {
    let exact = u128::from(part.min(whole)) * u128::from(length) / u128::from(whole.max(1));
    u64::try_from(exact).unwrap_or(length)
}

/// As many of the points as can be told apart, the first among them.
fn thinned(points: &[Point]) -> Vec<&Point> {
    points.iter().step_by(points.len().div_ceil(POINTS_MAX).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(of: &[(u64, u64)]) -> Vec<Point> {
        of.iter().map(|(at_ms, bytes)| Point { at_ms: *at_ms, bytes: *bytes }).collect()
    }

    #[test]
    fn a_size_holds_until_the_next() {
        let path = steps(&points(&[(0, 50), (50, 100)]), 100);
        assert_eq!(path.as_deref(), Some("M0 100V56H300V12H600V100Z"));
    }

    #[test]
    fn a_bar_for_each_span() {
        let path = bars(&points(&[(0, 1), (50, 2)]), 100);
        assert_eq!(path.as_deref(), Some("M0 100V56H299V100ZM300 100V12H599V100Z"));
    }

    #[test]
    fn nothing_and_strange_times_draw_nothing_strange() {
        for of in [&[][..], &[(5, 0)], &[(9, 1)], &[(5, 1), (7, 0)]] {
            assert_eq!((steps(&points(of), 5), bars(&points(of), 5)), (None, None), "{of:?}");
        }
        let wild = points(&[(9, u64::MAX), (3, 1), (u64::MAX, 7)]);
        assert!(steps(&wild, 20).is_some_and(|path| path.len() < 100));
        let many: Vec<Point> = (0..100_000).map(|at_ms| Point { at_ms, bytes: at_ms }).collect();
        assert!(bars(&many, 100_000).is_some_and(|path| path.len() < 20_000));
    }
}
