//! `serve` between real clients and endpoints, in memory and over sockets.

mod ends;
mod floods;
mod frames;
mod hostile;
mod one;
mod programs;
mod smuggling;
mod stage;
mod two;
mod upgrade;
