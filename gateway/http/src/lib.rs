//! Delivery of one application connection as HTTP: a reverse proxy between its bytes and an endpoint of the service.
//!
//! Owns HTTP at the destination: the version, hop-by-hop headers, the headers that introduce the caller, the limits of
//! requests, upgrades, and what the client is told when there is no answer of the endpoint. Never decides who may do what
//! ([`Judge`]), which endpoint is dialled ([`Connect`]) or what is written of a request ([`Observe`]). hyper reads and
//! writes the protocol on both sides.
//!
//! ```text
//! serve ── version by the first bytes ── drive ── hyper, client side ── proxy, once for each request
//!   │                                      └── nursery: everything that runs for this connection   │
//!   └── wire: counts, idle limit, time of a head          check ── judge ── prepare ── upstream ── answer
//! ```
//!
//! # What is promised
//!
//! - One caller, one connection to the endpoint. Nothing is pooled across callers, and the endpoint is spoken to in the
//!   version the client speaks: no translation, so nothing is lost or read differently in one.
//! - Every copy of a header that introduces a caller is removed from requests and their trailers, in each spelling that
//!   a CGI-style framework reads as the same name, before ours are set.
//! - A request is framed anew: what the endpoint reads was written by hyper, whatever the client sent. `Content-Length`
//!   beside `Transfer-Encoding` reads as RFC 9112 section 6.1 says: chunked, and the connection ends after the answer.
//!   A line may end in a bare LF (section 2.2), and never does towards the endpoint.
//! - `100 Continue` is sent once the request has been allowed and an endpoint takes its body. Other interim responses are
//!   not passed on.
//! - Everything that runs for a connection runs inside the future of [`serve()`], and ends with it.

mod answer;
mod body;
mod check;
mod destination;
mod drive;
mod exchange;
mod forged;
mod headers;
mod introduction;
mod limits;
mod nursery;
mod proxy;
mod serve;
mod tunnelled;
mod upstream;
mod wire;

pub use destination::{Connect, ConnectError, Judge, Observe, Refused, Ruling};
pub use exchange::Exchange;
pub use introduction::Introduction;
pub use limits::HttpLimits;
pub use serve::{Delivery, Served, serve};

#[cfg(test)]
mod tests;
