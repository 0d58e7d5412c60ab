use proptest::prelude::*;

use super::*;

fn token() -> JoinToken {
    JoinToken {
        addresses: vec!["federation.example:15010".parse().unwrap(), "[2001:db8::1]:15010".parse().unwrap()],
        pin: Fingerprint::of(b"authority"),
        id: TokenId::random(),
        secret: TokenSecret::random(),
        expires_at: Timestamp(1_700_000_000),
        cluster: "west".parse().unwrap(),
    }
}

fn same(a: &JoinToken, b: &JoinToken) -> bool {
    (&a.addresses, a.pin, a.id, a.expires_at, &a.cluster) == (&b.addresses, b.pin, b.id, b.expires_at, &b.cluster)
        && a.secret.expose() == b.secret.expose()
}

fn fault(text: &str) -> TokenError {
    text.parse::<JoinToken>().unwrap_err()
}

#[test]
fn a_token_survives_its_text_with_white_space_around_it() {
    let token = token();
    let text = token.to_string();
    assert!(text.starts_with("lbj1."), "{text}");
    assert!(same(&token, &format!(" {text}\n").parse().unwrap()));
}

#[test]
fn a_token_cut_short_anywhere_after_its_head_is_called_cut_short() {
    let text = token().to_string();
    for length in "lbj1.".len()..text.len() {
        let error = fault(&text[..length]);
        assert!(matches!(error, TokenError::Truncated { have, want } if have == length && want > have), "{error:?}");
    }
    for length in 0.."lbj1.".len() {
        assert_eq!(fault(&text[..length]), TokenError::NotAToken, "{}", &text[..length]);
    }
}

#[test]
fn any_single_wrong_character_is_called_a_typing_error() {
    let text = token().to_string();
    for position in "lbj1.".len()..text.len() {
        for wrong in ['A', 'b', '7', '_'] {
            let mut changed = text.clone();
            changed.replace_range(position..=position, &wrong.to_string());
            if changed != text {
                assert_eq!(fault(&changed), TokenError::Mistyped, "{wrong} at {position}");
            }
        }
    }
}

#[test]
fn other_versions_other_texts_and_extra_characters_are_told_apart() {
    let text = token().to_string();
    assert_eq!(fault(&text.replacen("lbj1", "lbj2", 1)), TokenError::Version("2".into()));
    assert_eq!(fault("eyJhbGciOi.x"), TokenError::NotAToken);
    assert_eq!(fault("lbjx.AAAA"), TokenError::NotAToken);
    assert_eq!(fault(""), TokenError::NotAToken);
    assert_eq!(fault(&format!("{text}AB")), TokenError::TooLong(2));
    let broken = format!("{} {}", &text[..30], &text[30..]);
    assert_eq!(fault(&broken), TokenError::Character { character: ' ', position: 31 });
    assert_eq!(fault("lbj1.ü"), TokenError::Character { character: 'ü', position: 6 });
}

#[test]
fn a_secret_matches_its_own_hash_alone_and_stays_out_of_debug_output() {
    let (secret, other) = (TokenSecret::random(), TokenSecret::random());
    let hash = SecretHash::from_bytes(*SecretHash::of(&secret).as_bytes());
    assert!(hash.matches(&secret) && !hash.matches(&other));
    assert!(TokenSecret::from_bytes(&secret.expose()[1..]).is_none());
    let token = token();
    let shown = format!("{token:?}");
    assert!(shown.contains("hidden") && !shown.contains(&format!("{:?}", &token.secret.expose()[..4])), "{shown}");
}

#[test]
fn token_ids_survive_their_text_and_nothing_else_parses() {
    let id = TokenId::random();
    assert_eq!(id.to_string().parse::<TokenId>().unwrap(), id);
    for text in ["", "0123456789abcde", "0123456789ABCDEF", "+123456789abcdef", "0123456789abcdef0"] {
        assert!(text.parse::<TokenId>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn every_token_survives_its_text(
        addresses in prop::collection::vec("[a-z]{1,20}(\\.[a-z]{1,20}){0,3}:[1-9][0-9]{0,3}", 1..=MAX_ADDRESSES),
        cluster in "[a-z]{1,63}",
        expires_at in any::<u64>(),
    ) {
        let token = JoinToken {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            cluster: cluster.parse().unwrap(),
            expires_at: Timestamp(expires_at),
            ..token()
        };
        prop_assert!(same(&token, &token.to_string().parse().unwrap()));
    }

    #[test]
    fn parsing_arbitrary_text_never_panics(text in "\\PC*", tail in "[A-Za-z0-9_-]{0,40}") {
        let _ = text.parse::<JoinToken>();
        let _ = format!("lbj1.{tail}").parse::<JoinToken>();
    }
}
