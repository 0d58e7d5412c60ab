//! Why a command could not run, and what to do about it.
//!
//! Owns the rule that no failure leaves this program without a hint. Never prints.

use std::fmt::Display;

/// A failure with its causes and one hint.
#[derive(Debug)]
pub(crate) struct Failure {
    cause: anyhow::Error,
    hint: String,
}

impl Failure {
    /// A failure caused by an error.
    pub(crate) fn new(cause: impl Into<anyhow::Error>, hint: impl Into<String>) -> Self {
        Self { cause: cause.into(), hint: hint.into() }
    }

    /// A failure that begins here.
    pub(crate) fn because(reason: impl Display, hint: impl Into<String>) -> Self {
        Self { cause: anyhow::anyhow!("{reason}"), hint: hint.into() }
    }

    /// Says what was being done.
    pub(crate) fn context(self, what: impl Display + Send + Sync + 'static) -> Self {
        Self { cause: self.cause.context(what), hint: self.hint }
    }

    /// The causes, outermost first, without repetitions: many errors print their source themselves.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        for cause in self.cause.chain().map(ToString::to_string) {
            if !causes.iter().any(|shown| shown.contains(&cause)) {
                causes.push(cause);
            }
        }
        causes
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }
}

/// Turns an error into a failure.
pub(crate) trait OrHint<T> {
    /// Says what was being done and what to do next.
    fn or_hint(self, what: impl Display + Send + Sync + 'static, hint: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> OrHint<T> for Result<T, E> {
    fn or_hint(self, what: impl Display + Send + Sync + 'static, hint: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(error, hint).context(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_that_repeat_an_outer_one_are_told_once() {
        let inner = anyhow::anyhow!("no route").context("connecting failed: no route").context("cannot join");
        let failure = Failure::new(inner, "try again");
        assert_eq!(failure.causes(), ["cannot join", "connecting failed: no route"]);
    }
}
