//! `fedctl bridge`: what `--context` runs in the pod of a program.

use federation_client::{gateway::GatewayClient, operator::OperatorClient};
use tokio::io::{stdin, stdout};

use crate::{
    Ending,
    args::{Target, install::Program},
    bridge::carry,
    connect,
    failure::{Failure, OrHint as _},
};

pub(super) async fn run(to: Program, target: &Target) -> Result<Ending, Failure> {
    let carried = match to {
        Program::Gateway => {
            let gateway = GatewayClient::bridge(connect::socket(target)).await.map_err(connect::gateway_failure)?;
            carry(gateway, stdin(), stdout()).await
        }
        Program::Federation => {
            let (address, credential) = connect::operator_here(target)?;
            let opened = OperatorClient::bridge(std::slice::from_ref(address), credential).await;
            carry(opened.map_err(connect::operator_failure)?, stdin(), stdout()).await
        }
    };
    carried.or_hint("the connection was lost", "the same command again")?;
    Ok(Ending::Done)
}
