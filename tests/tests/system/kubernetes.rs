//! Gateways of clusters whose objects are in an API server.

mod source;
