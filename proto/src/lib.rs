//! The wire schemas of Landbridge: generated code and its conversions to and from the words of `federation-model`.
//!
//! Owns the `.proto` files. A message is converted at the edge, once, and every failure names the field. Never decides
//! anything, never does I/O; the gRPC stubs exist only with the `grpc` feature.

pub mod convert;
mod hidden;

macro_rules! generated {
    ($(#[$doc:meta])* $module:ident, $package:literal) => {
        $(#[$doc])*
        pub mod $module {
            /// Version 1; the `.proto` file documents every message.
            #[allow(
                missing_docs,
                missing_debug_implementations,
                unreachable_pub,
                unused_qualifications,
                clippy::all,
                clippy::use_self,
                clippy::wildcard_enum_match_arm,
                clippy::allow_attributes_without_reason,
                clippy::too_many_lines,
                reason = "generated code"
            )]
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/landbridge.", $package, ".v1.rs"));
            }
        }
    };
}

generated!(
    /// The tunnel protocol: control messages and the stream header.
    tunnel, "tunnel"
);
generated!(
    /// The federation service: membership and operators.
    federation, "federation"
);
generated!(
    /// Administration of one gateway.
    gateway, "gateway"
);
