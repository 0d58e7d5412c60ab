//! Settings of a program: a TOML file, overridden by environment variables.
//!
//! Owns the layering and the errors: each names the file or the variable, the key and, when one is near, the key that was
//! probably meant. Never knows the settings themselves: the struct with `#[serde(deny_unknown_fields)]` does.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use config::{Config, ConfigError as Cause, File, FileFormat, Value};
use serde::de::DeserializeOwned;

mod setting;

use setting::{Problem, Setting, SettingError};

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
/// A list is given in a variable as `a,b` or as a TOML array. An empty variable counts as unset; an empty text in the file
/// turns an optional setting off.
///
/// # Errors
/// When the file is missing or not TOML, or a key is unknown, missing, given twice or of the wrong type.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    environment: &BTreeMap<String, String>,
) -> Result<T, ConfigError> {
    let layers = Layers { file, variables: variables(environment)? };
    let text = file.map(read).transpose()?.unwrap_or_default();
    Setting::read(layers.read(&text)?).map_err(|error| layers.explain(error))
}

/// Reads the settings from text.
#[cfg(any(test, feature = "reference"))]
pub(crate) fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    let layers = Layers { file: None, variables: BTreeMap::new() };
    Setting::read(layers.read(text)?).map_err(|error| layers.explain(error))
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
fn variables(environment: &BTreeMap<String, String>) -> Result<BTreeMap<String, (String, String)>, ConfigError> {
    let mut variables: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (name, value) in environment.iter().filter(|(name, value)| is_override(name) && !value.is_empty()) {
        let key = name[ENV_PREFIX.len()..].to_ascii_lowercase().replace(ENV_SEPARATOR, ".");
        if let Some((other, _)) = variables.insert(key.clone(), (name.clone(), value.clone())) {
            let reason = format!("environment variable {other} sets the same key; keep one of them");
            return Err(ConfigError::InvalidValue { origin: Origin::Variable(name.clone()), key, reason });
        }
    }
    Ok(variables)
}

/// The file and the variables that override it.
struct Layers<'a> {
    file: Option<&'a Path>,
    variables: BTreeMap<String, (String, String)>,
}

impl Layers<'_> {
    fn read(&self, text: &str) -> Result<Config, ConfigError> {
        let syntax = |cause: Cause| ConfigError::Syntax {
            file: self.file.map(Path::to_owned).unwrap_or_default(),
            reason: cause.to_string().trim_end().to_owned(),
        };
        let mut builder = Config::builder().add_source(File::from_str(text, FileFormat::Toml));
        for (key, (name, value)) in &self.variables {
            let value = Value::new(Some(name), value.as_str());
            builder = builder.set_override(key, value).map_err(|cause| ConfigError::InvalidValue {
                origin: Origin::Variable(name.clone()),
                key: key.clone(),
                reason: format!("the name does not spell a key: {cause}"),
            })?;
        }
        builder.build().map_err(syntax)
    }

    fn explain(&self, SettingError { key, problem }: SettingError) -> ConfigError {
        let origin = self.origin(&key);
        match problem {
            Problem::Unknown(known) => {
                let (place, unknown) = key.rsplit_once('.').map_or(("", key.as_str()), |(place, key)| (place, key));
                let whole = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
                let nearest = nearest(unknown, known).map(whole);
                ConfigError::UnknownKey { origin, nearest, known: known.iter().map(|key| whole(key)).collect(), key }
            }
            Problem::Missing => {
                let variable = format!("{ENV_PREFIX}{}", key.to_ascii_uppercase().replace('.', ENV_SEPARATOR));
                ConfigError::MissingKey { origin, key, variable }
            }
            Problem::Invalid(reason) => ConfigError::InvalidValue { origin, key, reason },
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

fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    // Half of the letters may differ: `advertised` is near `advertise`, `port` is not near `listen`.
    const LIKENESS: f64 = 0.7;
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests;
