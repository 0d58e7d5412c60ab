//! What a server block serves: `dns://zone:port`, of which all but the zone may be left out.
//!
//! Owns how a key is written and what it covers. Never judges whose block it is.

/// One key of a server block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// The zone in lower case and without the dot at its end, which makes the root empty.
    pub(super) zone: String,
    /// The port, where a number is written.
    pub(super) port: Option<u16>,
    /// Whether it is DNS over UDP and TCP.
    pub(super) plain: bool,
}

impl Key {
    pub(super) fn of(word: &str) -> Self {
        let (scheme, rest) = word.split_once("://").unwrap_or(("dns", word));
        let (zone, port) = match rest.rsplit_once(':') {
            // A reverse zone may be written as an IPv6 network, whose last part is no port.
            Some((zone, port)) if !port.contains('/') => (zone, port.parse().ok()),
            Some(_) | None => (rest, None),
        };
        let zone = zone.strip_suffix('.').unwrap_or(zone).to_ascii_lowercase();
        Self { zone, port, plain: scheme.eq_ignore_ascii_case("dns") }
    }

    /// Whether it serves the zone over UDP and TCP.
    pub(super) fn serves(&self, zone: &str) -> bool {
        self.plain && self.zone == zone
    }

    /// Whether it serves a part of the zone, and so takes questions from it.
    pub(super) fn is_below(&self, zone: &str) -> bool {
        self.plain && self.zone.strip_suffix(zone).is_some_and(|below| below.ends_with('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_known_in_every_way_it_can_be_written() {
        for word in [
            "clusterset.local",
            "clusterset.local.",
            "clusterset.local:53",
            "dns://ClusterSet.Local.:1053",
            "DNS://clusterset.local",
        ] {
            assert!(Key::of(word).serves("clusterset.local"), "{word}");
        }
        for word in [
            ".",
            ".:53",
            "local:53",
            "svc.clusterset.local",
            "tls://clusterset.local",
            "clusterset.local/8",
            "xclusterset.local",
        ] {
            assert!(!Key::of(word).serves("clusterset.local"), "{word}");
        }
        assert_eq!((Key::of(".:1053").zone, Key::of(".:1053").port), (String::new(), Some(1053)));
        assert_eq!((Key::of("fd00::/64").port, Key::of("a:{$PORT}").port), (None, None));
    }

    #[test]
    fn only_what_lies_in_the_zone_takes_questions_from_it() {
        for (word, below) in [
            ("svc.clusterset.local:53", true),
            ("a.svc.clusterset.local.", true),
            ("clusterset.local", false),
            ("myclusterset.local", false),
            ("local", false),
        ] {
            assert_eq!(Key::of(word).is_below("clusterset.local"), below, "{word}");
        }
    }
}
