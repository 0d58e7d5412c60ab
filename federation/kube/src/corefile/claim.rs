//! Who else serves the zone in a Corefile.
//!
//! Owns what counts as serving it, and whether ours can stand beside that. Never changes a text, nor decides what becomes of it.

use federation_model::sni::Zone;

use super::{Corefile, Found, block::ServerBlock};

/// What serves the zone, or a part of it, and is not ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Claim {
    /// A server block of the zone alone.
    #[error("line {line}: a server block that is not ours serves the zone, and asks {}", asked(servers))]
    Block {
        /// Where it begins.
        line: usize,
        /// Whom it asks.
        servers: Vec<String>,
    },
    /// A server block of several zones, or one that shares its lines.
    #[error("line {line}: a server block that is not ours serves the zone and more: take the zone out of it")]
    Shared {
        /// Where it begins.
        line: usize,
    },
    /// A server block of a part of the zone.
    #[error("line {line}: a server block that is not ours serves {zone}, a part of the zone")]
    Below {
        /// Where it begins.
        line: usize,
        /// The part.
        zone: String,
    },
    /// CoreDNS answers from ServiceImports.
    #[error("line {line}: CoreDNS answers for the zone itself in this block, from ServiceImports (multicluster)")]
    Multicluster {
        /// Where its block begins.
        line: usize,
    },
    /// A directive of a wider block sends questions elsewhere.
    #[error("line {line}: this block has the zone asked of {}", asked(servers))]
    Forward {
        /// Where its block begins.
        line: usize,
        /// Whom it asks.
        servers: Vec<String>,
    },
}

fn asked(servers: &[String]) -> String {
    if servers.is_empty() { "nobody".to_owned() } else { servers.join(" and ") }
}

impl Claim {
    /// Whether CoreDNS would not start with our block beside it.
    #[must_use]
    pub fn collides(&self) -> bool {
        match self {
            Self::Block { .. } | Self::Shared { .. } => true,
            Self::Below { .. } | Self::Multicluster { .. } | Self::Forward { .. } => false,
        }
    }

    /// Whom it asks, as far as that is known.
    #[must_use]
    pub fn servers(&self) -> &[String] {
        match self {
            Self::Block { servers, .. } | Self::Forward { servers, .. } => servers,
            Self::Shared { .. } | Self::Below { .. } | Self::Multicluster { .. } => &[],
        }
    }
}

impl Corefile<'_> {
    /// What else serves the zone; what is in the way of our block before all else.
    pub(super) fn claim(&self, zone: &Zone, ours: Option<&Found<'_>>) -> Option<Claim> {
        let others = || self.blocks.servers.iter().filter(|block| ours.and_then(|found| found.block) != Some(*block));
        let serving = others().find(|block| block.keys.iter().any(|key| key.serves(zone.as_str())));
        let serving = serving.map(|block| {
            let line = block.line;
            match Self::serves_alone(block, zone) && self.lines_of(block).is_some() {
                true => Claim::Block { line, servers: self.forwarded(block) },
                false => Claim::Shared { line },
            }
        });
        serving.or_else(|| others().find_map(|block| self.part(block, zone)))
    }

    fn part(&self, block: &ServerBlock, zone: &Zone) -> Option<Claim> {
        let line = block.line;
        if let Some(key) = block.keys.iter().find(|key| key.is_below(zone.as_str())) {
            return Some(Claim::Below { line, zone: key.zone.clone() });
        }
        let is_zone = |word: &&str| word.strip_suffix('.').unwrap_or(word).eq_ignore_ascii_case(zone.as_str());
        self.blocks.directives(block).into_iter().find_map(|directive| {
            let multicluster = |line: &Vec<&str>| line.first() == Some(&"multicluster") && line.iter().any(is_zone);
            match directive.name() {
                "kubernetes" if directive.lines().iter().any(multicluster) => Some(Claim::Multicluster { line }),
                // The plugin of this name, for a CoreDNS that was built with it.
                "multicluster" if directive.arguments().iter().any(is_zone) => Some(Claim::Multicluster { line }),
                "forward" if directive.arguments().first().is_some_and(is_zone) => {
                    let asked = directive.lines().first().cloned().unwrap_or_default();
                    let servers =
                        asked.into_iter().skip(2).take_while(|word| *word != "{").map(str::to_owned).collect();
                    Some(Claim::Forward { line, servers })
                }
                _ => None,
            }
        })
    }
}
