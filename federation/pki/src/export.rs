//! An exported audit log: one line of JSON each for the header, the entries and the seal.
//!
//! Owns the form of the lines, and the examination of a file by nothing but itself: which entry was changed, which are
//! missing, whether the end was cut off. Never reads a file, and never decides whether the sealing authority is the right
//! one: that needs something that the file cannot know.
//!
//! ```text
//! {"format":"landbridge-audit/1","store":..,"trust_domain":..,"authority":"SHA256:..","first":1}
//! {"index":1,"at":..,"actor":..,"action":..,"subject":..,"detail":..,"previous":..,"hash":..}      any number of them
//! {"head":{"index":..,"hash":..},"at":..,"certificate":..,"signature":..}
//! ```

use base64::{Engine as _, prelude::BASE64_STANDARD};
use federation_model::{
    audit::{Chain, ChainFault, Entry, Head, Start},
    bundle::Fingerprint,
    spiffe::{TrustDomain, as_text},
    time::Timestamp,
};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    ca::{Authority, CaError},
    seal::{self, SealError, Statement},
};

/// The form of the lines.
const FORMAT: &str = "landbridge-audit/1";
/// The longest line, in bytes: a seal with a certificate of 8 KiB. Entries are below 4 KiB.
pub const MAX_LINE: usize = 16 << 10;
/// The longest name of a store.
const MAX_STORE_ID: usize = 128;

/// What the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The store it belongs to.
    pub store_id: String,
    /// The trust domain of the federation service.
    pub trust_domain: TrustDomain,
    /// The number of the oldest entry that is kept.
    pub first: u64,
}

impl Header {
    /// The first line of the export of this log by `authority`.
    #[must_use]
    pub fn line(&self, authority: &Authority) -> String {
        json(&HeaderLine {
            format: FORMAT.to_owned(),
            store: self.store_id.clone(),
            trust_domain: self.trust_domain.clone(),
            authority: authority.fingerprint().to_string(),
            first: self.first,
        })
    }

    /// The last line: `authority` seals the log up to `head`.
    ///
    /// # Errors
    /// When it cannot sign.
    pub fn seal_line(&self, authority: &Authority, head: Head, at: Timestamp) -> Result<String, CaError> {
        let signature = seal::seal(authority, &self.statement(head, at))?;
        let (certificate, signature) =
            (BASE64_STANDARD.encode(authority.certificate()), BASE64_STANDARD.encode(signature));
        Ok(json(&SealLine { head, at, certificate, signature }))
    }

    fn statement(&self, head: Head, at: Timestamp) -> Statement<'_> {
        Statement { store_id: &self.store_id, trust_domain: &self.trust_domain, first: self.first, head, at }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    format: String,
    store: String,
    #[serde(with = "as_text")]
    trust_domain: TrustDomain,
    authority: String,
    first: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealLine {
    head: Head,
    at: Timestamp,
    /// DER in base64.
    certificate: String,
    /// Base64.
    signature: String,
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("structs of texts and numbers always have a JSON form")
}

/// Reads a line that is written as this module writes it: no byte of it can be changed unnoticed.
fn parsed<T: Serialize + DeserializeOwned>(line: &str) -> Result<T, String> {
    let value: T = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if json(&value) == line { Ok(value) } else { Err("it is written in another way".to_owned()) }
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ExportFault {
    /// It does not begin as an exported log.
    #[error("line 1 is not the header of an exported audit log: {reason}")]
    Header {
        /// Why.
        reason: String,
    },
    /// It was written by another version.
    #[error(
        "the file has the format {found:?}, this program reads {FORMAT:?}: verify it with the version that wrote it"
    )]
    Format {
        /// Its format.
        found: String,
    },
    /// A line is neither an entry nor the seal.
    #[error("line {line} is not an entry: {reason}")]
    NotAnEntry {
        /// Which.
        line: u64,
        /// Why.
        reason: String,
    },
    /// The entries are not a whole log.
    #[error("line {line}: {fault}")]
    Chain {
        /// The line that shows it.
        line: u64,
        /// What is wrong.
        fault: ChainFault,
    },
    /// There is no seal.
    #[error("the file ends before its seal, after {}: the rest was cut off", entry_or_header(*.after))]
    NoSeal {
        /// The number of the last entry; 0 for none.
        after: u64,
    },
    /// The end of the log is missing.
    #[error("{} missing: the seal is over a log that ends with entry {to}", span(*.from, *.to))]
    Cut {
        /// The first missing entry.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// Entries follow the end of the log.
    #[error("{} not covered by the seal: it is over a log that ends with entry {}", span(*.from, *.to), from - 1)]
    Unsealed {
        /// The first such entry.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// The last entry is another one.
    #[error("entry {index} was rewritten: the seal is over another one")]
    Rewritten {
        /// Its number.
        index: u64,
    },
    /// The seal is by another authority than the header says.
    #[error("the header names the authority {header}, and the seal is by {seal}")]
    TwoAuthorities {
        /// In the header.
        header: String,
        /// In the seal.
        seal: Fingerprint,
    },
    /// The seal does not hold.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It is not the log that an earlier export was of.
    #[error("entry {index} is another one than in the earlier export: the log was rewritten")]
    Diverged {
        /// The last entry of the earlier export.
        index: u64,
    },
    /// It ends before an earlier export did.
    #[error("the log ends with entry {to}, and an earlier export with entry {known}: it was shortened")]
    Shortened {
        /// Its last entry.
        to: u64,
        /// That of the earlier export.
        known: u64,
    },
    /// Something follows the seal.
    #[error("line {line} follows the seal: nothing may")]
    AfterSeal {
        /// Which.
        line: u64,
    },
}

fn entry_or_header(after: u64) -> String {
    if after == 0 { "its header".to_owned() } else { format!("entry {after}") }
}

fn span(from: u64, to: u64) -> String {
    if from == to { format!("entry {from} is") } else { format!("entries {from} to {to} are") }
}

/// What a file without a fault says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// What the log is.
    pub header: Header,
    /// How many entries there are.
    pub entries: u64,
    /// The times of the first and of the last entry, when there are any.
    pub between: Option<(Timestamp, Timestamp)>,
    /// The end of the log.
    pub head: Head,
    /// Who sealed it. Whether that is the authority of the federation service is not known from the file.
    pub authority: Fingerprint,
    /// When it was sealed.
    pub sealed_at: Timestamp,
}

/// A file that is being examined, line by line.
#[derive(Debug, Default)]
pub struct Examination {
    lines: u64,
    /// The end of an earlier export.
    known: Option<Head>,
    part: Part,
}

#[derive(Debug, Default)]
enum Part {
    #[default]
    Header,
    Entries(Box<Open>),
    Sealed(Box<Examined>),
}

/// A log without its seal.
#[derive(Debug)]
struct Open {
    header: Header,
    authority: String,
    chain: Chain,
    entries: u64,
    last: Head,
    between: Option<(Timestamp, Timestamp)>,
}

impl Examination {
    /// An examination that also finds out whether the log goes on from the end of an earlier export: the service itself
    /// can seal whatever it likes, and cannot change what somebody has already.
    #[must_use]
    pub fn continuing(known: Head) -> Self {
        Self { known: Some(known), ..Self::default() }
    }

    /// Takes in the next line, without its end.
    ///
    /// # Errors
    /// What is wrong, when this line shows it; the lines after it tell nothing more.
    pub fn line(&mut self, line: &str) -> Result<(), ExportFault> {
        self.lines += 1;
        match &mut self.part {
            Part::Header => self.part = Part::Entries(Box::new(header(line)?)),
            Part::Entries(open) if line.starts_with("{\"head\":") => {
                let not_an_entry = |reason| ExportFault::NotAnEntry { line: self.lines, reason };
                let seal: SealLine = parsed(line).map_err(not_an_entry)?;
                let examined = open.sealed(seal, self.lines)?;
                if let Some(known) = self.known.filter(|known| known.index > examined.head.index) {
                    return Err(ExportFault::Shortened { to: examined.head.index, known: known.index });
                }
                self.part = Part::Sealed(Box::new(examined));
            }
            Part::Entries(open) => {
                open.entry(line, self.lines)?;
                let (index, hash) = (open.last.index, open.last.hash);
                if self.known.is_some_and(|known| known.index == index && known.hash != hash) {
                    return Err(ExportFault::Diverged { index });
                }
            }
            Part::Sealed(_) => return Err(ExportFault::AfterSeal { line: self.lines }),
        }
        Ok(())
    }

    /// The end of the file.
    ///
    /// # Errors
    /// When it should not be the end.
    pub fn finish(self) -> Result<Examined, ExportFault> {
        match self.part {
            Part::Header => Err(ExportFault::Header { reason: "the file is empty".to_owned() }),
            Part::Entries(open) => {
                let after = open.last.index;
                // Entries that are missing in the middle are told first.
                if open.entries > 0 {
                    open.chain.finish().map_err(|fault| ExportFault::Chain { line: self.lines, fault })?;
                }
                Err(ExportFault::NoSeal { after })
            }
            Part::Sealed(examined) => Ok(*examined),
        }
    }
}

fn header(line: &str) -> Result<Open, ExportFault> {
    let unusable = |reason| ExportFault::Header { reason };
    let header: HeaderLine = parsed(line).map_err(unusable)?;
    if header.format != FORMAT {
        return Err(ExportFault::Format { found: header.format.chars().take(80).collect() });
    }
    if header.store.len() > MAX_STORE_ID || header.first == 0 {
        return Err(unusable("its store or its first entry is not usable".to_owned()));
    }
    let chain = Chain::new(Start::of(&header.store, header.first));
    let last = Head::start(&header.store);
    let authority = header.authority;
    let header = Header { store_id: header.store, trust_domain: header.trust_domain, first: header.first };
    Ok(Open { header, authority, chain, entries: 0, last, between: None })
}

impl Open {
    fn entry(&mut self, line: &str, number: u64) -> Result<(), ExportFault> {
        let entry = Entry::from_line(line)
            .map_err(|error| ExportFault::NotAnEntry { line: number, reason: error.to_string() })?;
        self.chain.push(&entry).map_err(|fault| ExportFault::Chain { line: number, fault })?;
        self.entries += 1;
        self.last = entry.head();
        self.between = Some((self.between.map_or(entry.at, |(first, _)| first), entry.at));
        Ok(())
    }

    /// The signature comes before what it says is believed: a forged seal shall not name entries as missing.
    fn sealed(&self, seal: SealLine, line: u64) -> Result<Examined, ExportFault> {
        let unusable = |reason: String| ExportFault::NotAnEntry { line, reason };
        let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|error| unusable(error.to_string()));
        let (certificate, signature) = (CertificateDer::from(decode(&seal.certificate)?), decode(&seal.signature)?);
        let authority = Fingerprint::of(&certificate);
        if authority.to_string() != self.authority {
            let header = self.authority.chars().take(80).collect();
            return Err(ExportFault::TwoAuthorities { header, seal: authority });
        }
        let head = self.chain.clone().finish();
        let head = match head {
            Err(fault) if self.entries > 0 => return Err(ExportFault::Chain { line, fault }),
            head => head.ok(),
        };
        seal::verify(&certificate, &self.header.statement(seal.head, seal.at), &signature)?;
        let end = head.map_or(self.header.first - 1, |head| head.index);
        if end < seal.head.index {
            return Err(ExportFault::Cut { from: end + 1, to: seal.head.index });
        }
        if end > seal.head.index {
            return Err(ExportFault::Unsealed { from: seal.head.index + 1, to: end });
        }
        if head.is_some_and(|head| head.hash != seal.head.hash) {
            return Err(ExportFault::Rewritten { index: end });
        }
        Ok(Examined {
            header: self.header.clone(),
            entries: self.entries,
            between: self.between,
            head: seal.head,
            authority,
            sealed_at: seal.at,
        })
    }
}

#[cfg(test)]
mod tests;
