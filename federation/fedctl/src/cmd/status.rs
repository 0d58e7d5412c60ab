//! `fedctl status`: the gateway and the federation service as they are.

use super::look;
use crate::{
    Ending,
    args::Target,
    connect,
    failure::Failure,
    print::Console,
    render::{
        foreign::ForeignView,
        members::{self, FederationView},
        status::{self, GatewayView, StatusView},
    },
};

pub(super) async fn run(target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let mut failures = Vec::new();
    let mut view = StatusView { gateway: None, federation: None };
    if connect::wants_gateway(target) {
        match gateway(target).await {
            Ok(gateway) => view.gateway = Some(gateway),
            Err(failure) => failures.push(failure),
        }
    }
    if connect::wants_federation(target) {
        match federation(target).await {
            Ok(federation) => view.federation = Some(federation),
            Err(failure) => failures.push(failure),
        }
    }
    if view.gateway.is_some() || view.federation.is_some() {
        let look = look(console);
        console.answer(&view, || {
            let gateway = view.gateway.as_ref().map(|gateway| status::text(gateway, look));
            let federation = view.federation.as_ref().map(|federation| members::overview(federation, look));
            gateway.into_iter().chain(federation).collect::<Vec<_>>().join("\n")
        });
    }
    // What could be shown was; one failure ends the command, so another one is told here.
    let last = failures.pop();
    failures.iter().for_each(|failure| console.failure(failure));
    last.map_or(Ok(Ending::Done), Err)
}

async fn gateway(target: &Target) -> Result<GatewayView, Failure> {
    Ok(connect::gateway(target).await?.status().await?.into())
}

async fn federation(target: &Target) -> Result<FederationView, Failure> {
    let mut operator = connect::operator(target).await?;
    let view = FederationView::from(operator.members().await?);
    let foreign = operator.foreign().await?.into_iter().map(ForeignView::from).collect();
    Ok(FederationView { foreign, ..view })
}
