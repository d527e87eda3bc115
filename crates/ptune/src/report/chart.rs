//! Line charts as SVG geometry: points, axes and ticks in the pixels of one view box; and tracks, on which a share is seen
//! before and after. `chart.html` draws them.
//!
//! A chart is drawn about as wide as a phone, so that its text has the size of the page's text wherever it stands;
//! wider screens put charts side by side.

use serde::Serialize;

/// The view box.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 200.0;
/// Margins for the labels.
const LEFT: f64 = 48.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;
/// About how many ticks an axis has.
const TICKS: f64 = 5.0;
/// More dots than this are a thick line.
const MOST_DOTS: usize = 40;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    /// 0.395 is `39.5 %`.
    Share,
    /// A plain number.
    Number,
}

/// A chart ready to be drawn.
#[derive(Debug, Serialize)]
pub(crate) struct Chart {
    title: String,
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    bottom: f64,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    /// `x,y x,y ...`
    line: String,
    /// Thinner ones behind it.
    beside: Vec<String>,
    dots: Vec<Dot>,
    /// Whether the dots are drawn, or only answer to a pointer.
    dotted: bool,
    best: Option<Dot>,
    baseline: Option<Tick>,
}

#[derive(Debug, Serialize)]
struct Tick {
    at: f64,
    label: String,
}

#[derive(Debug, Serialize)]
struct Dot {
    x: f64,
    y: f64,
    label: String,
}

/// What a chart shows.
pub(crate) struct Curve<'a> {
    pub(crate) title: &'a str,
    pub(crate) unit: Unit,
    /// Steps and values.
    pub(crate) points: &'a [(usize, f64)],
    /// More of them to see behind it, within the same steps.
    pub(crate) beside: &'a [Vec<(usize, f64)>],
    /// The step to mark.
    /// What the axis of values shows at least.
    pub(crate) range: Option<(f64, f64)>,
    pub(crate) best: Option<usize>,
    /// A value to compare with.
    pub(crate) baseline: Option<f64>,
}

impl Chart {
    /// Lays a curve out; none where fewer than two points are finite, since one point is no curve.
    pub(crate) fn new(curve: &Curve<'_>) -> Option<Chart> {
        let finite = |value: &f64| value.is_finite();
        let points: Vec<(usize, f64)> = curve.points.iter().copied().filter(|(_, value)| value.is_finite()).collect();
        let last = points.last()?.0;
        if points.len() < 2 {
            return None;
        }
        let beside = || curve.beside.iter().flatten().filter(|(step, value)| *step <= last && value.is_finite());
        let all = || points.iter().chain(beside()).map(|(_, value)| *value);
        let range = curve.range.map_or(Vec::new(), |(low, high)| vec![low, high]);
        let values = || all().chain(curve.baseline.filter(finite)).chain(range.iter().copied());
        let y = Axis::new(values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        // From step 0 in every chart, so that they can be compared.
        let x = Axis { low: 0.0, high: last.max(1) as f64 };
        let place_x = |value: f64| rounded(LEFT + x.share(value) * (WIDTH - LEFT - RIGHT));
        let place_y = |value: f64| rounded(HEIGHT - BOTTOM - y.share(value) * (HEIGHT - TOP - BOTTOM));
        let dot = |(step, value): &(usize, f64)| Dot {
            x: place_x(*step as f64),
            y: place_y(*value),
            label: format!("step {step}: {}", written(*value, curve.unit)),
        };
        let line = |points: &mut dyn Iterator<Item = &(usize, f64)>| {
            let place = |(step, value): &(usize, f64)| format!("{},{}", place_x(*step as f64), place_y(*value));
            points.map(place).collect::<Vec<_>>().join(" ")
        };
        let dots: Vec<Dot> = points.iter().map(dot).collect();
        let baseline = curve.baseline.filter(finite);
        Some(Chart {
            title: curve.title.into(),
            width: WIDTH,
            height: HEIGHT,
            left: LEFT,
            right: WIDTH - RIGHT,
            bottom: HEIGHT - BOTTOM,
            x_ticks: x.ticks(Unit::Number, true).into_iter().map(|(v, label)| Tick { at: place_x(v), label }).collect(),
            y_ticks: y.ticks(curve.unit, false).into_iter().map(|(v, label)| Tick { at: place_y(v), label }).collect(),
            line: line(&mut points.iter()),
            beside: curve
                .beside
                .iter()
                .map(|points| line(&mut points.iter().filter(|(step, value)| *step <= last && value.is_finite())))
                .collect(),
            dotted: dots.len() <= MOST_DOTS,
            dots,
            best: points.iter().find(|(step, _)| Some(*step) == curve.best).map(dot),
            baseline: baseline.map(|value| Tick { at: place_y(value), label: written(value, curve.unit) }),
        })
    }
}

/// What a share was and became, as places from 0 to 100 on a line, and as numbers in per cent.
#[derive(Debug, Serialize)]
pub(crate) struct Track {
    from: f64,
    to: f64,
    left: f64,
    right: f64,
    before: String,
    after: String,
}

impl Track {
    pub(crate) fn new(before: f64, after: f64) -> Track {
        let place = |share: f64| rounded(100.0 * share.clamp(0.0, 1.0));
        Track {
            from: place(before),
            to: place(after),
            left: place(before.min(after)),
            right: place(before.max(after)),
            before: format!("{:.1}", 100.0 * before),
            after: format!("{:.1}", 100.0 * after),
        }
    }
}

/// A value for people: four digits that count.
pub(crate) fn written(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Share => format!("{:.1} %", 100.0 * value),
        Unit::Number if value == 0.0 => "0".into(),
        Unit::Number if value.abs() < 1e-3 || value.abs() >= 1e6 => format!("{value:.2e}"),
        Unit::Number => {
            let digits = (3 - value.abs().log10().floor() as i64).clamp(0, 6) as usize;
            format!("{value:.digits$}")
        }
    }
}

/// A range of values.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// A range with some air; a single value is seen in its distance from 0.
    fn new(low: f64, high: f64) -> Axis {
        let (low, high) = if high > low { (low, high) } else { (low.min(0.0), high.max(0.0)) };
        let air = 0.06 * if high > low { high - low } else { 1e-6 };
        // Losses, rates and shares are not negative: no air below 0.
        Axis { low: if low >= 0.0 { (low - air).max(0.0) } else { low - air }, high: high + air }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Round values within the range, 1, 2 or 5 times a power of ten apart, with equally long labels.
    fn ticks(&self, unit: Unit, whole: bool) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / TICKS;
        let power = 10f64.powi(rough.log10().floor() as i32);
        let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
        let step = if whole { (factor * power).max(1.0) } else { factor * power };
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|i| (i as f64 * step, tick_label(i as f64 * step, step, unit))).collect()
    }
}

/// A tick's label, with as many digits as its distance from the next needs.
fn tick_label(value: f64, step: f64, unit: Unit) -> String {
    let scale = if unit == Unit::Share { 100.0 } else { 1.0 };
    let (value, step) = (value * scale, step * scale);
    // Rounding keeps 2 and 5 times a power of ten away from the next power.
    let digits = (-(step * 1.001).log10().floor()).max(0.0) as usize;
    match unit {
        Unit::Share => format!("{value:.digits$} %"),
        Unit::Number if value != 0.0 && step < 1e-3 => scientific(value, digits),
        Unit::Number if value == 0.0 => "0".into(),
        Unit::Number => format!("{value:.digits$}"),
    }
}

/// A value of so many decimals: 0.0015 is `1.5e-3`.
fn scientific(value: f64, decimals: usize) -> String {
    // From the decimal text, because the nearest f64 may print as 0.00030000000000000003.
    format!("{value:.decimals$}").parse::<f64>().map_or_else(|_| value.to_string(), |exact| format!("{exact:e}"))
}

/// A tenth of a pixel is enough, and keeps the page short.
fn rounded(pixels: f64) -> f64 {
    (pixels * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(usize, f64)], unit: Unit) -> Option<Chart> {
        Chart::new(&Curve { title: "t", unit, points, beside: &[], range: None, best: None, baseline: None })
    }

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_labels_equally_long() {
        let loss = chart(&[(0, 6.9), (294, 2.9)], Unit::Number).unwrap();
        assert_eq!(labels(&loss.y_ticks), ["3", "4", "5", "6", "7"]);
        assert_eq!(labels(&loss.x_ticks), ["0", "100", "200"]);
        let share = chart(&[(0, 0.081), (40, 0.3948)], Unit::Share).unwrap();
        assert_eq!(labels(&share.y_ticks), ["10 %", "20 %", "30 %", "40 %"]);
        let rate = chart(&[(1, 0.001), (9, 1e-5)], Unit::Number).unwrap();
        assert_eq!(labels(&rate.y_ticks), ["0", "5e-4", "1e-3"]);
        let constant = chart(&[(25, 0.003), (50, 0.003)], Unit::Number).unwrap();
        assert_eq!(
            (labels(&constant.x_ticks), labels(&constant.y_ticks)),
            (vec!["0", "10", "20", "30", "40", "50"], vec!["0", "0.001", "0.002", "0.003"])
        );
        let steps = chart(&[(0, 0.5), (2, 0.75)], Unit::Share).unwrap();
        assert_eq!(labels(&steps.x_ticks), ["0", "1", "2"], "no half steps");
    }

    #[test]
    fn everything_lies_within_the_view_box() {
        let curves: [&[(usize, f64)]; 5] = [
            &[(0, 0.0), (1, 0.0)],
            &[(0, 1.0), (1, 1.0), (2, 1.0)],
            &[(5, 1e-9), (6, 1e9)],
            &[(0, -3.0), (10_000_000, 2.0)],
            &[(7, 0.3), (7, 0.4)],
        ];
        for points in curves {
            for unit in [Unit::Share, Unit::Number] {
                let chart = chart(points, unit).unwrap();
                let inside = |x: f64, y: f64| (0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y);
                assert!(chart.dots.iter().all(|dot| inside(dot.x, dot.y)), "{points:?}");
                assert!(chart.y_ticks.iter().all(|tick| inside(0.0, tick.at)), "{points:?}");
                assert!((1..=12).contains(&chart.y_ticks.len()), "{points:?}: {:?}", labels(&chart.y_ticks));
            }
        }
    }

    #[test]
    fn a_point_that_is_no_number_is_left_out_and_one_point_is_no_curve() {
        assert!(chart(&[], Unit::Number).is_none());
        assert!(chart(&[(0, 1.0)], Unit::Number).is_none());
        assert!(chart(&[(0, 1.0), (1, f64::NAN)], Unit::Number).is_none());
        assert_eq!(chart(&[(0, 1.0), (1, f64::INFINITY), (2, 2.0)], Unit::Number).unwrap().dots.len(), 2);
    }

    #[test]
    fn lines_beside_widen_the_axis_and_stay_within_the_view_box() {
        let (points, beside) = ([(0, 0.5), (10, 0.6)], [vec![(0, 0.0), (10, 1.0), (20, 9.0)], vec![(0, f64::NAN)]]);
        let curve = Curve {
            title: "t",
            unit: Unit::Share,
            points: &points,
            beside: &beside,
            range: None,
            best: None,
            baseline: None,
        };
        let chart = Chart::new(&curve).unwrap();
        assert_eq!(labels(&chart.y_ticks), ["0 %", "50 %", "100 %"]);
        assert_eq!(chart.beside.len(), 2);
        assert_eq!(chart.beside[0].split(' ').count(), 2, "a step behind the last is left out");
        assert_eq!(chart.beside[1], "");
    }

    #[test]
    fn a_track_goes_from_the_lower_to_the_higher_whichever_came_first() {
        for (before, after) in [(0.25, 1.0), (1.0, 0.25)] {
            let track = Track::new(before, after);
            assert_eq!((track.from, track.to), (100.0 * before, 100.0 * after));
            assert_eq!((track.left, track.right), (25.0, 100.0));
        }
    }

    #[test]
    fn values_are_short() {
        let written = |value| written(value, Unit::Number);
        assert_eq!(
            ["2.968", "0.01234", "1.23e-5", "0", "1234"].map(String::from),
            [2.96802, 0.012341, 1.234e-5, 0.0, 1234.4].map(written)
        );
        assert_eq!(super::written(0.39487, Unit::Share), "39.5 %");
    }
}
