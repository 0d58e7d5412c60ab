//! A reader of HTTP/1.1 that knows one way to write a request (RFC 9112), and panics at any other.
//!
//! An end within a request is an end: the gateway broke off.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, copy, sink};

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
}

pub(super) async fn head(io: &mut (impl AsyncBufRead + Unpin)) -> Option<Head> {
    let first = String::from_utf8(line(io).await?).unwrap();
    let [method, target, "HTTP/1.1"] = first.split(' ').collect::<Vec<_>>()[..] else { panic!("{first:?}") };
    assert!(target.starts_with('/') || target == "*", "{first:?}");
    assert!(target.bytes().all(|b| !b.is_ascii_control()), "{first:?}");
    let headers = fields(io).await?;
    Some(Head { method: method.parse().unwrap(), target: target.to_owned(), headers })
}

/// Reads the body of a request to its end; what it gives are the trailers.
pub(super) async fn body(io: &mut (impl AsyncBufRead + Unpin), head: &Head) -> Option<HeaderMap> {
    let values = |name| head.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    match (&values(header::CONTENT_LENGTH)[..], &values(header::TRANSFER_ENCODING)[..]) {
        ([], []) => Some(HeaderMap::new()),
        ([length], []) => {
            assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit), "{head:?}");
            pass_over(io, std::str::from_utf8(length).unwrap().parse().unwrap()).await?;
            Some(HeaderMap::new())
        }
        ([], [b"chunked"]) => chunks(io).await,
        _ => panic!("the body has no one length: {head:?}"),
    }
}

async fn chunks(io: &mut (impl AsyncBufRead + Unpin)) -> Option<HeaderMap> {
    loop {
        let size = String::from_utf8(line(io).await?).unwrap();
        assert!(!size.is_empty() && size.bytes().all(|b| b.is_ascii_hexdigit()), "{size:?}");
        match u64::from_str_radix(&size, 16).unwrap() {
            0 => return fields(io).await,
            size => pass_over(io, size).await?,
        }
        assert_eq!(line(io).await?, b"", "a chunk ends with its size");
    }
}

async fn fields(io: &mut (impl AsyncBufRead + Unpin)) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    loop {
        let line = line(io).await?;
        if line.is_empty() {
            return Some(headers);
        }
        let colon = line.iter().position(|b| *b == b':').unwrap();
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        headers.append(HeaderName::from_bytes(name).unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
}

/// A line without its end; nothing when the connection ends before.
async fn line(io: &mut (impl AsyncBufRead + Unpin)) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    io.read_until(b'\n', &mut line).await.ok()?;
    if line.pop() != Some(b'\n') {
        return None;
    }
    assert_eq!(line.pop(), Some(b'\r'), "a line ends in CRLF");
    assert!(!line.contains(&b'\r') && !line.contains(&0), "{line:?}");
    Some(line)
}

async fn pass_over(io: &mut (impl AsyncBufRead + Unpin), length: u64) -> Option<()> {
    let passed = copy(&mut io.take(length), &mut sink()).await.ok()?;
    (passed == length).then_some(())
}
