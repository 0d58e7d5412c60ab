//! Times as people write and read them.
//!
//! Owns the text forms of spans (`15m`, `3m12s`) and dates. Never reads the clock: the console does, once.

use std::time::Duration;

use federation_model::time::Timestamp;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// Reads `90s`, `15m`, `1h30m`, `2d`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a span of time: write 90s, 15m, 1h30m or 2d");
    let (mut seconds, mut rest) = (0_u64, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next().and_then(|unit| UNITS.iter().find(|(letter, _)| *letter == unit));
        let (Ok(number), Some((_, length))) = (number.parse::<u64>(), unit) else { return Err(refused()) };
        seconds = number.checked_mul(*length).and_then(|part| seconds.checked_add(part)).ok_or_else(refused)?;
        rest = &tail[1..];
    }
    if text.is_empty() { Err(refused()) } else { Ok(Duration::from_secs(seconds)) }
}

/// Writes a span with its two largest units: `3m12s`, `2d3h`, `45s`.
pub(crate) fn span(span: Duration) -> String {
    let mut left = span.as_secs();
    let mut parts = Vec::new();
    for (letter, length) in UNITS {
        let number = left / length;
        left %= length;
        if number > 0 || !parts.is_empty() {
            parts.push(format!("{number}{letter}"));
        }
    }
    parts.truncate(2);
    if parts.len() == 2 && parts[1].starts_with('0') {
        parts.truncate(1);
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.concat() }
}

/// A moment of an answer, where 0 stands for never.
pub(crate) fn moment(seconds: u64) -> Option<Timestamp> {
    Some(Timestamp(seconds)).filter(|then| then.0 != 0)
}

/// How long ago something was; `-` for never.
pub(crate) fn ago(now: Timestamp, then: Option<Timestamp>) -> String {
    then.map_or_else(|| "-".to_owned(), |then| span(now.since(then)))
}

/// How far a moment is away: `in 14m59s`, `3m ago`; `-` for none.
pub(crate) fn away(now: Timestamp, then: Option<Timestamp>) -> String {
    match then {
        None => "-".to_owned(),
        Some(then) if then > now => format!("in {}", span(then.since(now))),
        Some(then) => format!("{} ago", span(now.since(then))),
    }
}

/// A moment in RFC 3339, for programs; nothing for moments no calendar has.
pub(crate) fn date(then: Timestamp) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(then.0).ok()?).ok()?.format(&Rfc3339).ok()
}

/// A round-trip time.
pub(crate) fn rtt(micros: u64) -> String {
    let tenths = micros.saturating_add(50) / 100;
    format!("{}.{}ms", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_in_every_unit_and_sum_up() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172_800), ("0s", 0), ("1d1s", 86_401)]
        {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "15", "m", "1.5h", "-1s", "1w", "1 m", "99999999999999999999s", "9999999999999999999d", "1é"]
        {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_written_with_two_units_at_most() {
        for (seconds, text) in
            [(0, "0s"), (45, "45s"), (60, "1m"), (192, "3m12s"), (3_600, "1h"), (3_605, "1h"), (93_784, "1d2h")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn moments_are_told_from_now() {
        let now = Timestamp(1_000_000);
        assert_eq!(ago(now, moment(0)), "-");
        assert_eq!(ago(now, moment(999_808)), "3m12s");
        assert_eq!(away(now, moment(1_000_899)), "in 14m59s");
        assert_eq!(away(now, moment(999_940)), "1m ago");
        assert_eq!(date(Timestamp(1_767_323_045)).as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(date(Timestamp(u64::MAX)), None);
        assert_eq!(rtt(449), "0.4ms");
        assert_eq!(rtt(12_350), "12.4ms");
        assert_eq!(rtt(u64::MAX), "18446744073709551.6ms");
    }
}
