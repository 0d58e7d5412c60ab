//! Gateways of clusters whose objects are in an API server.

mod controllers;
mod installed;
mod person;
mod server;
mod source;
