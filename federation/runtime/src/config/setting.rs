//! One setting as the struct of a program reads it.
//!
//! Owns what is a valid value for which type, and the words for what is not. A file says what it means by TOML types, so
//! nothing is converted; a variable is text, and becomes what the struct asks for. Never knows where a setting comes from.

use std::fmt;

use config::{Config, File, FileFormat, Map, Value, ValueKind};
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer as _, Unexpected, Visitor,
    value::{StrDeserializer, StringDeserializer},
};

/// The most of a wrong value that is repeated in an error.
const MAX_QUOTED: usize = 80;

/// A value, and whether it is the text of a variable.
#[derive(Debug)]
pub(super) struct Setting {
    kind: ValueKind,
    text: bool,
}

/// Why a setting cannot be read.
#[derive(Debug)]
pub(super) struct SettingError {
    /// The whole key.
    pub(super) key: String,
    /// What is wrong with it.
    pub(super) problem: Problem,
}

/// What is wrong with a setting.
#[derive(Debug)]
pub(super) enum Problem {
    /// Nothing reads this key; these are read at its place.
    Unknown(&'static [&'static str]),
    /// It is not there.
    Missing,
    /// Its value cannot be used.
    Invalid(String),
}

impl SettingError {
    fn invalid(reason: String) -> Self {
        Self { key: String::new(), problem: Problem::Invalid(reason) }
    }

    fn within(self, outer: &str) -> Self {
        let key = match self.key {
            inner if inner.is_empty() => outer.to_owned(),
            inner if inner.starts_with('[') => format!("{outer}{inner}"),
            inner => format!("{outer}.{inner}"),
        };
        Self { key, problem: self.problem }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::Unknown(_) => write!(f, "unknown key `{}`", self.key),
            Problem::Missing => write!(f, "`{}` is missing", self.key),
            Problem::Invalid(reason) => write!(f, "`{}`: {reason}", self.key),
        }
    }
}

impl std::error::Error for SettingError {}

impl de::Error for SettingError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::invalid(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid(format!("it is {}, where {} is expected", Found(found), wanted(expected)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::invalid(format!("{} cannot be chosen; write {}", Found(Unexpected::Str(variant)), choice(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self { key: field.to_owned(), problem: Problem::Unknown(expected) }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { key: field.to_owned(), problem: Problem::Missing }
    }
}

/// `"a", "b" or "c"`.
fn choice(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// A value in words a person who writes TOML knows.
struct Found<'a>(Unexpected<'a>);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => write!(f, "{value}"),
            Unexpected::Unsigned(value) => write!(f, "the number {value}"),
            Unexpected::Signed(value) => write!(f, "the number {value}"),
            Unexpected::Float(value) => write!(f, "the number {value}"),
            Unexpected::Str(text) => match text.char_indices().nth(MAX_QUOTED) {
                None => write!(f, "the text {text:?}"),
                Some((end, _)) => write!(f, "a text that starts with {:?}", &text[..end]),
            },
            Unexpected::Seq => f.write_str("a list"),
            Unexpected::Map => f.write_str("a section"),
            Unexpected::Char(_)
            | Unexpected::Bytes(_)
            | Unexpected::Unit
            | Unexpected::Option
            | Unexpected::NewtypeStruct
            | Unexpected::Enum
            | Unexpected::UnitVariant
            | Unexpected::NewtypeVariant
            | Unexpected::TupleVariant
            | Unexpected::StructVariant
            | Unexpected::Other(_) => write!(f, "{}", self.0),
        }
    }
}

/// What a setting needs, in words a person who writes TOML knows.
fn wanted(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "u8" => whole(0, u8::MAX),
        "u16" => whole(0, u16::MAX),
        "u32" => whole(0, u32::MAX),
        "u64" | "usize" => "a whole number from 0".to_owned(),
        "a nonzero u16" => whole(1, u16::MAX),
        "a nonzero u32" => whole(1, u32::MAX),
        "a boolean" => "true or false".to_owned(),
        "a string" => "a text in quotes".to_owned(),
        "a duration" => "a span of time in quotes, such as \"5s\" or \"2h\",".to_owned(),
        "a sequence" => "a list".to_owned(),
        "socket address" => "an address with a port, such as \"127.0.0.1:15000\",".to_owned(),
        text if text.starts_with("struct ") => "a section with keys".to_owned(),
        _ => expected,
    }
}

fn whole(least: u32, most: impl Into<u32>) -> String {
    format!("a whole number from {least} to {}", most.into())
}

impl Setting {
    /// Reads `T` from everything that was given.
    pub(super) fn read<T: de::DeserializeOwned>(all: Config) -> Result<T, SettingError> {
        T::deserialize(Self { kind: all.cache.kind, text: false })
    }

    /// The text of a variable.
    fn text(&self) -> Option<&str> {
        if let ValueKind::String(text) = &self.kind
            && self.text
        {
            Some(text.trim())
        } else {
            None
        }
    }

    fn parsed<N: std::str::FromStr>(&self) -> Option<N> {
        self.text()?.parse().ok()
    }
}

impl From<Value> for Setting {
    fn from(value: Value) -> Self {
        // The file is read from memory and has no origin; variables are given one.
        Self { text: value.origin().is_some(), kind: value.kind }
    }
}

/// A list written as a TOML array, else with commas.
fn list(text: &str) -> Vec<Value> {
    let array = format!("value = {text}");
    let parsed = Config::builder().add_source(File::from_str(&array, FileFormat::Toml)).build();
    match parsed.and_then(|config| config.get_array("value")) {
        Ok(list) => list,
        Err(_) => text.split(',').map(|part| Value::new(None, part.trim())).collect(),
    }
}

struct Entries {
    entries: std::collections::btree_map::IntoIter<String, Value>,
    current: Option<(String, Value)>,
}

impl From<Map<String, Value>> for Entries {
    fn from(table: Map<String, Value>) -> Self {
        // In the order of keys, so that of several errors the same one is told every time.
        let sorted: std::collections::BTreeMap<_, _> = table.into_iter().collect();
        Self { entries: sorted.into_iter(), current: None }
    }
}

impl<'de> de::MapAccess<'de> for Entries {
    type Error = SettingError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, SettingError> {
        self.current = self.entries.next();
        let Some((key, _)) = &self.current else { return Ok(None) };
        let key: StrDeserializer<'_, SettingError> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, SettingError> {
        match self.current.take() {
            Some((key, value)) => seed.deserialize(Setting::from(value)).map_err(|error| error.within(&key)),
            None => Err(de::Error::custom("its key was not read")),
        }
    }
}

struct Elements {
    elements: std::iter::Enumerate<std::vec::IntoIter<Value>>,
    text: bool,
}

impl<'de> de::SeqAccess<'de> for Elements {
    type Error = SettingError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, SettingError> {
        let Some((index, value)) = self.elements.next() else { return Ok(None) };
        let setting = Setting { kind: value.kind, text: self.text };
        seed.deserialize(setting).map(Some).map_err(|error| error.within(&format!("[{index}]")))
    }
}

/// A number of a variable, where one is asked for.
macro_rules! numbers {
    ($($method:ident: $number:ty => $visit:ident),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingError> {
            match self.parsed::<$number>() {
                Some(number) => visitor.$visit(number),
                None => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Setting {
    type Error = SettingError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingError> {
        match self.kind {
            ValueKind::Nil => visitor.visit_unit(),
            ValueKind::Boolean(value) => visitor.visit_bool(value),
            ValueKind::I64(number) => visitor.visit_i64(number),
            ValueKind::I128(number) => visitor.visit_i128(number),
            ValueKind::U64(number) => visitor.visit_u64(number),
            ValueKind::U128(number) => visitor.visit_u128(number),
            ValueKind::Float(number) => visitor.visit_f64(number),
            ValueKind::String(text) => visitor.visit_string(text),
            ValueKind::Table(table) => visitor.visit_map(Entries::from(table)),
            ValueKind::Array(list) => {
                visitor.visit_seq(Elements { elements: list.into_iter().enumerate(), text: self.text })
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingError> {
        match self.parsed() {
            Some(value) => visitor.visit_bool(value),
            None => self.deserialize_any(visitor),
        }
    }

    numbers! {
        deserialize_i8: i64 => visit_i64,
        deserialize_i16: i64 => visit_i64,
        deserialize_i32: i64 => visit_i64,
        deserialize_i64: i64 => visit_i64,
        deserialize_u8: i64 => visit_i64,
        deserialize_u16: i64 => visit_i64,
        deserialize_u32: i64 => visit_i64,
        deserialize_u64: u64 => visit_u64,
        deserialize_f32: f64 => visit_f64,
        deserialize_f64: f64 => visit_f64,
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingError> {
        match self.text() {
            Some(text) => visitor.visit_seq(Elements { elements: list(text).into_iter().enumerate(), text: true }),
            None => self.deserialize_any(visitor),
        }
    }

    /// TOML has no way to write "nothing": an empty text turns a setting off that may be off.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SettingError> {
        if matches!(&self.kind, ValueKind::Nil) || matches!(&self.kind, ValueKind::String(text) if text.is_empty()) {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SettingError> {
        let found = match self.kind {
            ValueKind::String(word) => {
                let word: StringDeserializer<SettingError> = word.into_deserializer();
                return visitor.visit_enum(word);
            }
            ValueKind::Nil => Unexpected::Unit,
            ValueKind::Boolean(value) => Unexpected::Bool(value),
            ValueKind::I64(number) => Unexpected::Signed(number),
            ValueKind::U64(number) => Unexpected::Unsigned(number),
            ValueKind::Float(number) => Unexpected::Float(number),
            ValueKind::I128(_) | ValueKind::U128(_) => Unexpected::Other("a large number"),
            ValueKind::Table(_) => Unexpected::Map,
            ValueKind::Array(_) => Unexpected::Seq,
        };
        Err(SettingError::invalid(format!("it is {}; write {}", Found(found), choice(variants))))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, SettingError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}
