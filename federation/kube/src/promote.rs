//! A policy that audits becomes one that decides, in the text of its manifest.
//!
//! Owns the one edit: `action: AUDIT` becomes what `audits:` says, whose line goes. Every other byte stays: comments, order,
//! other documents. Text that cannot be edited so is refused with the reason, never written anew. Never reads or writes a
//! file.

use std::ops::Range;

use federation_model::policy::{Action, Effect, PolicyKey};

use crate::document::{
    self, Kind, Object, Reading,
    division::{Document, split},
};

/// Why a policy is not promoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromoteError {
    /// The file does not define it.
    #[error("there is no AuthorizationPolicy {0} in this file; name the file that defines it")]
    NotFound(PolicyKey),
    /// It is in the file and has a fault.
    #[error("line {line}: AuthorizationPolicy {key} cannot be read: {reason}; mend it first")]
    Unread {
        /// The policy.
        key: PolicyKey,
        /// The line of the file, 0 when all of it is meant.
        line: u32,
        /// What is wrong.
        reason: String,
    },
    /// The file defines it more than once.
    #[error("line {line}: AuthorizationPolicy {key} is defined a second time; remove one of the two")]
    Twice {
        /// The policy.
        key: PolicyKey,
        /// The line of the second definition.
        line: u32,
    },
    /// It decides already.
    #[error("AuthorizationPolicy {key} has the action {} already", effect.label())]
    InForce {
        /// The policy.
        key: PolicyKey,
        /// What it does.
        effect: Effect,
    },
    /// It is an item of a list.
    #[error(
        "line {line}: AuthorizationPolicy {key} is an item of a list; give it a document of its own, or edit it by hand"
    )]
    Listed {
        /// The policy.
        key: PolicyKey,
        /// The line it starts at.
        line: u32,
    },
    /// It is not written one field a line.
    #[error(
        "line {line}: spec of AuthorizationPolicy {key} is not written with action and audits on lines of their own; edit it \
         by hand: action {}, no audits",
        effect.label()
    )]
    Style {
        /// The policy.
        key: PolicyKey,
        /// The line it starts at.
        line: u32,
        /// What it would do.
        effect: Effect,
    },
}

/// The text of a manifest file with the policy `key` in force.
///
/// # Errors
/// When the file does not define it once, as a policy that audits, on lines that can be edited.
pub fn promote(text: &str, key: &PolicyKey) -> Result<String, PromoteError> {
    let before = document::read(text);
    let (line, effect) = audit(&before, key)?;
    let Some(document) = split(text).into_iter().find(|document| document.line() == line) else {
        return Err(PromoteError::Listed { key: key.clone(), line });
    };
    let style = || PromoteError::Style { key: key.clone(), line, effect };
    let edit = Edit::find(&document).ok_or_else(style)?;
    let promoted = edit.applied(text, effect);
    // The lines say what they seem to say only when the text reads accordingly.
    let after = document::read(&promoted);
    if same_but_for(&before, &after, key, effect) { Ok(promoted) } else { Err(style()) }
}

/// Where the policy starts, and what it audits.
fn audit(reading: &Reading, key: &PolicyKey) -> Result<(u32, Effect), PromoteError> {
    let is_meant = |id: &document::ObjectId| {
        id.kind == Kind::AuthorizationPolicy && id.namespace == key.namespace.as_str() && id.name == key.name
    };
    if let Some(fault) = reading.faults.iter().find(|fault| fault.id.as_ref().is_some_and(is_meant)) {
        let (line, reason) = (fault.line.unwrap_or(0), fault.reason.clone());
        return Err(PromoteError::Unread { key: key.clone(), line, reason });
    }
    let mut found = reading.objects.iter().filter_map(|(_, line, object)| match object {
        Object::AuthorizationPolicy(policy) if policy.key == *key => Some((*line, policy.action)),
        Object::AuthorizationPolicy(_)
        | Object::PeerAuthentication(_)
        | Object::Service(_)
        | Object::EndpointSlice(_)
        | Object::Pod(_)
        | Object::ServiceExport(_) => None,
    });
    let (line, action) = found.next().ok_or_else(|| PromoteError::NotFound(key.clone()))?;
    if let Some((line, _)) = found.next() {
        return Err(PromoteError::Twice { key: key.clone(), line });
    }
    match action {
        Action::Audit(effect) => Ok((line, effect)),
        Action::Enforce(effect) => Err(PromoteError::InForce { key: key.clone(), effect }),
    }
}

/// Whether `after` says what `before` says, but that the policy is in force.
fn same_but_for(before: &Reading, after: &Reading, key: &PolicyKey, effect: Effect) -> bool {
    let objects = |reading: &Reading| reading.objects.iter().map(|(_, _, object)| object.clone()).collect::<Vec<_>>();
    let mut expected = objects(before);
    for object in &mut expected {
        if let Object::AuthorizationPolicy(policy) = object
            && policy.key == *key
        {
            policy.action = Action::Enforce(effect);
        }
    }
    expected == objects(after) && before.faults.len() == after.faults.len()
}

/// What of a text is replaced, and what is removed.
#[derive(Debug)]
struct Edit {
    /// The word AUDIT.
    action: Range<usize>,
    /// The line of `audits`, with its end.
    audits: Range<usize>,
}

/// The value that becomes another.
const AUDIT: &str = "AUDIT";

impl Edit {
    /// Finds the lines below `spec:` in a document in block style.
    fn find(document: &Document<'_>) -> Option<Self> {
        let (mut action, mut audits) = (None, None);
        let mut indent = None;
        let mut offset = document.offset;
        let mut in_spec = false;
        for line in document.text.split_inclusive('\n') {
            let start = offset;
            offset += line.len();
            let content = line.trim_start_matches(' ');
            let depth = line.len() - content.len();
            if content.trim().is_empty() || content.starts_with('#') {
                continue;
            }
            if depth == 0 {
                in_spec = content.strip_prefix("spec:").is_some_and(ends);
                continue;
            }
            if !in_spec || depth != *indent.get_or_insert(depth) {
                continue;
            }
            if let Some(rest) = content.strip_prefix("action:") {
                let value = Scalar::parse(rest)?;
                let at = start + depth + "action:".len() + value.offset;
                action = (value.text == AUDIT).then_some(at..at + AUDIT.len());
            } else if let Some(rest) = content.strip_prefix("audits:") {
                Scalar::parse(rest)?;
                audits = Some(start..offset);
            }
        }
        Some(Self { action: action?, audits: audits? })
    }

    fn applied(&self, text: &str, effect: Effect) -> String {
        let (word, line) = (&self.action, &self.audits);
        let label = effect.label();
        if word.end <= line.start {
            [&text[..word.start], label, &text[word.end..line.start], &text[line.end..]].concat()
        } else {
            [&text[..line.start], &text[line.end..word.start], label, &text[word.end..]].concat()
        }
    }
}

/// A word behind a key, quoted or not, with nothing but a comment behind it.
struct Scalar<'a> {
    text: &'a str,
    /// How many bytes precede it.
    offset: usize,
}

impl<'a> Scalar<'a> {
    fn parse(rest: &'a str) -> Option<Self> {
        let value = rest.trim_start_matches([' ', '\t']);
        let lead = rest.len() - value.len();
        if lead == 0 {
            return None;
        }
        let quote = value.chars().next().filter(|c| ['"', '\''].contains(c)).map_or(0, char::len_utf8);
        let body = &value[quote..];
        let length = body.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(body.len());
        let behind = &body[length..];
        let behind = if quote == 0 { behind } else { behind.strip_prefix(&value[..quote])? };
        (length > 0 && ends(behind)).then(|| Self { text: &body[..length], offset: lead + quote })
    }
}

/// Whether nothing follows but a comment.
fn ends(rest: &str) -> bool {
    let behind = rest.trim_start_matches([' ', '\t']);
    behind.trim().is_empty() || (behind.len() < rest.len() && behind.starts_with('#'))
}

#[cfg(test)]
mod tests;
