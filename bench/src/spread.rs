//! Several measurements of one thing, and what to say of them.
//!
//! Owns the choice of the median: rounds on a shared machine have outliers to one side.

use std::time::Duration;

/// Measurements of one thing, in one unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    /// Of at least one measurement.
    pub(crate) fn of(measurements: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<_> = measurements.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self(sorted)
    }

    /// The middle one; of two middle ones their mean.
    pub(crate) fn median(&self) -> f64 {
        let (count, at) = (self.0.len(), self.0.len() / 2);
        match count {
            0 => f64::NAN,
            _ if count.is_multiple_of(2) => f64::midpoint(self.0[at - 1], self.0[at]),
            _ => self.0[at],
        }
    }

    /// The smallest.
    pub(crate) fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    /// The largest.
    pub(crate) fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// The value below which `percent` of the sorted times lie, in microseconds.
pub(crate) fn percentile_micros(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert!((Spread::of([3.0, 1.0, 2.0]).median() - 2.0).abs() < f64::EPSILON);
        assert!((Spread::of([4.0, 1.0, 2.0, 3.0]).median() - 2.5).abs() < f64::EPSILON);
        assert!(Spread::of([]).median().is_nan());
    }

    #[test]
    fn percentiles_stay_within_the_measurements() {
        let times: Vec<_> = (1..=100).map(Duration::from_micros).collect();
        assert!((percentile_micros(&times, 50) - 51.0).abs() < 0.001);
        assert!((percentile_micros(&times, 100) - 100.0).abs() < 0.001);
        assert!(percentile_micros(&[], 50).is_nan());
    }
}
