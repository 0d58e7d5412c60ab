//! Logs, to standard error.
//!
//! Owns their format, their level and the target of the access log. Never decides what is logged.

use std::io::IsTerminal as _;

use serde::Deserialize;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// The target of the access log: one record per connection or request.
pub const ACCESS: &str = "landbridge::access";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Libraries that write a line for every try: who calls them says once what is wrong. They speak when `log.level` names them.
const TALKATIVE: [&str; 2] = ["kube_client", "kube_runtime"];
/// A filter is a handful of directives.
const MAX_DIRECTIVES: usize = 64;

/// Section `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A level, or `level,target=level,...`.
    pub level: String,
    /// How a record is written.
    pub format: LogFormat,
    /// Whether the access log is written.
    pub access: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text, access: true }
    }
}

/// How a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("`log.level` has {directive:?}: write one of {}, or target=level", LEVELS.join(", "))]
    Level {
        /// The part that is wrong.
        directive: String,
    },
    /// More directives than anybody writes.
    #[error("`log.level` has more than {MAX_DIRECTIVES} parts")]
    TooLong,
    /// Logging was started before.
    #[error("logging is already running in this process")]
    Running,
}

/// Starts logging, once per process.
///
/// # Errors
/// When the level is not one, or logging runs already.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = filter(config)?;
    let plain = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let layer = match config.format {
        LogFormat::Text => plain.boxed(),
        LogFormat::Json => plain.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(|_| TelemetryError::Running)
}

fn filter(config: &LogConfig) -> Result<EnvFilter, TelemetryError> {
    let directives: Vec<&str> = config.level.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if directives.len() > MAX_DIRECTIVES {
        return Err(TelemetryError::TooLong);
    }
    for directive in &directives {
        // A bare word that is no level would silently select a target of that name at every level.
        let level = directive.rsplit_once('=').map_or(*directive, |(_, level)| level);
        if !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            return Err(TelemetryError::Level { directive: (*directive).to_owned() });
        }
    }
    let mut text = directives.join(",");
    if !directives.iter().any(|part| part.starts_with(ACCESS)) {
        let level = if config.access { "info" } else { "off" };
        text = format!("{text},{ACCESS}={level}");
    }
    for library in TALKATIVE {
        if !directives.iter().any(|part| part.starts_with(library)) {
            text = format!("{text},{library}=off");
        }
    }
    EnvFilter::builder().parse(&text).map_err(|_| TelemetryError::Level { directive: config.level.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(level: &str, access: bool) -> String {
        filter(&LogConfig { level: level.to_owned(), access, ..LogConfig::default() }).unwrap().to_string()
    }

    #[test]
    fn the_access_log_follows_its_switch_and_not_the_level() {
        assert!(shown("warn", true).contains("landbridge::access=info"));
        assert!(shown("trace", false).contains("landbridge::access=off"));
        assert!(shown("info,landbridge::access=debug", false).contains("landbridge::access=debug"));
    }

    #[test]
    fn a_library_that_repeats_itself_is_heard_when_it_is_named() {
        assert!(shown("debug", true).contains("kube_client=off"));
        assert!(shown("info,kube_client=debug", true).contains("kube_client=debug"));
        assert!(!shown("info,kube_client=debug", true).contains("kube_client=off"));
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_with_the_levels() {
        for level in ["debugg", "info,gateway=loud", "gateway"] {
            let error = filter(&LogConfig { level: level.to_owned(), ..LogConfig::default() }).unwrap_err();
            assert!(error.to_string().contains("off, error, warn, info, debug, trace"), "{error}");
        }
    }
}
