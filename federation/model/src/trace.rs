//! Identifiers that follow one connection from end to end.
//!
//! Owns the W3C Trace Context text form. Never generates randomness: the shells pass it in.

use std::{fmt, str::FromStr};

/// The trace context of a connection (W3C Trace Context, `traceparent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace id, never 0.
    pub trace_id: u128,
    /// The span id of the sender, never 0.
    pub span_id: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// A context from random bits; 0 becomes 1, since both ids must not be 0.
    #[must_use]
    pub fn from_random(trace_id: u128, span_id: u64) -> Self {
        Self { trace_id: trace_id.max(1), span_id: span_id.max(1), sampled: false }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// A string that is not a `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent of version 00")]
pub struct TraceError;

impl FromStr for TraceContext {
    type Err = TraceError;
    fn from_str(text: &str) -> Result<Self, TraceError> {
        let parts: Vec<&str> = text.split('-').collect();
        let &["00", trace, span, flags] = parts.as_slice() else { return Err(TraceError) };
        let hex = |s: &str, len| s.len() == len && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !(hex(trace, 32) && hex(span, 16) && hex(flags, 2)) {
            return Err(TraceError);
        }
        let trace_id = u128::from_str_radix(trace, 16).map_err(|_| TraceError)?;
        let span_id = u64::from_str_radix(span, 16).map_err(|_| TraceError)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| TraceError)?;
        if trace_id == 0 || span_id == 0 {
            return Err(TraceError);
        }
        Ok(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_contexts_survive_display_and_parse() {
        let context = TraceContext { trace_id: 7, span_id: 9, sampled: true };
        assert_eq!(context.to_string(), "00-00000000000000000000000000000007-0000000000000009-01");
        assert_eq!(context.to_string().parse::<TraceContext>().unwrap(), context);
    }

    #[test]
    fn malformed_trace_contexts_are_refused() {
        for text in [
            "",
            "00-0-0-0",
            "01-00000000000000000000000000000007-0000000000000009-01",
            "00-00000000000000000000000000000000-0000000000000009-01",
            "00-+0000000000000000000000000000007-0000000000000009-01",
        ] {
            assert!(text.parse::<TraceContext>().is_err(), "{text}");
        }
    }
}
