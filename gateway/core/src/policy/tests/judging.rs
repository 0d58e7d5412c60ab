use federation_model::{
    caller::{Assurance, Caller},
    policy::AuthenticationMode::{Permissive, Strict},
};

use super::{
    super::{Aspect, RefusedBy, TrustDomainAliases, namespace_of},
    written::{
        ALLOW, AUDIT_ALLOW, AUDIT_DENY, CART, DENY, FRONTEND, Written, from, known_at_least, of_namespace, on, proven,
        request, requests, to, vouched, with_call,
    },
};

fn policies() -> Written {
    Written::default()
}

#[test]
fn without_policies_everybody_passes() {
    assert!(policies().admits(&Caller::Unknown, "shop/api"));
}

#[test]
fn an_allow_refuses_everybody_else_to_what_it_selects_and_nothing_elsewhere() {
    let written = policies().policy("shop/a", ALLOW, &[from(&[FRONTEND])], &[on(&["api"], 80)]);
    assert!(written.admits(&vouched(FRONTEND), "shop/api"));
    assert!(!written.admits(&vouched(CART), "shop/api") && !written.admits(&Caller::Unknown, "shop/api"));
    assert!(written.admits(&vouched(CART), "shop/web") && written.admits(&vouched(CART), "other/api"));
    let other_port = policies().policy("shop/a", ALLOW, &[from(&[FRONTEND])], &[on(&["api"], 443)]);
    assert!(!other_port.admits(&vouched(FRONTEND), "shop/api"), "a service is selected on all of its ports");
}

#[test]
fn a_deny_comes_before_every_allow() {
    let written = policies().policy("shop/a", ALLOW, &[], &[]).policy("shop/b", DENY, &[from(&[CART])], &[]);
    assert!(written.admits(&vouched(FRONTEND), "shop/api") && written.admits(&Caller::Unknown, "shop/api"));
    assert!(!written.admits(&vouched(CART), "shop/api"));
}

#[test]
fn the_root_namespace_speaks_for_all_namespaces_and_no_other_does() {
    let root = policies().policy("landbridge-system/a", DENY, &[], &[to(&["shop/api", "web"])]);
    assert!(!root.admits(&vouched(CART), "shop/api") && !root.admits(&vouched(CART), "any/web"));
    assert!(root.admits(&vouched(CART), "any/api"));
    let own = policies().policy("other/a", DENY, &[], &[to(&["shop/api", "web"])]);
    assert!(own.admits(&vouched(CART), "shop/api") && !own.admits(&vouched(CART), "other/web"));
}

#[test]
fn a_caller_that_is_not_known_has_no_principal_no_namespace_and_no_trust_domain() {
    for rule in [from(&["*"]), of_namespace("*")] {
        let written = policies().policy("shop/a", DENY, &[rule], &[]);
        assert!(written.admits(&Caller::Unknown, "shop/api") && !written.admits(&vouched(CART), "shop/api"));
    }
}

#[test]
fn a_namespace_is_read_from_service_accounts_alone() {
    let of = |path: &str| {
        let id = federation_model::spiffe::SpiffeId::new(format!("spiffe://east.example{path}")).unwrap();
        namespace_of(&id).map(str::to_owned)
    };
    assert_eq!(of("/ns/shop/sa/cart").as_deref(), Some("shop"));
    assert_eq!(of("/ns/sa/sa/sa").as_deref(), Some("sa"));
    for other in ["", "/ns/shop", "/ns/shop/sa", "/ns/shop/sa/a/b", "/x/ns/shop/sa/a", "/ns/a/b/sa/c"] {
        assert_eq!(of(other), None, "{other}");
    }
}

#[test]
fn strict_refuses_who_did_not_prove_a_key_and_the_closest_mode_holds() {
    let everywhere = policies().mode("landbridge-system/a", Strict, &[]);
    assert!(!everywhere.admits(&vouched(CART), "shop/api") && everywhere.admits(&proven(CART), "shop/api"));
    let but_shop = everywhere.mode("shop/a", Permissive, &[]);
    assert!(but_shop.admits(&vouched(CART), "shop/api") && !but_shop.admits(&vouched(CART), "other/api"));
    let api = but_shop.mode("landbridge-system/b", Strict, &["shop/api"]);
    assert!(!api.admits(&vouched(CART), "shop/api") && api.admits(&vouched(CART), "shop/web"));
    let both = api.mode("shop/z", Permissive, &["api"]);
    assert!(!both.admits(&vouched(CART), "shop/api"), "of two that are equally close the stricter one holds");
}

#[test]
fn a_policy_that_cannot_be_read_refuses_what_it_selects() {
    let written = policies().policy("shop/a", ALLOW, &[], &[]).broken("shop/b", &["api"]);
    assert!(!written.admits(&proven(FRONTEND), "shop/api") && written.admits(&proven(FRONTEND), "shop/web"));
    let refused = written.judge(&proven(FRONTEND), "shop/api", Aspect::Bytes);
    let text = refused.refusal().unwrap().to_string();
    assert!(text.contains("shop/b") && text.contains("spec.acton is not a field"), "{text}");
}

#[test]
fn rules_about_requests_fail_closed_where_there_are_none() {
    let allow = policies().policy("shop/a", ALLOW, &[], &[requests(&["api"], &["GET"], &[])]);
    let deny = policies().policy("shop/a", DENY, &[], &[requests(&["api"], &["DELETE"], &[])]);
    let frontend = vouched(FRONTEND);
    let judge = |written: &Written, aspect: Aspect<'_>| written.judge(&frontend, "shop/api", aspect).is_allowed();
    assert!(!judge(&allow, Aspect::Bytes) && !judge(&deny, Aspect::Bytes));
    assert!(judge(&allow, Aspect::HttpConnection) && judge(&deny, Aspect::HttpConnection));
    assert!(allow.answers("GET", "/") && !allow.answers("DELETE", "/") && !allow.answers("get", "/"));
    assert!(deny.answers("GET", "/") && !deny.answers("DELETE", "/"));
}

#[test]
fn an_ambiguous_path_is_refused_where_paths_decide_and_left_alone_elsewhere() {
    let by_path = policies().policy("shop/a", DENY, &[], &[requests(&["api"], &[], &["/admin*"])]);
    for path in ["/admin", "/admin/x", "/%61dmin", "/x/../admin", "//admin", "/x/..%2fadmin", ""] {
        assert!(!by_path.answers("GET", path), "{path}");
    }
    assert!(by_path.answers("GET", "/x") && by_path.answers("OPTIONS", "*") && !by_path.answers("GET", "*"));
    let by_method = policies().policy("shop/a", DENY, &[], &[requests(&["api"], &["DELETE"], &[])]);
    assert!(by_method.answers("GET", "/x/../admin"));
    let elsewhere = policies().policy("shop/a", DENY, &[], &[requests(&["web"], &[], &["/admin*"])]);
    assert!(elsewhere.answers("GET", "/x/../admin"));
    let audited = policies().policy("shop/a", AUDIT_DENY, &[], &[requests(&["api"], &[], &["/admin*"])]);
    let judged = audited.judge(&vouched(FRONTEND), "shop/api", request("GET", "/x/../admin"));
    assert!(judged.is_allowed() && judged.audited.len() == 1, "{judged:?}");
}

#[test]
fn an_audit_reports_what_it_would_refuse_and_refuses_nothing() {
    let written = policies()
        .policy("shop/a", AUDIT_ALLOW, &[from(&[FRONTEND])], &[])
        .policy("shop/b", AUDIT_ALLOW, &[from(&[CART])], &[])
        .policy("shop/c", AUDIT_DENY, &[from(&[CART])], &[]);
    let reported = |caller: &Caller| {
        let judged = written.judge(caller, "shop/api", Aspect::Bytes);
        assert!(judged.is_allowed());
        judged.audited.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(reported(&vouched(FRONTEND)), [""; 0]);
    assert_eq!(reported(&vouched(CART)), ["AuthorizationPolicy shop/c from[0]"]);
    assert_eq!(reported(&Caller::Unknown), ["AuthorizationPolicy shop/a", "AuthorizationPolicy shop/b"]);
}

#[test]
fn what_is_refused_already_is_not_reported_by_an_audit() {
    let written = policies().policy("shop/a", DENY, &[], &[]).policy("shop/b", AUDIT_DENY, &[], &[]);
    assert!(written.judge(&vouched(CART), "shop/api", Aspect::Bytes).audited.is_empty());
}

#[test]
fn the_first_policy_by_name_and_therein_the_first_entries_are_named() {
    let two = [from(&[CART]), from(&["spiffe://east.example/*"]), from(&[FRONTEND])];
    let written = policies()
        .policy("shop/c", DENY, &[from(&[FRONTEND])], &[])
        .policy("shop/b", DENY, &two, &[to(&["web"]), to(&["*"]), to(&["api"])])
        .policy("landbridge-system/z", ALLOW, &[], &[]);
    let judged = written.judge(&vouched(FRONTEND), "shop/api", Aspect::Bytes);
    assert_eq!(judged.refusal().unwrap().by.to_string(), "AuthorizationPolicy shop/b from[1] to[1]");
}

#[test]
fn an_alias_stands_for_every_trust_domain_it_is_mapped_to() {
    let domain = |text: &str| federation_model::spiffe::TrustDomain::new(text).unwrap();
    let aliases = [(domain("cluster.local"), [domain("east.example")].into())];
    let aliases = TrustDomainAliases(aliases.into());
    for text in ["cluster.local/ns/shop/sa/frontend", "frontend.shop.serviceaccount.identity.linkerd.cluster.local"] {
        let written = policies().policy("shop/a", ALLOW, &[from(&[text])], &[]);
        let root = super::random::ROOT.parse().unwrap();
        let table = super::super::PolicyTable::compile(&written.0, &root, &aliases);
        let passes =
            |id: &str| with_call(&vouched(id), "shop/api", |call| table.judge(&call, Aspect::Bytes).is_allowed());
        assert!(passes(FRONTEND) && passes("spiffe://cluster.local/ns/shop/sa/frontend"), "{text}");
        assert!(!passes("spiffe://west.example/ns/shop/sa/frontend") && !passes(CART), "{text}");
    }
}

#[test]
fn a_refusal_names_rule_caller_and_assurance_and_says_what_to_do() {
    let cases = [
        (policies().mode("shop/a", Strict, &[]), "PeerAuthentication shop/a", "outbound.mtls_listen"),
        (policies().policy("shop/a", DENY, &[from(&[CART])], &[]), "shop/a from[0]", "narrow from[0]"),
        (policies().policy("shop/a", ALLOW, &[from(&[FRONTEND])], &[]), "AuthorizationPolicy shop/a", CART),
        (
            policies().policy("shop/a", ALLOW, &[], &[on(&[], 443)]),
            "AuthorizationPolicy shop/a",
            "add 80 to to[0].ports",
        ),
        (
            policies().policy("shop/a", ALLOW, &[known_at_least(Assurance::Mtls)], &[]),
            "AuthorizationPolicy shop/a",
            "prove its own key",
        ),
        (
            policies().policy("shop/a", ALLOW, &[], &[requests(&[], &["GET"], &[])]),
            "AuthorizationPolicy shop/a",
            "deliver port 80 of shop/api as http",
        ),
        (
            policies().broken("shop/a", &[]),
            "AuthorizationPolicy shop/a",
            "correct or delete AuthorizationPolicy shop/a",
        ),
    ];
    for (written, rule, remedy) in cases {
        let judged = written.judge(&vouched(CART), "shop/api", Aspect::Bytes);
        let refusal = judged.refusal().unwrap();
        let text = refusal.to_string();
        assert!(text.contains(rule) && text.contains(CART) && text.contains("attested"), "{text}");
        assert!(refusal.remedy().contains(remedy), "{}", refusal.remedy());
    }
}

#[test]
fn of_many_policies_that_miss_a_call_the_nearest_one_is_named() {
    let written = policies()
        .policy("shop/a", ALLOW, &[from(&[FRONTEND])], &[on(&[], 443)])
        .policy("shop/b", ALLOW, &[from(&[FRONTEND])], &[to(&["api"])])
        .policy("shop/c", ALLOW, &[from(&[FRONTEND])], &[on(&[], 443)]);
    let judged = written.judge(&vouched(CART), "shop/api", Aspect::Bytes);
    let by = &judged.refusal().unwrap().by;
    let RefusedBy::NotAllowed { policies: 3, nearest } = by else { panic!("{by:?}") };
    assert_eq!(nearest.policy.name, "b");
}
