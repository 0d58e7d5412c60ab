//! Where one object is parsed from: a document, or an item of a list.
//!
//! Owns how faults of the parsers become reasons on one line, with the path of the field. Never knows what is parsed.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use serde_saphyr::{SnippetMode, UserMessageFormatter};

use super::{Fault, division::Document};

/// The longest reason that is kept, characters: some errors quote what they found.
const MAX_REASON: usize = 400;

/// Where an object is parsed from.
pub(super) trait Source {
    /// Parses it; the fault names no object.
    fn parse<T: DeserializeOwned>(&self) -> Result<T, Fault>;
    /// The line of the file it starts at.
    fn line(&self) -> u32;
    /// Its text, or one of the same meaning.
    fn text(&self) -> String;
    /// A fault of it as a whole.
    fn fault(&self, reason: &str) -> Fault {
        Fault::new(Some(self.line()), shortened(reason))
    }
}

impl Source for Document<'_> {
    fn parse<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        let options = serde_saphyr::options! { with_snippet: false };
        let mut path = String::new();
        let parsed = serde_saphyr::with_deserializer_from_str_with_options(self.text, options, |deserializer| {
            serde_path_to_error::deserialize(deserializer).map_err(|error| {
                path = shown(error.path());
                error.into_inner()
            })
        });
        parsed.map_err(|error| {
            let line = error.location().and_then(|location| u32::try_from(location.line()).ok());
            let rendering = serde_saphyr::render_options! {
                formatter: &UserMessageFormatter,
                snippets: SnippetMode::Off,
                line_offset: u64::from(self.lines_before),
            };
            let line = line.map_or_else(|| self.line(), |line| line.saturating_add(self.lines_before));
            Fault::new(Some(line), shortened(&format!("{path}{}", error.render_with_options(rendering))))
        })
    }

    fn line(&self) -> u32 {
        Document::line(self)
    }

    fn text(&self) -> String {
        self.text.to_owned()
    }
}

/// An item of a list.
pub(super) struct Item {
    pub(super) value: Value,
    pub(super) line: u32,
}

impl Source for Item {
    fn parse<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_path_to_error::deserialize(&self.value)
            .map_err(|error| self.fault(&format!("{}{}", shown(error.path()), error.inner())))
    }

    fn line(&self) -> u32 {
        self.line
    }

    fn text(&self) -> String {
        self.value.to_string()
    }
}

/// Parses text that is part of a document, when that is possible.
pub(super) fn fragment<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { with_snippet: false }).ok()
}

fn shown(path: &serde_path_to_error::Path) -> String {
    if path.iter().next().is_none() { String::new() } else { format!("{path}: ") }
}

/// A reason on one line, within its limit.
fn shortened(reason: &str) -> String {
    let line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
