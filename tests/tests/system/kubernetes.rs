//! Gateways of clusters whose objects are in an API server.

mod controllers;
mod preflight;
mod server;
mod source;
