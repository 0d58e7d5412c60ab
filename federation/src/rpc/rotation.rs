//! What the audit log tells of a step of a rotation.
//!
//! Owns the words. Never checks a step: the bundle that belongs to it was checked when it was published.

use federation_model::bundle::Fingerprint;
use federation_pki::rotation::Taken;
use proto::{convert::ConvertError, federation::v1 as wire};

/// The detail of the entry.
pub(super) fn detail(request: &wire::ReportRotationRequest) -> Result<String, ConvertError> {
    let error = |field, reason: &str| ConvertError::new("ReportRotationRequest", field, reason);
    let taken = match request.step() {
        wire::RotationStep::Published => Taken::Published,
        wire::RotationStep::Activated => Taken::Activated,
        wire::RotationStep::Retired => Taken::Retired,
        wire::RotationStep::Cancelled => Taken::Cancelled,
        wire::RotationStep::Unspecified => return Err(error("step", "there is no such step")),
    };
    let forced = if request.forced { ", forced" } else { "" };
    if request.authority.is_empty() {
        return Ok(format!("{}{forced}", taken.label()));
    }
    let authority: Fingerprint =
        request.authority.parse().map_err(|_| error("authority", "it is not the SHA-256 of a certificate"))?;
    Ok(format!("{}{forced}; in use is {authority}", taken.label()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_the_step_and_the_authority_and_whether_it_was_forced() {
        let authority = Fingerprint::of(b"authority").to_string();
        let step = wire::RotationStep::Activated.into();
        let mut request = wire::ReportRotationRequest { step, authority: authority.clone(), forced: true };
        assert_eq!(detail(&request).unwrap(), format!("activated, forced; in use is {authority}"));
        (request.forced, request.authority) = (false, String::new());
        assert_eq!(detail(&request).unwrap(), "activated");
        request.authority = "somebody else\n".to_owned();
        assert!(detail(&request).unwrap_err().to_string().contains("authority"));
        request.step = 99;
        assert!(detail(&request).unwrap_err().to_string().contains("step"));
    }
}
