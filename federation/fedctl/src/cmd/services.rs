//! `fedctl services`: what this gateway serves, and where it is.

use serde_json::json;

use super::look;
use crate::{
    Ending,
    args::Target,
    connect,
    failure::Failure,
    print::Console,
    render::services::{self, ServiceView},
};

pub(super) async fn run(target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let services = connect::gateway(target).await?.services().await?;
    let mut services: Vec<_> = services.into_iter().map(ServiceView::from).collect();
    services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let look = look(console);
    console.answer(&json!({ "services": services }), || services::table(&services, look));
    Ok(Ending::Done)
}
