//! The secret by which this gateway disowns the tunnels of its former runs.
//!
//! Owns its file, `<state.dir>/reset.key`, mode 0600. Never leaves this gateway: who has it can end its tunnels.

use std::path::Path;

use federation_runtime::state::{self, StateError};
use gateway_tunnel::ResetKey;

/// Reads the key, or makes it at the first start and whenever it is damaged: a new one only costs peers some seconds.
///
/// # Errors
/// When the file cannot be read or written.
pub fn open(state_dir: &Path) -> Result<ResetKey, StateError> {
    let file = state_dir.join("reset.key");
    let kept = match state::read_private(&file) {
        Ok(bytes) => <[u8; ResetKey::LENGTH]>::try_from(bytes).ok(),
        Err(StateError::Missing(_)) => None,
        Err(error) => return Err(error),
    };
    if let Some(bytes) = kept {
        return Ok(ResetKey::from_bytes(bytes));
    }
    let mut bytes = [0; ResetKey::LENGTH];
    rand::fill(&mut bytes);
    state::write_private(&file, &bytes)?;
    Ok(ResetKey::from_bytes(bytes))
}
