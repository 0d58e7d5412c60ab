//! `fedctl certs`: whose certificate ends when, as the gateway sees the cluster set.

use super::look;
use crate::{Ending, args::Target, connect, failure::Failure, print::Console, render::certificates::CertificatesView};

pub(super) async fn run(target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let view = CertificatesView::from(connect::gateway(target).await?.certificates().await?);
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(if view.is_well(look) { Ending::Done } else { Ending::ChecksFailed })
}
