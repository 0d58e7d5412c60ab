//! Whether the peer is there, how far away it is, and what time it has.
//!
//! Owns pings, the lease and the measurements. Never queues more than one ping and one pong, so that a stalled stream costs
//! nothing.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use proto::tunnel::v1::{Ping, Pong};

use super::{SessionConfig, SessionError};

/// The most pings whose answer is still awaited; with the default interval that is a round trip of 8 s.
const MAX_OUTSTANDING: usize = 16;

#[derive(Debug)]
pub(super) struct Liveness {
    ping_interval: Duration,
    lease: Duration,
    give_up: Duration,
    heard: Instant,
    expired: bool,
    next_ping: Instant,
    sequence: u64,
    outstanding: VecDeque<(u64, Instant)>,
    ping: Option<Ping>,
    pong: Option<Pong>,
}

/// What a timeout brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tick {
    Nothing,
    LeaseExpired,
}

/// What a pong tells.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) rtt: Duration,
    /// How far the peer's clock is ahead, in milliseconds.
    pub(super) skew: i64,
}

/// How far the peer's clock is ahead of this side's, in milliseconds.
pub(super) fn clock_skew(peer_millis: u64, own_millis: i128) -> i64 {
    (i128::from(peer_millis) - own_millis).clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

impl Liveness {
    pub(super) fn new(config: &SessionConfig, now: Instant) -> Self {
        Self {
            ping_interval: config.ping_interval,
            lease: config.lease,
            give_up: config.give_up.max(config.lease),
            heard: now,
            expired: false,
            next_ping: now,
            sequence: 0,
            outstanding: VecDeque::new(),
            ping: None,
            pong: None,
        }
    }

    /// The first ping goes out with the next timeout.
    pub(super) fn handle_greeted(&mut self, now: Instant) {
        self.next_ping = now;
    }

    /// Something was heard; whether that restores an expired lease.
    pub(super) fn handle_heard(&mut self, now: Instant) -> bool {
        self.heard = self.heard.max(now);
        std::mem::take(&mut self.expired)
    }

    pub(super) fn handle_ping(&mut self, ping: Ping, wall_millis: u64) {
        self.pong = Some(Pong { sequence: ping.sequence, unix_millis: wall_millis });
    }

    pub(super) fn handle_pong(&mut self, pong: Pong, now: Instant, wall_millis: u64) -> Option<Measured> {
        let at = self.outstanding.iter().position(|(sequence, _)| *sequence == pong.sequence)?;
        let (_, sent) = self.outstanding[at];
        // A stream keeps the order: what was pinged before was passed over by the peer, and is not answered any more.
        self.outstanding.drain(..=at);
        let rtt = now.saturating_duration_since(sent);
        let halfway = i128::from(wall_millis) - (rtt / 2).as_millis() as i128;
        Some(Measured { rtt, skew: clock_skew(pong.unix_millis, halfway) })
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, wall_millis: u64) -> Result<Tick, SessionError> {
        let silent = now.saturating_duration_since(self.heard);
        if silent >= self.give_up {
            return Err(SessionError::Silent { after: silent });
        }
        if now >= self.next_ping {
            self.next_ping = now + self.ping_interval;
            self.queue_ping(now, wall_millis);
        }
        if silent >= self.lease && !self.expired {
            self.expired = true;
            return Ok(Tick::LeaseExpired);
        }
        Ok(Tick::Nothing)
    }

    fn queue_ping(&mut self, now: Instant, wall_millis: u64) {
        self.sequence += 1;
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((self.sequence, now));
        self.ping = Some(Ping { sequence: self.sequence, unix_millis: wall_millis });
    }

    pub(super) fn poll_ping(&mut self) -> Option<Ping> {
        self.ping.take()
    }

    pub(super) fn poll_pong(&mut self) -> Option<Pong> {
        self.pong.take()
    }

    pub(super) fn poll_timeout(&self) -> (Instant, &'static str) {
        let ping = (self.next_ping, "ping the peer");
        let silence = if self.expired {
            (self.heard + self.give_up, "give up on the peer")
        } else {
            (self.heard + self.lease, "expire the peer's lease")
        };
        if silence.0 < ping.0 { silence } else { ping }
    }
}
