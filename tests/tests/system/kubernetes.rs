//! Gateways of clusters whose objects are in an API server.

mod controllers;
mod person;
mod server;
mod source;
