//! `fedctl token`: join tokens.

use serde_json::json;

use super::look;
use crate::{
    Ending,
    args::{Format, Target, Token},
    connect,
    failure::Failure,
    print::Console,
    render::tokens::{self, NewTokenView, TokenView},
};

pub(super) async fn run(what: Token, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let mut operator = connect::operator(target).await?;
    let look = look(console);
    match what {
        Token::Create(create) => {
            let revocations = operator.revocations().await?;
            if let Some(warning) = tokens::revoked(&create.cluster, &revocations) {
                console.note(&warning);
            }
            let (token, info) = operator.create_token(&create.cluster, create.ttl).await?;
            let view = NewTokenView::new(&token, info);
            // The token alone is the answer, so that a script can take it as it is.
            if console.format == Format::Table {
                console.note(&view.remarks(look));
            }
            console.answer(&view, || view.token.clone());
        }
        Token::List => {
            let tokens: Vec<_> = operator.tokens().await?.into_iter().map(TokenView::from).collect();
            console.answer(&json!({ "tokens": tokens }), || tokens::table(&tokens, look));
        }
        Token::Revoke { id } => {
            let token = TokenView::from(operator.revoke_token(&id).await?);
            console.answer(&token, || tokens::table(std::slice::from_ref(&token), look));
        }
    }
    Ok(Ending::Done)
}
