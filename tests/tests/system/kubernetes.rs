//! Gateways of clusters whose objects are in an API server.

mod controllers;
mod dns;
mod installed;
mod person;
mod preflight;
mod server;
mod source;
mod state;
