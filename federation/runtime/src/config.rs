//! Settings of a program: a TOML file, overridden by environment variables.
//!
//! Owns the layering and the errors: each names the file or the variable, the key and, when one is near, the key that was
//! probably meant. Never knows the settings themselves: the struct with `#[serde(deny_unknown_fields)]` does.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use config::{Config, ConfigError as Cause, File, FileFormat, Value, ValueKind};
use serde::de::DeserializeOwned;

/// What every variable that overrides a setting starts with.
pub const ENV_PREFIX: &str = "LANDBRIDGE_";
/// Separates the section from the key in the name of a variable.
const ENV_SEPARATOR: &str = "__";
/// The largest file that is read: settings are written by people.
const MAX_FILE: u64 = 1 << 20;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("the configuration file {} does not exist: create it, or name another one with --config FILE", .0.display())]
    Missing(PathBuf),
    /// The file is there and cannot be read.
    #[error("the configuration file {} cannot be read: {error}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML: {reason}", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Line, column and reason, by the parser.
        reason: String,
    },
    /// A key that no setting has.
    #[error("{origin}: unknown key `{key}`{}", Hint(.nearest, .known))]
    UnknownKey {
        /// The file or the environment variable.
        origin: Origin,
        /// The whole key, `section.key`.
        key: String,
        /// The known key nearest to it, if one is near.
        nearest: Option<String>,
        /// Every key that is known at that place.
        known: Vec<String>,
    },
    /// A key whose value is not what the setting needs.
    #[error("{origin}: `{key}` is not valid: {reason}")]
    InvalidValue {
        /// The file or the environment variable.
        origin: Origin,
        /// The whole key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A setting without a default that is not given.
    #[error("{origin}: `{key}` is missing: set it there, or in the environment as {variable}")]
    MissingKey {
        /// Where it is looked for.
        origin: Origin,
        /// The whole key.
        key: String,
        /// The variable that would set it.
        variable: String,
    },
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// No file was given: the built-in defaults.
    Defaults,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Defaults => f.write_str("configuration (no file given)"),
        }
    }
}

struct Hint<'a>(&'a Option<String>, &'a [String]);

impl std::fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0, self.1) {
            (Some(nearest), _) => write!(f, "; did you mean `{nearest}`?"),
            (None, []) => Ok(()),
            (None, known) => write!(f, "; known keys are {}", known.join(", ")),
        }
    }
}

/// The variables of this process that override settings: `LANDBRIDGE_<SECTION>__<KEY>`.
///
/// Variables without `__` are left alone: Kubernetes sets `LANDBRIDGE_GATEWAY_SERVICE_HOST` and the like for Services.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| is_override(name))
        .collect()
}

fn is_override(name: &str) -> bool {
    name.strip_prefix(ENV_PREFIX).is_some_and(|rest| rest.contains(ENV_SEPARATOR))
}

/// Reads the settings from `file`, when there is one, then from `environment` (see [`environment`]).
///
/// A list is given in a variable as `a,b` or as a TOML array. An empty variable counts as unset.
///
/// # Errors
/// When the file is missing or not TOML, or a key is unknown, missing or of the wrong type.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    environment: &BTreeMap<String, String>,
) -> Result<T, ConfigError> {
    let layers = Layers { file, variables: variables(environment) };
    let text = file.map(read).transpose()?.unwrap_or_default();
    let mut lists: Vec<String> = Vec::new();
    loop {
        match layers.read(&text, &lists)?.try_deserialize() {
            Ok(settings) => return Ok(settings),
            // The variables are text; which of them are lists is known from the settings alone, by trying.
            Err(error) => match layers.list_expected(&error).filter(|key| !lists.contains(key)) {
                Some(key) => lists.push(key),
                None => return Err(layers.explain(error)),
            },
        }
    }
}

fn read(file: &Path) -> Result<String, ConfigError> {
    let unreadable = |error: io::Error| {
        let file = file.to_owned();
        if error.kind() == io::ErrorKind::NotFound {
            ConfigError::Missing(file)
        } else {
            ConfigError::Unreadable { file, error }
        }
    };
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_FILE {
        return Err(unreadable(io::Error::other(format!("it has {size} bytes, more than {MAX_FILE}"))));
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

/// `section.key` -> name of the variable and its text.
fn variables(environment: &BTreeMap<String, String>) -> BTreeMap<String, (String, String)> {
    environment
        .iter()
        .filter(|(name, value)| is_override(name) && !value.is_empty())
        .map(|(name, value)| {
            let key = name[ENV_PREFIX.len()..].to_ascii_lowercase().replace(ENV_SEPARATOR, ".");
            (key, (name.clone(), value.clone()))
        })
        .collect()
}

/// The file and the variables that override it.
struct Layers<'a> {
    file: Option<&'a Path>,
    variables: BTreeMap<String, (String, String)>,
}

impl Layers<'_> {
    fn read(&self, text: &str, lists: &[String]) -> Result<Config, ConfigError> {
        let syntax = |cause: Cause| ConfigError::Syntax {
            file: self.file.map(Path::to_owned).unwrap_or_default(),
            reason: cause.to_string().trim_end().to_owned(),
        };
        let mut builder = Config::builder().add_source(File::from_str(text, FileFormat::Toml));
        for (key, (name, value)) in &self.variables {
            let value = if lists.contains(key) { list(value) } else { Value::new(None, value.as_str()) };
            builder = builder.set_override(key, value).map_err(|cause| ConfigError::InvalidValue {
                origin: Origin::Variable(name.clone()),
                key: key.clone(),
                reason: format!("the name does not spell a key: {cause}"),
            })?;
        }
        builder.build().map_err(syntax)
    }

    /// The key of the variable that holds text where the settings want a list.
    fn list_expected(&self, error: &Cause) -> Option<String> {
        let (key, reason) = key_and_reason(error);
        (self.variables.contains_key(&key) && reason.contains("expected a sequence")).then_some(key)
    }

    fn explain(&self, error: Cause) -> ConfigError {
        let (at, reason) = key_and_reason(&error);
        if let Cause::NotFound(_) = error {
            let variable = format!("{ENV_PREFIX}{}", at.to_ascii_uppercase().replace('.', ENV_SEPARATOR));
            return ConfigError::MissingKey { origin: self.origin(&at), key: at, variable };
        }
        let Some((unknown, known)) = unknown_field(&reason) else {
            return ConfigError::InvalidValue { origin: self.origin(&at), key: at, reason };
        };
        let whole = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
        let key = whole(&unknown);
        ConfigError::UnknownKey {
            origin: self.origin(&key),
            nearest: nearest(&unknown, &known).map(|near| whole(&near)),
            known: known.iter().map(|key| whole(key)).collect(),
            key,
        }
    }

    /// Where the value of `key` comes from: a variable that sets it, or one of its parts, goes before the file.
    fn origin(&self, key: &str) -> Origin {
        let below = |candidate: &str| {
            candidate == key
                || candidate.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'))
                || key.strip_prefix(candidate).is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        match (self.variables.iter().find(|(candidate, _)| below(candidate)), self.file) {
            (Some((_, (name, _))), _) => Origin::Variable(name.clone()),
            (None, Some(file)) => Origin::File(file.to_owned()),
            (None, None) => Origin::Defaults,
        }
    }
}

/// A list written as a TOML array, else with commas.
fn list(text: &str) -> Value {
    let array = format!("value = {text}");
    let parsed = Config::builder().add_source(File::from_str(&array, FileFormat::Toml)).build();
    match parsed.and_then(|config| config.get::<Value>("value")) {
        Ok(value) if matches!(value.kind, ValueKind::Array(_)) => value,
        _ => Value::new(None, text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "`config::ConfigError` is non-exhaustive")]
fn key_and_reason(error: &Cause) -> (String, String) {
    match error {
        Cause::At { error, key, .. } => (key.clone().unwrap_or_default(), error.to_string()),
        Cause::Type { unexpected, expected, key, .. } => {
            (key.clone().unwrap_or_default(), format!("invalid type: {unexpected}, expected {expected}"))
        }
        Cause::NotFound(key) => (key.clone(), "it is missing".to_owned()),
        // The rest carry no key.
        other => (String::new(), other.to_string()),
    }
}

/// Reads serde's "unknown field `x`, expected one of `a`, `b`" (or its `expected` with one or two names).
fn unknown_field(reason: &str) -> Option<(String, Vec<String>)> {
    let mut quoted = reason.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2).map(str::to_owned);
    Some((quoted.next()?, quoted.collect()))
}

fn nearest(key: &str, known: &[String]) -> Option<String> {
    // Half of the letters may differ: `advertised` is near `advertise`, `port` is not near `listen`.
    const LIKENESS: f64 = 0.7;
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.clone())
}

#[cfg(test)]
mod tests;
