//! Waiting for facts, with a deadline and a sentence for when it passes.
//!
//! Owns the one polling loop of the tests. Never waits for time to pass: every wait is for a condition.

use std::time::Duration;

use tokio::time::Instant;

/// The longest a fact may take on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a fact that cannot announce itself is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until `fact` gives a value.
///
/// # Panics
/// When it gives none within [`PATIENCE`]; the message is `what`.
pub async fn until<T, F>(what: &str, mut fact: F) -> T
where
    F: AsyncFnMut() -> Option<T>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = fact().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(LOOK).await;
    }
}
