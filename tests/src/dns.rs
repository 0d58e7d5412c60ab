//! A resolver that is as small as a resolver can be.
//!
//! Owns the encoding of one question and the reading of its answer (RFC 1035 section 4). Independent of the library that the
//! server uses, so that both cannot be wrong in the same way.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long one datagram may take: on loopback it arrives or is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest chain of compression pointers that is followed.
const MAX_POINTERS: usize = 16;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Type {
    /// An IPv4 address.
    A = 1,
    /// The start of authority.
    Soa = 6,
    /// Text.
    Txt = 16,
    /// An IPv6 address.
    Aaaa = 28,
    /// Host and port.
    Srv = 33,
}

/// `NOERROR`
pub const NO_ERROR: u8 = 0;
/// `FORMERR`
pub const FORMAT_ERROR: u8 = 1;
/// `NXDOMAIN`
pub const NO_SUCH_NAME: u8 = 3;
/// `REFUSED`
pub const REFUSED: u8 = 5;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub name: String,
    /// Its type.
    pub kind: u16,
    /// How long it may be kept, seconds.
    pub ttl: u32,
    /// What it says: an address, `priority weight port host`, or the text.
    pub data: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The response code.
    pub code: u8,
    /// Whether the server has the authority.
    pub authoritative: bool,
    /// The records.
    pub records: Vec<Record>,
    /// Records of the authority section.
    pub authority: Vec<Record>,
}

impl Answer {
    /// The addresses in the answer.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let of_address = self.records.iter().filter(|r| r.kind == Type::A as u16 || r.kind == Type::Aaaa as u16);
        of_address.filter_map(|record| record.data.parse().ok()).collect()
    }
}

/// Asks over UDP.
///
/// # Errors
/// When nobody answers, or not in DNS.
pub async fn ask(server: SocketAddr, name: &str, kind: Type) -> io::Result<Answer> {
    read(&exchange(server, &question(name, kind)).await?)
}

/// Asks over TCP.
///
/// # Errors
/// When nobody answers, or not in DNS.
pub async fn ask_over_tcp(server: SocketAddr, name: &str, kind: Type) -> io::Result<Answer> {
    let question = question(name, kind);
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(u16::try_from(question.len()).map_err(io::Error::other)?).await?;
    stream.write_all(&question).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    read(&answer)
}

/// Sends any datagram and waits for one.
///
/// # Errors
/// When nobody answers.
pub async fn exchange(server: SocketAddr, datagram: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((server.ip(), 0)).await?;
    socket.connect(server).await?;
    socket.send(datagram).await?;
    let mut answer = vec![0; 64 * 1024];
    let length = timeout(PATIENCE, socket.recv(&mut answer)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    answer.truncate(length);
    Ok(answer)
}

/// A question as a message.
#[must_use]
pub fn question(name: &str, kind: Type) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&(kind as u16).to_be_bytes());
    message.extend_from_slice(&1_u16.to_be_bytes());
    message
}

/// The response code of a message.
#[must_use]
pub fn code_of(message: &[u8]) -> Option<u8> {
    message.get(3).map(|flags| flags & 0x0f)
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

fn read(message: &[u8]) -> io::Result<Answer> {
    let mut reader = Reader { message, at: 2 };
    let flags = reader.u16()?;
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    for _ in 0..counts[0] {
        reader.name()?;
        reader.at += 4;
    }
    let mut section = |count| (0..count).map(|_| reader.record()).collect::<io::Result<Vec<_>>>();
    let (records, authority) = (section(counts[1])?, section(counts[2])?);
    let code = u8::try_from(flags & 0x0f).unwrap_or(u8::MAX);
    Ok(Answer { code, authoritative: flags & 0x0400 != 0, records, authority })
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> io::Result<&[u8]> {
        let bytes = self.message.get(self.at..self.at + length).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.at += length;
        Ok(bytes)
    }

    fn u8(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from(self.u8()?) << 8 | u16::from(self.u8()?))
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    fn name(&mut self) -> io::Result<String> {
        let (mut labels, mut back, mut pointers) = (Vec::new(), None, 0);
        loop {
            match self.u8()? {
                0 => break,
                high if high & 0xc0 == 0xc0 => {
                    let target = usize::from(high & 0x3f) << 8 | usize::from(self.u8()?);
                    back.get_or_insert(self.at);
                    pointers += 1;
                    if pointers > MAX_POINTERS {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    self.at = target;
                }
                length => labels.push(String::from_utf8_lossy(self.take(length.into())?).into_owned()),
            }
        }
        self.at = back.unwrap_or(self.at);
        Ok(labels.join("."))
    }

    fn record(&mut self) -> io::Result<Record> {
        let name = self.name()?;
        let (kind, _class, ttl, length) = (self.u16()?, self.u16()?, self.u32()?, self.u16()?);
        let end = self.at + usize::from(length);
        let data = self.data(kind, length)?;
        self.at = end;
        Ok(Record { name, kind, ttl, data })
    }

    fn data(&mut self, kind: u16, length: u16) -> io::Result<String> {
        Ok(if kind == Type::A as u16 {
            Ipv4Addr::from_bits(self.u32()?).to_string()
        } else if kind == Type::Aaaa as u16 {
            let bytes: [u8; 16] = self.take(16)?.try_into().map_err(io::Error::other)?;
            Ipv6Addr::from(bytes).to_string()
        } else if kind == Type::Srv as u16 {
            let (priority, weight, port) = (self.u16()?, self.u16()?, self.u16()?);
            format!("{priority} {weight} {port} {}", self.name()?)
        } else if kind == Type::Txt as u16 {
            let length = self.u8()?;
            String::from_utf8_lossy(self.take(length.into())?).into_owned()
        } else {
            format!("{length} bytes")
        })
    }
}
