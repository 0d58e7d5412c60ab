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
    let found = connect::gateway(target).await?.explain(explain.trace.clone()).await?;
    if found.is_empty() {
        return Err(Failure::because(
            format!("this gateway remembers no connection {}", explain.trace),
            "the gateway of the other cluster, or its access log: a gateway remembers the last few thousand connections, \
             and none of those before its start",
        ));
    }
    let view = StoriesView::from(found);
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(Ending::Done)
}
