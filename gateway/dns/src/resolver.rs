//! Whether names of the zone are answered where a resolver of this pod is asked for them.
//!
//! Owns the question, for the record that says which version of the names there is, and which resolver is asked. Never judges
//! what the answer means for anybody.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use federation_model::sni::Zone;
use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use tokio::{net::UdpSocket, time::timeout};

/// The port of DNS.
const PORT: u16 = 53;
/// The most resolvers that are asked, as resolv.conf(5) has it.
const MAX_SERVERS: usize = 3;
/// How long one may take: it is in the same cluster.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often each is asked: a datagram may be lost.
const ROUNDS: usize = 2;
/// The most datagrams that are read for one question: what comes from elsewhere does not count.
const MAX_STRAYS: usize = 16;
/// The longest answer that is read; that of a TXT record is far shorter.
const MAX_ANSWER: usize = 4096;

/// Whom this pod asks for names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolvers(Vec<SocketAddr>);

/// What a resolver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who.
    pub resolver: IpAddr,
    /// What.
    pub said: Said,
}

/// What was said of the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Its names have this version of the schema.
    Version(String),
    /// The zone, or the record, does not exist.
    Nothing,
    /// It cannot be asked now: the code.
    Failure(String),
    /// Nobody answered.
    Silence,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "the names have version {version}"),
            Self::Nothing => f.write_str("there is no such name"),
            Self::Failure(code) => f.write_str(code),
            Self::Silence => f.write_str("no answer"),
        }
    }
}

impl Said {
    /// Whether a client goes on to its next resolver with this.
    fn goes_on(&self) -> bool {
        match self {
            Self::Version(_) | Self::Nothing => false,
            Self::Failure(_) | Self::Silence => true,
        }
    }
}

impl Resolvers {
    /// Those that a resolv.conf names.
    #[must_use]
    pub fn of_file(text: &str) -> Self {
        let named = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
            address.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, PORT))
        });
        Self(named.take(MAX_SERVERS).collect())
    }

    /// These.
    #[must_use]
    pub fn of(servers: &[SocketAddr]) -> Self {
        Self(servers.iter().take(MAX_SERVERS).copied().collect())
    }

    /// Asks for the version of the names of `zone`: one resolver after the other, until one knows, as clients do; nothing where
    /// there is none to ask. Takes six seconds at most.
    pub async fn ask(&self, zone: &Zone) -> Option<Heard> {
        let mut last = None;
        for _ in 0..ROUNDS {
            for server in &self.0 {
                let asked = timeout(PATIENCE, ask(*server, zone)).await;
                let said = asked.ok().and_then(Result::ok).unwrap_or(Said::Silence);
                let heard = Heard { resolver: server.ip(), said };
                if !heard.said.goes_on() {
                    return Some(heard);
                }
                last = Some(heard);
            }
        }
        last
    }
}

async fn ask(server: SocketAddr, zone: &Zone) -> io::Result<Said> {
    let name = Name::from_ascii(format!("dns-version.{zone}.")).map_err(io::Error::other)?;
    let mut question = Message::query();
    question.add_query(Query::query(name, RecordType::TXT));
    question.metadata.recursion_desired = true;
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question.to_vec().map_err(io::Error::other)?).await?;
    let mut buffer = vec![0; MAX_ANSWER];
    for _ in 0..MAX_STRAYS {
        let length = socket.recv(&mut buffer).await?;
        let Ok(answer) = Message::from_vec(&buffer[..length]) else { continue };
        let is_answer = answer.metadata.message_type == MessageType::Response;
        if is_answer && answer.metadata.id == question.metadata.id && answer.queries == question.queries {
            return Ok(said(&answer));
        }
    }
    Ok(Said::Silence)
}

fn said(answer: &Message) -> Said {
    let code = answer.metadata.response_code;
    if code != ResponseCode::NoError && code != ResponseCode::NXDomain {
        return Said::Failure(code.to_string());
    }
    let text = |record: &Record| {
        if let RData::TXT(text) = &record.data { Some(text.to_string()) } else { None }
    };
    answer.answers.iter().find_map(text).map_or(Said::Nothing, Said::Version)
}

#[cfg(test)]
mod tests;
