//! Gateways of clusters whose objects are in an API server.

mod controllers;
mod server;
mod source;
