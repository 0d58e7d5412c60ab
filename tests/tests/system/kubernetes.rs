//! Gateways of clusters whose objects are in an API server.

mod controllers;
mod dns;
mod server;
mod source;
