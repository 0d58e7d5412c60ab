//! Reports on imports, between messages of the tunnel and values of the model.
//!
//! Owns the form of one standing. Never puts reports together: the session does, which knows what was said before.

use federation_model::{names::ServiceKey, report::ImportState};

use super::ConvertError;
use crate::tunnel::v1 as wire;

/// The message of one import.
#[must_use]
pub fn standing_message(service: &ServiceKey, state: ImportState) -> wire::ImportStanding {
    let state = match state {
        ImportState::Ready => wire::ImportState::Ready,
        ImportState::NoAddress => wire::ImportState::NoAddress,
        ImportState::NoNamespace => wire::ImportState::NoNamespace,
        ImportState::PortConflict => wire::ImportState::PortConflict,
        ImportState::TypeConflict => wire::ImportState::TypeConflict,
        ImportState::Other => wire::ImportState::Unspecified,
    };
    wire::ImportStanding { service: Some(service.into()), state: state.into() }
}

impl TryFrom<wire::ImportStanding> for (ServiceKey, ImportState) {
    type Error = ConvertError;
    fn try_from(message: wire::ImportStanding) -> Result<Self, ConvertError> {
        let missing = || ConvertError::new("ImportStanding", "service", "it is missing");
        let service = message.service.ok_or_else(missing)?.try_into()?;
        let state = match wire::ImportState::try_from(message.state) {
            Ok(wire::ImportState::Ready) => ImportState::Ready,
            Ok(wire::ImportState::NoAddress) => ImportState::NoAddress,
            Ok(wire::ImportState::NoNamespace) => ImportState::NoNamespace,
            Ok(wire::ImportState::PortConflict) => ImportState::PortConflict,
            Ok(wire::ImportState::TypeConflict) => ImportState::TypeConflict,
            Ok(wire::ImportState::Unspecified) | Err(_) => ImportState::Other,
        };
        Ok((service, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_the_wire_and_those_of_later_versions_are_kept_apart_from_all_others() {
        use ImportState::{NoAddress, NoNamespace, Other, PortConflict, Ready, TypeConflict};
        let service: ServiceKey = "shop/web".parse().unwrap();
        for state in [Ready, NoAddress, NoNamespace, PortConflict, TypeConflict, Other] {
            assert_eq!(standing_message(&service, state).try_into(), Ok((service.clone(), state)));
        }
        let later = wire::ImportStanding { state: 99, ..standing_message(&service, Ready) };
        assert_eq!(later.try_into(), Ok((service, Other)));
    }

    #[test]
    fn a_standing_of_no_service_or_of_no_name_is_refused() {
        let key = wire::ServiceKey { namespace: "shop".into(), name: "Web".into() };
        for service in [None, Some(key)] {
            let message = wire::ImportStanding { service, state: 1 };
            assert!(<(ServiceKey, ImportState)>::try_from(message).is_err());
        }
    }
}
