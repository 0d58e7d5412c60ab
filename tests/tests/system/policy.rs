//! Who may call what, and what whoever may not is told: real gateways, real applications at both ends.

mod attacks;
mod explain;
mod live;
mod load;
mod matrix;
mod trial;
mod wire;
mod world;
