//! What in the objects of a cluster is not as its author may think.
//!
//! Owns the wording. Never stops anything: what stops an export is in its conditions.

use std::net::IpAddr;

use federation_model::{
    addr::Port,
    catalog::{MAX_HEADLESS_ENDPOINTS, MAX_METADATA, MAX_METADATA_BYTES},
    names::ServiceKey,
    spiffe::SpiffeIdError,
};

use crate::objects::ObjectKey;

/// One thing to look at; `Display` says what, where and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Warning {
    /// An annotation has a value outside its range.
    #[error(
        "ServiceExport {export}: {annotation} is {value:?}, {default} is used; write a whole number from {least} to {most}"
    )]
    Annotation {
        /// The ServiceExport.
        export: ServiceKey,
        /// The annotation.
        annotation: &'static str,
        /// Its value.
        value: String,
        /// The least value.
        least: u32,
        /// The largest value.
        most: u32,
        /// What is used.
        default: u32,
    },
    /// An annotation of Landbridge that does not exist.
    #[error(
        "ServiceExport {export}: {annotation} is not known; there are landbridge.dev/deliver, landbridge.dev/tls-spiffe-id, landbridge.dev/tls-server-name, landbridge.dev/tls-client-identity, landbridge.dev/priority, landbridge.dev/weight and landbridge.dev/export-to"
    )]
    UnknownAnnotation {
        /// The ServiceExport.
        export: ServiceKey,
        /// The annotation.
        annotation: String,
    },
    /// An annotation that says how TLS is spoken to endpoints, where it is not.
    #[error(
        "ServiceExport {export}: {annotation} has no effect; write landbridge.dev/deliver: tls, for all ports or for one, or leave it out"
    )]
    WithoutTls {
        /// The ServiceExport.
        export: ServiceKey,
        /// The annotation.
        annotation: &'static str,
    },
    /// A port whose protocol is not carried.
    #[error("Service {service}: port {port} is {protocol}, which is not carried; only TCP and UDP are exported")]
    Protocol {
        /// The Service.
        service: ServiceKey,
        /// The port.
        port: Port,
        /// Its protocol.
        protocol: String,
    },
    /// A port with the name or number of an earlier one.
    #[error("Service {service}: port {port} has the name or the number of an earlier port and is left out")]
    DuplicatePort {
        /// The Service.
        service: ServiceKey,
        /// The port.
        port: Port,
    },
    /// No EndpointSlice says where a port is.
    #[error(
        "Service {service}: no EndpointSlice has a port named {name:?} with the protocol of port {port}, so nothing can be delivered to it"
    )]
    PortNowhere {
        /// The Service.
        service: ServiceKey,
        /// The port.
        port: Port,
        /// The name EndpointSlices must give it.
        name: String,
    },
    /// More ready endpoints than can be told.
    #[error("Service {service} has {count} ready endpoints; the first {MAX_HEADLESS_ENDPOINTS} by name are exported")]
    ManyEndpoints {
        /// The Service.
        service: ServiceKey,
        /// How many there are.
        count: usize,
    },
    /// A label or annotation that is not exported.
    #[error(
        "ServiceExport {export}: the exported {what} {name:?} is left out; {MAX_METADATA} of at most {MAX_METADATA_BYTES} bytes are exported"
    )]
    Metadata {
        /// The ServiceExport.
        export: ServiceKey,
        /// `label` or `annotation`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Several pods claim one address, so it belongs to nobody.
    #[error(
        "the pods {first} and {second} both have the address {address}, so callers from it are not known until one of them is gone"
    )]
    SharedAddress {
        /// The address.
        address: IpAddr,
        /// One pod.
        first: ObjectKey,
        /// Another pod.
        second: ObjectKey,
    },
    /// A service account that cannot be in a SPIFFE ID.
    #[error("Pod {pod}: its service account {service_account:?} does not fit into a SPIFFE ID: {reason}")]
    ServiceAccount {
        /// The pod.
        pod: ObjectKey,
        /// Its service account.
        service_account: String,
        /// Why.
        reason: SpiffeIdError,
    },
}
