//! A hash that is the same in every version and on every machine, which the hashers of `std` do not promise.
//!
//! Owns FNV-1a, for spreading. Never for anything an adversary must not steer.

/// FNV-1a, 64 bits.
#[must_use]
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
