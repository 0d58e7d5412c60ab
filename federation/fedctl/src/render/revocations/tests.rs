use federation_client::operator::Acknowledgement;
use proto::convert::revocation::Standing;

use super::*;
use crate::tests::{NOW, listing};

const LOOK: Look = Look { now: Timestamp(NOW), color: false };

fn revocation(number: u64, subject: Subject) -> Revocation {
    Revocation {
        id: RevocationId::from_bits(number),
        subject,
        reason: if number == 1 { "key lost".parse().unwrap() } else { "".parse().unwrap() },
        by: "admin".parse().unwrap(),
        at: Timestamp(NOW - 192 * number),
    }
}

fn west() -> TrustDomain {
    TrustDomain::new("west.example").unwrap()
}

fn subjects() -> Vec<Subject> {
    let id = |text: &str| Subject::parse_id(text).unwrap();
    vec![
        id("spiffe://west.example/ns/shop/sa/web"),
        id("spiffe://west.example/ns/shop/*"),
        Subject::Cluster { cluster: "west".parse().unwrap(), trust_domain: west() },
        Subject::Serial { trust_domain: west(), serial: "0a1b2c".parse().unwrap() },
    ]
}

fn all() -> Vec<Revocation> {
    (1..).zip(subjects()).map(|(number, subject)| revocation(number, subject)).collect()
}

fn news(cluster: &str, standing: Standing, acknowledged: u64) -> Acknowledgement {
    let last_seen = Some(Timestamp(NOW - 4)).filter(|_| standing != Standing::Away);
    Acknowledgement { cluster: cluster.parse().unwrap(), standing, acknowledged, last_seen }
}

fn revoked(already: bool, waits: bool, told: &[Acknowledgement]) -> RevokedView {
    let revoked = Revoked { revocation: all().remove(0), revision: 9, already, warnings: Vec::new() };
    let mut view = RevokedView::new(&revoked, waits);
    for news in told {
        view.told.take(news.clone());
    }
    if waits {
        view.told.settle();
    }
    view
}

#[test]
fn what_is_revoked_one_a_line() {
    let all: Vec<_> = all().iter().map(RevocationView::from).collect();
    insta::assert_snapshot!("revocations_table", table(&all, LOOK));
    insta::assert_snapshot!("revocations_json", serde_json::to_string_pretty(&all).unwrap());
    assert_eq!(table(&[], LOOK), "Nothing is revoked.\n");
}

#[test]
fn a_plan_says_what_will_be_cut_and_who_will_not_hear_of_it_now() {
    let plan = |asked| Plan::new(&asked, &listing()).text(LOOK);
    let id = |text: &str| Asked::Subject(Subject::parse_id(text).unwrap());
    let serial = Asked::Subject(subjects().remove(3));
    let plans = [
        plan(Asked::Cluster("west".parse().unwrap())),
        plan(Asked::Cluster("north".parse().unwrap())),
        plan(id("spiffe://west.example/ns/shop/*")),
        plan(id("spiffe://west.example/landbridge/gateway")),
        plan(id("spiffe://wset.example/*")),
        plan(serial),
    ];
    insta::assert_snapshot!("revoke_plans", plans.join("--\n"));
}

#[test]
fn a_revocation_ends_with_who_has_cut_it_off_and_who_has_not() {
    let acknowledged = news("east", Standing::Acknowledged, 9);
    let (away, late) = (news("north", Standing::Away, 3), news("west", Standing::Pending, 8));
    let (gone, cut) = (news("south", Standing::Gone, 3), news("west", Standing::Acknowledged, 9));
    let views = [
        revoked(false, true, &[acknowledged.clone(), late.clone(), cut]),
        revoked(true, true, &[acknowledged.clone(), late, away.clone(), gone]),
        revoked(false, true, &[acknowledged, away]),
        revoked(false, true, &[]),
        revoked(false, false, &[]),
    ];
    assert_eq!(views.each_ref().map(|view| view.told.complete), [true, false, true, true, true]);
    let texts: Vec<_> = views.iter().map(|view| view.text(LOOK)).collect();
    insta::assert_snapshot!("revoked_texts", texts.join("--\n"));
    insta::assert_snapshot!("revoked_json", serde_json::to_string_pretty(&views[1]).unwrap());
}

#[test]
fn news_are_told_once_they_say_something() {
    let mut view = revoked(false, true, &[]).told;
    assert_eq!(view.take(news("west", Standing::Pending, 8)), None);
    assert_eq!(view.take(news("north", Standing::Away, 0)).as_deref(), Some("north is away"));
    assert_eq!(view.waiting(), "waiting for west");
    assert_eq!(view.take(news("west", Standing::Acknowledged, 9)).as_deref(), Some("west has acknowledged"));
}

#[test]
fn lifting_ends_with_who_has_lifted_it_and_the_next_step() {
    let lifted = |number: u64, revocation, told: &[Acknowledgement]| {
        let lifted = Reinstated { revision: 10, revocation };
        let mut view = LiftedView::new(RevocationId::from_bits(number), &lifted, !told.is_empty());
        for news in told {
            view.told.take(news.clone());
        }
        if !told.is_empty() {
            view.told.settle();
        }
        view
    };
    let done = news("east", Standing::Acknowledged, 10);
    let views = [
        lifted(3, Some(all().remove(2)), std::slice::from_ref(&done)),
        lifted(1, Some(all().remove(0)), &[done, news("north", Standing::Away, 3), news("west", Standing::Pending, 8)]),
        lifted(7, None, &[]),
    ];
    assert_eq!(views.each_ref().map(|view| view.told.complete), [true, false, true]);
    insta::assert_snapshot!("lifted_texts", views.each_ref().map(|view| view.text(LOOK)).join("--\n"));
    insta::assert_snapshot!("lifted_json", serde_json::to_string_pretty(&views[1]).unwrap());
}
