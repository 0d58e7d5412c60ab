//! One request of a client, from its head to the head of its response.
//!
//! Owns the order: checked, judged, made ready, sent. Never lets anything of a request reach an endpoint before it is judged.

use std::{convert::Infallible, sync::Arc};

use http::{Method, Request, Response, StatusCode, request::Parts};
use hyper::{
    body::{Body as _, Incoming},
    upgrade::OnUpgrade,
};

use crate::{
    answer::{self, Refusal},
    body::{Answer, Sent, Upload},
    check::{self, Kind},
    destination::{Connect, Judge, Observe},
    exchange::{Desk, Open},
    forged, headers,
    introduction::Stamp,
    nursery::Nursery,
    tunnelled,
    upstream::Upstream,
};

/// What every request of a connection uses.
#[derive(Debug)]
pub(crate) struct Proxy<J, C: Connect, O> {
    pub(crate) judge: J,
    pub(crate) stamp: Stamp,
    pub(crate) upstream: Upstream<C>,
    pub(crate) desk: Arc<Desk<O>>,
    pub(crate) nursery: Nursery,
}

impl<J: Judge, C: Connect, O: Observe> Proxy<J, C, O> {
    /// Answers one request, with what the endpoint says or with why it says nothing.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Answer<O>>, Infallible> {
        let (mut parts, body) = request.into_parts();
        let mut open = Open::begin(&self.desk, &parts, self.stamp.trace_of(&parts.headers));
        let grpc = answer::is_grpc(&parts.headers);
        let client = parts.extensions.remove::<OnUpgrade>();
        let answered = match self.admit(&mut parts, &mut open) {
            Ok(kind) => self.ask(kind, parts, body, &mut open).await,
            Err(refusal) => Err(refusal),
        };
        Ok(match answered {
            Ok((Switch::No, response)) => respond(response, open),
            Ok((Switch::Yes, response)) => self.switch(client, response, open),
            Err(refusal) => answer::refuse(refusal, grpc, open),
        })
    }

    /// Checks and judges a request, and makes its head ready for the endpoint.
    fn admit(&self, parts: &mut Parts, open: &mut Open<O>) -> Result<Kind, Refusal> {
        let kind = check::check(parts)?;
        let method = match kind {
            Kind::Plain | Kind::Upgrade(_) => &parts.method,
            Kind::Tunnel => &Method::GET,
        };
        self.judge.judge(method, parts.uri.path())?;
        open.exchange.admitted = true;
        let upgrade = match &kind {
            Kind::Upgrade(protocol) => Some(protocol),
            Kind::Plain | Kind::Tunnel => None,
        };
        forged::remove(&mut parts.headers);
        headers::prepare_request(&mut parts.headers, upgrade);
        self.stamp.set(&mut parts.headers);
        if parts.version != http::Version::HTTP_2 {
            // What HTTP/1.0 was asked in is asked in the version of this hop (RFC 9110 section 2.5).
            parts.version = http::Version::HTTP_11;
            if let Some(host) = &self.stamp.host {
                headers::default_host(&mut parts.headers, host);
            }
        }
        Ok(kind)
    }

    /// Asks the endpoint.
    async fn ask(
        &self,
        kind: Kind,
        parts: Parts,
        body: Incoming,
        open: &mut Open<O>,
    ) -> Result<(Switch, Response<Incoming>), Refusal> {
        let body = if body.is_end_stream() {
            Sent::nothing()
        } else {
            let upload = Arc::new(Upload::new(parts.version == http::Version::HTTP_2));
            open.uploads(Arc::clone(&upload));
            Sent::body(body, upload)
        };
        let asked = self.upstream.send(Request::from_parts(parts, body)).await;
        let mut response = asked.map_err(|refusal| match open.upload_fault() {
            Some(true) => Refusal::bad(StatusCode::BAD_REQUEST, "the body of the request is malformed"),
            Some(false) => Refusal::gone(),
            None => refusal,
        })?;
        let status = response.status();
        let switch = match (&kind, status) {
            (Kind::Upgrade(_), StatusCode::SWITCHING_PROTOCOLS) | (Kind::Tunnel, StatusCode::OK) => Switch::Yes,
            (Kind::Plain | Kind::Tunnel, StatusCode::SWITCHING_PROTOCOLS) => {
                return Err(Refusal::broken("the endpoint switched protocols unasked"));
            }
            (Kind::Tunnel, other) if other.is_success() => {
                return Err(Refusal::broken("the endpoint took the tunnel with a status other than 200"));
            }
            (Kind::Plain | Kind::Upgrade(_) | Kind::Tunnel, _) => Switch::No,
        };
        headers::prepare_response(status, response.headers_mut());
        open.exchange.status = Some(status);
        Ok((switch, response))
    }

    /// Both ends leave HTTP: their bytes are carried from here on.
    fn switch(&self, client: Option<OnUpgrade>, response: Response<Incoming>, open: Open<O>) -> Response<Answer<O>> {
        let (mut head, _) = response.into_parts();
        let (Some(client), Some(endpoint)) = (client, head.extensions.remove::<OnUpgrade>()) else {
            return answer::refuse(Refusal::broken("the endpoint did not switch protocols"), false, open);
        };
        let carried = tunnelled::carry(client, endpoint, open);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // An HTTP/1.1 connection is nothing but this now, and ends with it.
            let activity = Arc::clone(&self.desk.activity);
            activity.stop_timing_heads();
            activity.leaves_http();
            self.nursery.take_in(async move { activity.end_with(carried.await) });
        } else {
            self.nursery.take_in(async move {
                carried.await;
            });
        }
        Response::from_parts(head, Answer::empty())
    }
}

/// Whether client and endpoint go on in another protocol.
#[derive(Debug, Clone, Copy)]
enum Switch {
    Yes,
    No,
}

fn respond<O: Observe>(response: Response<Incoming>, open: Open<O>) -> Response<Answer<O>> {
    let two = response.version() == http::Version::HTTP_2;
    response.map(|body| Answer::of_endpoint(body, two, open))
}
