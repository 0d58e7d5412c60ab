//! What was decided about connections, as a message.
//!
//! Owns the form. Never decides.

use std::time::{Duration, UNIX_EPOCH};

use proto::gateway::v1 as wire;

use crate::history::{History, Story};

/// How many connections are told of at once: a trace has one at each gateway, a beginning of an id more.
const MAX_STORIES: usize = 16;

/// The connections whose trace id begins with `trace`.
pub(super) fn stories(history: &History, trace: &str) -> Vec<wire::Story> {
    history.find(trace, MAX_STORIES).iter().map(story).collect()
}

fn story(story: &Story) -> wire::Story {
    let began = story.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    let outcome = story.outcome();
    wire::Story {
        trace_id: format!("{:032x}", story.trace.trace_id),
        began_unix_millis: u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
        outcome: outcome.map(|outcome| outcome.label().to_owned()).unwrap_or_default(),
        remedy: story.remedy().to_owned(),
        steps: story.steps.iter().map(|(after, step)| message(*after, step)).collect(),
        forgotten: story.forgotten,
    }
}

fn message(after: Duration, step: &crate::history::Step) -> wire::Step {
    wire::Step {
        after_micros: u64::try_from(after.as_micros()).unwrap_or(u64::MAX),
        stage: step.stage().to_owned(),
        detail: step.to_string(),
    }
}
