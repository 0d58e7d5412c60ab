//! Our server block in the text of a Corefile: whether it is there, and the text with it and without it.
//!
//! Owns the block and the two comments around it. What is not between them stays as it is, byte for byte, and is refused where
//! it stands in the way; never reads or writes an object.
//!
//! ```text
//! text ── token ──> words, comments ── block ──> server blocks ──> Corefile ── install, uninstall ──> text
//! ```
//!
//! A migration of kubeadm writes a Corefile anew and drops every comment. A block that is ours word for word is therefore ours
//! without the comments too.

use std::{net::IpAddr, ops::Range};

use federation_model::sni::Zone;

mod block;
mod claim;
mod key;
mod token;

use block::{Blocks, Directive, ServerBlock};
pub use claim::Claim;
use token::Comment;

/// The port of DNS.
const DNS_PORT: u16 = 53;
/// How long CoreDNS keeps an answer, seconds: no longer than the gateway says by default.
const CACHE: &str = "5";
/// What server blocks of others are read from where this is imported, between two blocks.
const CUSTOM: &str = "custom/*.server";

/// Why a Corefile is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorefileError {
    /// A quote is not closed.
    #[error("line {line}: a quote is not closed")]
    Quote {
        /// Where it begins.
        line: usize,
    },
    /// A brace stands where none can.
    #[error(
        "line {line}: a brace stands where none can be: keys, {{ at the end of their line, one directive a line, }}"
    )]
    Brace {
        /// Where.
        line: usize,
    },
    /// A block has no end.
    #[error("line {line}: the block that begins here is not closed")]
    Unclosed {
        /// Where it begins.
        line: usize,
    },
    /// A block without braces: all that follows belongs to it.
    #[error("line {line}: a server block without braces takes all that follows: put {{ }} around its directives")]
    Unbraced {
        /// Where it begins.
        line: usize,
    },
    /// There is more of it than is gone through.
    #[error(
        "line {line}: with this block there are more than {} directives, those of imported snippets counted",
        block::MAX_DIRECTIVES
    )]
    Directives {
        /// Where the block begins.
        line: usize,
    },
    /// One of the two comments is missing, or they are not around a server block of the zone alone.
    #[error("line {line}: {found}; there must be both comments, around our block alone: mend or remove them")]
    Marker {
        /// Where.
        line: usize,
        /// What is wrong.
        found: &'static str,
    },
    /// Somebody else's.
    #[error(transparent)]
    Claimed(#[from] Claim),
}

/// The block that delegates a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The zone.
    pub zone: Zone,
    /// Who is asked.
    pub servers: Vec<IpAddr>,
    /// Ask over TCP alone, as NodeLocal DNSCache does.
    pub force_tcp: bool,
}

/// Where a CoreDNS listens for the names of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    port: u16,
    bind: Option<String>,
}

/// How it stands with the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody serves it.
    Missing,
    /// Our block is there; these are asked.
    Ours(Vec<String>),
    /// Somebody else serves it.
    Claimed(Claim),
}

/// A Corefile that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corefile<'a> {
    text: &'a str,
    blocks: Blocks,
    comments: Vec<Comment>,
}

/// Our block in the text, whole lines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found<'a> {
    lines: Range<usize>,
    block: Option<&'a ServerBlock>,
}

impl<'a> Corefile<'a> {
    /// Reads the text.
    ///
    /// # Errors
    /// When CoreDNS would not take it, or nothing can be added to it.
    pub fn read(text: &'a str) -> Result<Self, CorefileError> {
        let (tokens, comments) = token::read(text)?;
        Ok(Self { text, blocks: Blocks::read(&tokens)?, comments })
    }

    /// Whether server blocks of others are read from `custom/*.server`.
    #[must_use]
    pub fn imports_custom(&self) -> bool {
        self.blocks.imports.iter().any(|import| import.ends_with(CUSTOM))
    }

    /// Whether CoreDNS follows changes of it.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        let mut directives = self.blocks.servers.iter().flat_map(|block| self.blocks.directives(block));
        directives.any(|directive| directive.name() == "reload")
    }

    /// Where it listens for the names of the cluster.
    #[must_use]
    pub fn listening(&self) -> Listening {
        let servers = &self.blocks.servers;
        let kubernetes = |block: &&ServerBlock| self.directive(block, "kubernetes").is_some();
        let serving = |zone: &'static str| move |block: &&ServerBlock| block.keys.iter().any(|key| key.serves(zone));
        let found = servers.iter().find(kubernetes);
        let found = found.or_else(|| servers.iter().find(serving("cluster.local")));
        let found = found.or_else(|| servers.iter().find(serving("")));
        let Some(block) = found else { return Listening::default() };
        let port = block.keys.iter().find(|key| key.plain).and_then(|key| key.port).unwrap_or(DNS_PORT);
        let bind = self.directive(block, "bind").map(|bind| self.text[bind.span()].to_owned());
        Listening { port, bind }
    }

    fn directive<'b>(&'b self, block: &'b ServerBlock, name: &str) -> Option<&'b Directive> {
        self.blocks.directives(block).into_iter().find(|directive| directive.name() == name)
    }

    /// How it stands with the zone.
    ///
    /// # Errors
    /// When the comments around our block are not as they should be.
    pub fn standing(&self, zone: &Zone) -> Result<Standing, CorefileError> {
        let ours = self.ours(zone)?;
        let claim = self.claim(zone, ours.as_ref());
        Ok(match (ours, claim) {
            // Of two blocks for one zone CoreDNS takes none: it does not start.
            (Some(_), Some(claim)) if claim.collides() => Standing::Claimed(claim),
            (Some(found), _) => Standing::Ours(found.block.map(|block| self.forwarded(block)).unwrap_or_default()),
            (None, Some(claim)) => Standing::Claimed(claim),
            (None, None) => Standing::Missing,
        })
    }

    /// The text with the block, which listens where `listening` says; the same text when it is there already. With `force` also
    /// in place of a block of somebody else that serves the zone alone, and beside whatever else serves it.
    ///
    /// # Errors
    /// When somebody else serves the zone.
    pub fn install(
        &self,
        delegation: &Delegation,
        listening: &Listening,
        force: bool,
    ) -> Result<String, CorefileError> {
        let zone = &delegation.zone;
        let block = delegation.text(listening);
        let ours = self.ours(zone)?;
        let claim = self.claim(zone, ours.as_ref());
        match (ours, claim) {
            (Some(_), Some(claim)) if claim.collides() => Err(claim.into()),
            (Some(found), _) => Ok(self.replaced(&found.lines, &block)),
            (None, None) => Ok(self.appended(&block)),
            (None, Some(claim)) if force && !claim.collides() => Ok(self.appended(&block)),
            (None, Some(claim)) => match self.alone(zone).filter(|_| force) {
                Some(lines) => Ok(self.replaced(&lines, &block)),
                None => Err(claim.into()),
            },
        }
    }

    /// The text without our block; the same text when it is not there.
    ///
    /// # Errors
    /// When the comments around our block are not as they should be.
    pub fn uninstall(&self, zone: &Zone) -> Result<String, CorefileError> {
        let Some(Found { lines, .. }) = self.ours(zone)? else { return Ok(self.text.to_owned()) };
        // At the end of a text whose last line had no end, ours has none either, and the line before it got one.
        let unended = lines.end == self.text.len() && !self.text.ends_with('\n');
        let from = if unended && lines.start > 0 { lines.start - 1 } else { lines.start };
        Ok(format!("{}{}", &self.text[..from], &self.text[lines.end..]))
    }

    fn replaced(&self, lines: &Range<usize>, block: &str) -> String {
        let ended = self.text[lines.clone()].ends_with('\n');
        let end = if ended { "\n" } else { "" };
        format!("{}{block}{end}{}", &self.text[..lines.start], &self.text[lines.end..])
    }

    fn appended(&self, block: &str) -> String {
        match self.text {
            "" => format!("{block}\n"),
            text if text.ends_with('\n') => format!("{text}{block}\n"),
            text => format!("{text}\n{block}"),
        }
    }

    /// The lines of our block.
    fn ours(&self, zone: &Zone) -> Result<Option<Found<'_>>, CorefileError> {
        let Some(lines) = self.marked(zone)? else {
            let block = self.blocks.servers.iter().find(|block| self.is_ours_word_for_word(block, zone));
            return Ok(block.and_then(|block| Some(Found { lines: self.lines_of(block)?, block: Some(block) })));
        };
        let mut between = None;
        for block in &self.blocks.servers {
            let (inside, outside) = (
                lines.start <= block.span.start && block.span.end <= lines.end,
                block.span.end <= lines.start || lines.end <= block.span.start,
            );
            let line = block.line;
            if inside && (between.is_some() || !Self::serves_alone(block, zone)) {
                return Err(CorefileError::Marker { line, found: "a block that is not ours is between our comments" });
            } else if inside {
                between = Some(block);
            } else if !outside {
                return Err(CorefileError::Marker { line, found: "one of our comments is inside a block" });
            }
        }
        Ok(Some(Found { lines, block: between }))
    }

    /// The lines from the first to the second of our comments.
    fn marked(&self, zone: &Zone) -> Result<Option<Range<usize>>, CorefileError> {
        let all = |text: String| self.comments.iter().filter(move |comment| comment.text == text).collect::<Vec<_>>();
        let fault = |comment: &Comment, found| Err(CorefileError::Marker { line: comment.line, found });
        match (all(begin(zone)).as_slice(), all(end(zone)).as_slice()) {
            ([], []) => Ok(None),
            ([begin], [end]) if begin.line < end.line => Ok(Some(begin.span.start..end.span.end)),
            ([begin], []) => fault(begin, "the comment that begins our block, without the one that ends it"),
            ([], [end, ..]) => fault(end, "the comment that ends our block, without the one that begins it"),
            ([_, more, ..], _) | (_, [more, ..]) => fault(more, "our comments are there twice or the wrong way round"),
        }
    }

    fn serves_alone(block: &ServerBlock, zone: &Zone) -> bool {
        matches!(block.keys.as_slice(), [key] if key.serves(zone.as_str()))
    }

    /// Whether it says what our block says and no more.
    fn is_ours_word_for_word(&self, block: &ServerBlock, zone: &Zone) -> bool {
        let says = |directive: &&Directive| match directive.lines().as_slice() {
            [line] => matches!(line.as_slice(), ["errors"] | ["cache", CACHE] | ["forward", ".", _, ..]),
            [first, second, third] => {
                matches!(first.as_slice(), ["forward", ".", _, .., "{"])
                    && second.as_slice() == ["force_tcp"]
                    && third.as_slice() == ["}"]
            }
            _ => false,
        };
        let directives = self.blocks.directives(block);
        let (bound, rest): (Vec<_>, Vec<_>) = directives.into_iter().partition(|directive| directive.name() == "bind");
        let names: Vec<_> = rest.iter().map(|directive| directive.name()).collect();
        Self::serves_alone(block, zone)
            && bound.len() <= 1
            && names == ["errors", "forward", "cache"]
            && rest.iter().all(says)
    }

    /// The block of somebody else that serves the zone and nothing more.
    fn alone(&self, zone: &Zone) -> Option<Range<usize>> {
        let mut serving =
            self.blocks.servers.iter().filter(|block| block.keys.iter().any(|key| key.serves(zone.as_str())));
        let block = serving.next().filter(|block| Self::serves_alone(block, zone))?;
        if serving.next().is_some() { None } else { self.lines_of(block) }
    }

    /// The lines of a block, which shares none with anything.
    fn lines_of(&self, block: &ServerBlock) -> Option<Range<usize>> {
        let start = self.text[..block.span.start].rfind('\n').map_or(0, |newline| newline + 1);
        let rest = &self.text[block.span.end..];
        let end = rest.find('\n').map_or(self.text.len(), |newline| block.span.end + newline + 1);
        let blank = |range: Range<usize>| self.text[range].trim().is_empty();
        (blank(start..block.span.start) && blank(block.span.end..end)).then_some(start..end)
    }

    /// Whom a block asks.
    fn forwarded(&self, block: &ServerBlock) -> Vec<String> {
        let forward = self.directive(block, "forward");
        let words = forward.map(|forward| forward.lines().first().cloned().unwrap_or_default()).unwrap_or_default();
        words.into_iter().skip(2).take_while(|word| *word != "{").map(str::to_owned).collect()
    }
}

impl Default for Listening {
    fn default() -> Self {
        Self { port: DNS_PORT, bind: None }
    }
}

impl Delegation {
    /// The block with the comments around it, without the end of the last line.
    #[must_use]
    pub fn text(&self, listening: &Listening) -> String {
        let Self { zone, servers, force_tcp } = self;
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        let bind = listening.bind.as_ref().map(|bind| format!("    {bind}\n")).unwrap_or_default();
        let options = if *force_tcp { " {\n        force_tcp\n    }" } else { "" };
        format!(
            "{}\n{zone}:{} {{\n    errors\n{bind}    forward . {}{options}\n    cache {CACHE}\n}}\n{}",
            begin(zone),
            listening.port,
            servers.join(" "),
            end(zone)
        )
    }
}

fn begin(zone: &Zone) -> String {
    format!("# begin landbridge {zone}")
}

fn end(zone: &Zone) -> String {
    format!("# end landbridge {zone}")
}

#[cfg(test)]
mod tests;
