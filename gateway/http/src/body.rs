//! Bodies on their way: that of the request to the endpoint, that of the response to the client.
//!
//! Owns their counting, and that no trailer introduces a caller. Never holds more than the frame in hand.

use std::{
    io::ErrorKind,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use federation_model::outcome::Outcome;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{destination::Observe, exchange::Open, forged};

/// A body that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// As hyper says.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
    /// Over HTTP/2, a reset with NO_ERROR, which hyper takes for an end. Were it passed on as one, half a body would look whole.
    #[error("the body was given up before its end")]
    Unfinished,
}

impl BodyError {
    /// Whether what came is no body, rather than too little of one. hyper says so by the kind of an I/O error.
    fn is_malformed(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                return matches!(io.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData);
            }
            cause = error.source();
        }
        false
    }
}

/// The next frame of a body. `two` says that it comes over HTTP/2, where an end is only what is marked as one.
fn next(body: &mut Incoming, two: bool, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    Poll::Ready(match ready!(Pin::new(&mut *body).poll_frame(cx)) {
        Some(frame) => Some(frame.map_err(BodyError::Broken)),
        None if two && !body.is_end_stream() => Some(Err(BodyError::Unfinished)),
        None => None,
    })
}

/// What is known of a request's body.
#[derive(Debug)]
pub(crate) struct Upload {
    two: bool,
    bytes: AtomicU64,
    broke: AtomicBool,
    malformed: AtomicBool,
}

impl Upload {
    pub(crate) const fn new(two: bool) -> Self {
        Self { two, bytes: AtomicU64::new(0), broke: AtomicBool::new(false), malformed: AtomicBool::new(false) }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Whether it did not come to its end.
    pub(crate) fn broke(&self) -> bool {
        self.broke.load(Relaxed)
    }

    /// Whether that is because it is not what its framing promised; else the client left.
    pub(crate) fn malformed(&self) -> bool {
        self.malformed.load(Relaxed)
    }
}

/// The body of a request, towards the endpoint; absent when the request has none.
#[derive(Debug)]
pub(crate) struct Sent(Option<(Incoming, Arc<Upload>)>);

impl Sent {
    /// No body.
    pub(crate) const fn nothing() -> Self {
        Self(None)
    }

    pub(crate) const fn body(body: Incoming, upload: Arc<Upload>) -> Self {
        Self(Some((body, upload)))
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some((body, upload)) = &mut self.0 else { return Poll::Ready(None) };
        Poll::Ready(match ready!(next(body, upload.two, cx)) {
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    upload.bytes.fetch_add(data.len() as u64, Relaxed);
                }
                if let Some(trailers) = frame.trailers_mut() {
                    forged::remove(trailers);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                upload.broke.store(true, Relaxed);
                upload.malformed.store(error.is_malformed(), Relaxed);
                Some(Err(error))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}

/// The body of a response, towards the client; with it the exchange ends.
#[derive(Debug)]
pub(crate) struct Answer<O: Observe> {
    content: Content,
    open: Option<Open<O>>,
}

#[derive(Debug)]
enum Content {
    Endpoint { body: Incoming, two: bool },
    Ours(Option<Bytes>),
}

impl<O: Observe> Answer<O> {
    /// What the endpoint answers.
    pub(crate) const fn of_endpoint(body: Incoming, two: bool, open: Open<O>) -> Self {
        Self { content: Content::Endpoint { body, two }, open: Some(open) }
    }

    /// What we answer ourselves; the outcome is known already.
    pub(crate) fn of_ours(text: Bytes, open: Open<O>) -> Self {
        Self { content: Content::Ours((!text.is_empty()).then_some(text)), open: Some(open) }
    }

    /// An answer without a body whose exchange goes on elsewhere.
    pub(crate) const fn empty() -> Self {
        Self { content: Content::Ours(None), open: None }
    }

    fn is_complete(&self) -> bool {
        match &self.content {
            Content::Endpoint { body, .. } => body.is_end_stream(),
            Content::Ours(text) => text.is_none(),
        }
    }
}

impl<O: Observe> Body for Answer<O> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match &mut this.content {
            Content::Ours(text) => text.take().map(|text| Ok(Frame::data(text))),
            Content::Endpoint { body, two } => ready!(next(body, *two, cx)),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(open)) = (frame.data_ref(), &mut this.open) {
                    open.exchange.received += data.len() as u64;
                }
            }
            Some(Err(_)) => {
                // A request that broke off takes the connection to the endpoint along, and that is not the endpoint's doing.
                if let Some(mut open) = this.open.take()
                    && !open.upload_broke()
                {
                    open.breaks();
                }
            }
            None => {
                if let Some(mut open) = this.open.take() {
                    open.ends(Outcome::Completed);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_complete()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Endpoint { body, .. } => body.size_hint(),
            Content::Ours(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}

impl<O: Observe> Drop for Answer<O> {
    fn drop(&mut self) {
        // hyper does not ask for an end that it has been told of.
        if self.is_complete()
            && let Some(open) = &mut self.open
        {
            open.ends(Outcome::Completed);
        }
    }
}
