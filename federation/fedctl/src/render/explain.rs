//! What was decided about connections.

use std::time::Duration;

use proto::gateway::v1::{Step, Story};
use serde::Serialize;

use super::{Look, some, text_of};
use crate::clock;
use federation_model::time::Timestamp;

/// Connections, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StoriesView {
    pub(crate) connections: Vec<StoryView>,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StoryView {
    pub(crate) trace_id: String,
    pub(crate) began: Option<String>,
    /// Nothing as long as it lives.
    pub(crate) outcome: Option<String>,
    pub(crate) remedy: Option<String>,
    pub(crate) steps: Vec<StepView>,
    pub(crate) forgotten: u32,
    #[serde(skip)]
    began_at: Timestamp,
}

/// One step of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StepView {
    pub(crate) after_micros: u64,
    pub(crate) stage: String,
    pub(crate) detail: String,
}

impl From<Vec<Story>> for StoriesView {
    fn from(stories: Vec<Story>) -> Self {
        Self { connections: stories.into_iter().map(StoryView::from).collect() }
    }
}

impl From<Story> for StoryView {
    fn from(story: Story) -> Self {
        let Story { trace_id, began_unix_millis, outcome, remedy, steps, forgotten } = story;
        let began_at = Timestamp(began_unix_millis / 1000);
        Self {
            trace_id,
            began: clock::date(began_at),
            outcome: some(outcome),
            remedy: some(remedy),
            steps: steps.into_iter().map(StepView::from).collect(),
            forgotten,
            began_at,
        }
    }
}

impl From<Step> for StepView {
    fn from(step: Step) -> Self {
        let Step { after_micros, stage, detail } = step;
        Self { after_micros, stage, detail }
    }
}

impl StoriesView {
    pub(crate) fn text(&self, look: Look) -> String {
        let stories: Vec<String> = self.connections.iter().map(|story| story.text(look)).collect();
        stories.join("\n")
    }
}

impl StoryView {
    fn text(&self, look: Look) -> String {
        let state = self.outcome.as_deref().unwrap_or("lives");
        let began = clock::ago(look.now, Some(self.began_at));
        let mut text = format!("connection {}  {state}, began {began} ago\n", self.trace_id);
        let mut table = look.facts();
        for step in &self.steps {
            table.add_row([format!("  +{}", after(step.after_micros)), step.stage.clone(), step.detail.clone()]);
        }
        text.push_str(&text_of(table));
        if self.forgotten > 0 {
            text.push_str(&format!("  {} more steps are not remembered\n", self.forgotten));
        }
        if let Some(remedy) = &self.remedy {
            text.push_str(&format!("  remedy: {remedy}\n"));
        }
        text
    }
}

fn after(micros: u64) -> String {
    match Duration::from_micros(micros) {
        short if short.as_secs() < 10 => clock::rtt(micros),
        long => clock::span(long),
    }
}
