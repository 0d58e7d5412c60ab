//! Messages to values and back: every failure names the message and the field.
//!
//! Owns the conversions. Never accepts a value the model would not build.

pub mod catalog;
pub mod foreign;
pub mod header;
pub mod member;
pub mod report;
pub mod revocation;

/// A message that does not convert to a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}.{field}: {reason}")]
pub struct ConvertError {
    /// The message.
    pub message: &'static str,
    /// The field within it.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl ConvertError {
    /// An error about `field` of `message`.
    pub fn new(message: &'static str, field: &'static str, reason: impl ToString) -> Self {
        Self { message, field, reason: reason.to_string() }
    }

    /// For `map_err` on a parse of `field`.
    pub(crate) fn of<E: ToString>(message: &'static str, field: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::new(message, field, error)
    }
}
