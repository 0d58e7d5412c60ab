//! `fedctl explain`: what was decided about a connection, at each stage, and why.

use super::look;
use crate::{
    Ending,
    args::{Target, policy::Explain},
    connect,
    failure::Failure,
    print::Console,
    render::explain::StoriesView,
};

pub(super) async fn run(explain: Explain, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let (mut found, mut away) = (Vec::new(), None);
    // Each remembers the connections that went through itself.
    for (_, gateway) in connect::gateways(target).await? {
        match gateway {
            Ok(mut gateway) => found.extend(gateway.explain(explain.trace.clone()).await?),
            Err(failure) => away = Some(failure),
        }
    }
    if found.is_empty() {
        if let Some(failure) = away {
            return Err(failure);
        }
        return Err(Failure::because(
            format!("no gateway that was asked remembers a connection {}", explain.trace),
            "the gateway of the other cluster, or its access log: a gateway remembers the last few thousand connections, \
             and none of those before its start",
        ));
    }
    let view = StoriesView::from(found);
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(Ending::Done)
}
