//! Saying that a test could not run where it is.
//!
//! Owns the way: past the capture of the test runner, so that it is seen also when everything passes.

use std::io::{self, Write as _};

/// Says loudly what was left out and why.
pub fn say(what: &str, why: &str) {
    // Nobody reads standard error: then there is nobody to tell.
    let _ = writeln!(io::stderr(), "SKIPPED: {what}: {why}");
}
