//! Text that holds a private key.
//!
//! Owns its wiping when dropped and its absence from logs. Never writes it anywhere.

use std::fmt;

use zeroize::Zeroizing;

/// A private key in PEM; wiped when dropped, not shown by `Debug`.
#[derive(Clone)]
pub struct SecretPem(Zeroizing<String>);

impl SecretPem {
    /// Takes over the text of a private key.
    #[must_use]
    pub fn new(pem: String) -> Self {
        Self(Zeroizing::new(pem))
    }

    /// The text. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretPem(hidden)")
    }
}
