//! How many files, sockets among them, the process may have open.
//!
//! Owns raising the limit: systems give a process about a thousand, for the sake of programs that use select(2), and let it
//! take more when it asks. Never asks for more than the hard limit.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the hard one, and says how many files that are.
///
/// # Errors
/// When the system refuses; the limit is then what it was.
pub fn raise() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be() {
        let before = getrlimit(Resource::Nofile);
        let low = Rlimit { current: Some(256), maximum: before.maximum };
        setrlimit(Resource::Nofile, low).unwrap();
        let raised = raise().unwrap();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, now.maximum), (before.maximum, before.maximum));
        assert_eq!(raised, before.maximum.unwrap_or(u64::MAX));
        assert_eq!(raise().unwrap(), raised, "once is enough");
    }
}
