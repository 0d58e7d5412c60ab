//! `fedctl certs`: whose certificate ends when, as the gateway sees the cluster set, and as the federation service says of
//! itself.

use super::look;
use crate::{
    Ending,
    args::Target,
    connect,
    failure::Failure,
    print::Console,
    render::{certificates::CertificatesView, service::ServiceCertificates},
};

pub(super) async fn run(target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let mut view = if connect::wants_gateway(target) {
        CertificatesView::from(connect::gateway(target).await?.certificates().await?)
    } else {
        CertificatesView::default()
    };
    if connect::wants_federation(target) {
        let mut operator = connect::operator(target).await?;
        let listing = operator.members().await?;
        view.extend(ServiceCertificates::new(&listing, operator.credential()).views());
    }
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(if view.is_well(look) { Ending::Done } else { Ending::ChecksFailed })
}
