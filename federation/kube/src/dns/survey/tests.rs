use super::*;
use crate::dns::Plan;

const CORE: &str = ".:53 {\n    kubernetes cluster.local\n    reload\n}\n";
const AKS: &str = ".:53 {\n    kubernetes cluster.local\n    import custom/*.override\n}\nimport custom/*.server\n";

fn config(name: &str, data: &[(&str, &str)]) -> Config {
    let data = data.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    Config { name: name.to_owned(), version: Some("7".to_owned()), data, ..Config::default() }
}

fn with_core(text: &str) -> Survey {
    Survey { core: Some(config(COREDNS, &[(COREFILE, text)])), custom: Config::missing(CUSTOM), ..Survey::default() }
}

fn zone() -> Zone {
    Zone::default()
}

fn servers() -> Vec<IpAddr> {
    vec!["10.96.7.7".parse().unwrap()]
}

fn install(survey: &Survey, force: bool) -> Vec<Step> {
    survey.plan(&Intent { zone: zone(), action: Action::Install { servers: servers(), force } })
}

fn uninstall(survey: &Survey) -> Vec<Step> {
    survey.plan(&Intent { zone: zone(), action: Action::Uninstall })
}

fn after(step: &Step) -> Option<&str> {
    let Plan::Change { after, .. } = &step.plan else { panic!("{step:?} changes nothing") };
    after.as_deref()
}

fn reason(step: &Step) -> &str {
    let Plan::Refused(refusal) = &step.plan else { panic!("{step:?} is not refused") };
    &refusal.reason
}

fn places(steps: &[Step]) -> Vec<String> {
    steps.iter().map(|step| step.place.to_string()).collect()
}

/// What the cluster is after the steps.
fn done(mut survey: Survey, steps: &[Step]) -> Survey {
    for step in steps {
        let Survey { core, custom, kube_dns, node_local } = &mut survey;
        let mut configs = core.iter_mut().chain([custom]).chain(kube_dns.iter_mut()).chain(node_local.iter_mut());
        let config = configs.find(|config| config.name == step.place.name).unwrap();
        if let Plan::Change { after, .. } = &step.plan {
            config.version = Some("8".to_owned());
            match after {
                Some(text) => drop(config.data.insert(step.place.key.clone(), text.clone())),
                None => drop(config.data.remove(&step.place.key)),
            }
        }
        if let Some((annotation, value)) = &step.annotation {
            match value {
                Some(value) => drop(config.annotations.insert((*annotation).to_owned(), value.clone())),
                None => drop(config.annotations.remove(*annotation)),
            }
        }
    }
    survey
}

fn states(survey: &Survey) -> Vec<State> {
    survey.standing(&zone(), &servers()).into_iter().map(|found| found.state).collect()
}

#[test]
fn the_corefile_is_edited_where_there_is_no_other_way() {
    let survey = with_core(CORE);
    let steps = install(&survey, false);
    assert_eq!(places(&steps), ["ConfigMap kube-system/coredns Corefile"]);
    assert!(after(&steps[0]).unwrap().starts_with(CORE) && steps[0].restart.is_none());
    assert_eq!(states(&survey), [State::Missing]);
    let installed = done(survey.clone(), &steps);
    assert_eq!(states(&installed), [State::Current]);
    assert_eq!(install(&installed, false)[0].plan, Plan::Unchanged);
    assert_eq!(installed.standing(&zone(), &["10.96.0.1".parse().unwrap()])[0].state, State::Outdated);
    assert_eq!(after(&uninstall(&installed)[0]), Some(CORE));
    assert_eq!(uninstall(&survey)[0].plan, Plan::Unchanged);
}

#[test]
fn blocks_of_others_go_into_a_config_map_of_their_own() {
    let survey = with_core(AKS);
    let steps = install(&survey, false);
    assert_eq!(places(&steps), ["ConfigMap kube-system/coredns-custom clusterset.server"]);
    assert!(after(&steps[0]).unwrap().contains("\nclusterset.local:53 {\n"), "{steps:?}");
    assert_eq!(steps[0].base, None, "it is made");
    assert_eq!(steps[0].restart.as_deref(), Some("deployment/coredns"), "nothing follows changes");
    let installed = done(survey, &steps);
    assert_eq!(states(&installed), [State::Current]);
    assert_eq!(install(&installed, false)[0].plan, Plan::Unchanged);
    assert_eq!(after(&uninstall(&installed)[0]), None, "the key goes");
}

#[test]
fn a_block_that_is_in_the_corefile_stays_there_when_custom_ones_are_imported_later() {
    let installed = done(with_core(CORE), &install(&with_core(CORE), false));
    let core = format!("{}import custom/*.server\n", installed.core.unwrap().text(COREFILE));
    assert_eq!(places(&install(&with_core(&core), false)), ["ConfigMap kube-system/coredns Corefile"]);
}

#[test]
fn of_two_blocks_of_ours_the_one_that_is_not_read_goes() {
    let installed = done(with_core(AKS), &install(&with_core(AKS), false));
    let survey = Survey { core: with_core(CORE).core, ..installed };
    assert_eq!(states(&survey), [State::Missing, State::Unused]);
    let steps = install(&survey, false);
    assert!(after(&steps[0]).is_some_and(|text| text.contains("clusterset.local")));
    assert_eq!(after(&steps[1]), None);
    assert_eq!(states(&done(survey, &steps)), [State::Current]);
}

#[test]
fn a_block_beside_a_corefile_that_cannot_be_told_is_left_alone() {
    let installed = done(with_core(AKS), &install(&with_core(AKS), false));
    for fault in ["}\n", "# begin landbridge clusterset.local\n"] {
        let survey = Survey { core: with_core(&format!("{AKS}{fault}")).core, ..installed.clone() };
        assert!(matches!(states(&survey)[..], [State::Unread(_), State::Current]), "{fault}");
        for force in [false, true] {
            let steps = install(&survey, force);
            assert!(matches!(steps[0].plan, Plan::Refused(_)), "{fault}");
            assert_eq!((steps.len(), &steps[1].plan, steps[1].notes.len()), (2, &Plan::Unchanged, 1), "{fault}");
        }
        assert_eq!(after(&uninstall(&survey)[1]), None, "who takes it out may");
    }
    let unread = with_core(".:53 {\n");
    let survey = Survey { core: unread.core, ..installed };
    assert_eq!(install(&survey, false)[1].plan, Plan::Unchanged, "whether it is imported is not known");
}

#[test]
fn a_block_beside_a_corefile_that_has_the_zone_asked_elsewhere_is_the_one_that_counts() {
    let installed = done(with_core(AKS), &install(&with_core(AKS), false));
    let claimed = with_core(&AKS.replacen("    import", "    forward clusterset.local 10.1.1.1\n    import", 1));
    assert!(reason(&install(&claimed, false)[0]).contains("has the zone asked of 10.1.1.1"));
    let survey = Survey { core: claimed.core, ..installed };
    assert_eq!(states(&survey), [State::Current]);
    for force in [false, true] {
        let steps = install(&survey, force);
        assert_eq!(places(&steps), ["ConfigMap kube-system/coredns-custom clusterset.server"]);
        assert_eq!(steps[0].plan, Plan::Unchanged);
    }
}

#[test]
fn a_block_beside_one_of_somebody_else_goes_only_when_that_gives_way() {
    let installed = done(with_core(AKS), &install(&with_core(AKS), false));
    let claimed = with_core(&format!("{AKS}clusterset.local:53 {{\n    forward . 10.1.1.1\n}}\n"));
    let survey = Survey { core: claimed.core, ..installed };
    assert!(matches!(states(&survey)[..], [State::Claimed(_), State::Current]));
    let steps = install(&survey, false);
    assert!(reason(&steps[0]).contains("asks 10.1.1.1"));
    assert_eq!(steps[1].plan, Plan::Unchanged);
    let steps = install(&survey, true);
    assert_eq!(after(&steps[1]), None);
    assert_eq!(states(&done(survey, &steps)), [State::Current]);
}

#[test]
fn another_file_that_serves_the_zone_is_refused_or_stays_where_it_is_right() {
    let other = |address: &str| {
        let text = format!("clusterset.local {{\n    forward . {address}\n    log\n}}\n");
        Survey { custom: config(CUSTOM, &[("mine.server", &text), ("x.override", "log")]), ..with_core(AKS) }
    };
    assert!(
        reason(&install(&other("10.1.1.1"), false)[0])
            .starts_with("mine.server: line 1: a server block that is not ours")
    );
    assert!(
        matches!(install(&other("10.1.1.1"), true)[0].plan, Plan::Refused(_)),
        "two blocks would keep CoreDNS down"
    );
    let right = &install(&other("10.96.7.7:53"), false)[0];
    assert_eq!((&right.plan, right.notes.len()), (&Plan::Unchanged, 1));
}

#[test]
fn a_block_by_hand_that_asks_the_gateways_stays() {
    let survey = with_core("clusterset.local:53 {\n    forward . 10.96.7.7\n}\n");
    assert_eq!((install(&survey, false)[0].plan.clone(), states(&survey)), (Plan::Unchanged, vec![State::Fitting]));
    let wrong = with_core("clusterset.local:53 {\n    forward . 10.96.7.8\n}\n");
    assert!(reason(&install(&wrong, false)[0]).contains("asks 10.96.7.8"));
    assert!(matches!(states(&wrong)[..], [State::Claimed(_)]));
}

#[test]
fn a_coredns_that_answers_itself_is_told_and_left_alone() {
    let survey = with_core(
        ".:53 {\n    kubernetes cluster.local clusterset.local {\n        multicluster clusterset.local\n    }\n}\n",
    );
    assert!(matches!(states(&survey)[..], [State::Itself(_)]));
    assert!(reason(&install(&survey, false)[0]).contains("from ServiceImports"));
    assert_eq!(states(&done(survey.clone(), &install(&survey, true))), [State::Current], "by force");
}

#[test]
fn node_local_is_told_too_and_stub_domains_only_where_no_coredns_is() {
    let node_local = config(NODE_LOCAL, &[(COREFILE, "cluster.local:53 {\n    bind 169.254.20.10\n    reload\n}\n")]);
    let kube_dns = config(KUBE_DNS, &[]);
    let both = Survey { node_local: Some(node_local), kube_dns: Some(kube_dns), ..with_core(CORE) };
    let steps = install(&both, false);
    let expected = ["ConfigMap kube-system/coredns Corefile", "ConfigMap kube-system/node-local-dns Corefile"];
    assert_eq!(places(&steps), expected);
    assert!(
        after(&steps[1]).unwrap().contains("    bind 169.254.20.10\n    forward . 10.96.7.7 {\n        force_tcp\n")
    );
    let alone = Survey { core: None, node_local: None, ..both };
    assert_eq!(places(&install(&alone, false)), ["ConfigMap kube-system/kube-dns stubDomains"]);
}

#[test]
fn stub_domains_of_others_stay_and_ours_is_known_by_its_addresses() {
    let of = |text: &str| Survey {
        kube_dns: Some(config(KUBE_DNS, &[(STUB_DOMAINS, text)])),
        custom: Config::missing(CUSTOM),
        ..Survey::default()
    };
    let survey = of(r#"{"corp.example": ["10.1.1.1"]}"#);
    let installed = done(survey, &install(&of(r#"{"corp.example": ["10.1.1.1"]}"#), false));
    let text = installed.kube_dns.as_ref().unwrap().text(STUB_DOMAINS);
    assert_eq!(text, r#"{"clusterset.local":["10.96.7.7"],"corp.example":["10.1.1.1"]}"#);
    assert_eq!((states(&installed), &install(&installed, false)[0].plan), (vec![State::Current], &Plan::Unchanged));
    assert_eq!(after(&uninstall(&installed)[0]), Some(r#"{"corp.example":["10.1.1.1"]}"#));
    let moved =
        Intent { zone: zone(), action: Action::Install { servers: vec!["10.96.7.9".parse().unwrap()], force: false } };
    assert!(after(&installed.plan(&moved)[0]).unwrap().contains("10.96.7.9"), "ours follows the address");
    let none = done(of(""), &install(&of(""), false));
    assert_eq!(after(&uninstall(&none)[0]), None, "nothing is left to say");

    let theirs = of(r#"{"clusterset.local.": ["10.1.1.1"]}"#);
    assert!(reason(&install(&theirs, false)[0]).ends_with("asked of 10.1.1.1"));
    assert_eq!(uninstall(&theirs)[0].plan, Plan::Unchanged);
    assert_eq!(after(&install(&theirs, true)[0]), Some(r#"{"clusterset.local.":["10.96.7.7"]}"#));
    assert!(reason(&install(&of("[1]"), false)[0]).contains("not a JSON object"));
    assert!(matches!(states(&of("{"))[..], [State::Unread(_)]));
}

#[test]
fn who_may_undo_an_edit_is_told_with_it() {
    for (label, value, told) in [
        ("eks.amazonaws.com/component", "coredns", Some("EKS add-on")),
        ("addonmanager.kubernetes.io/mode", "Reconcile", Some("add-on manager")),
        ("addonmanager.kubernetes.io/mode", "EnsureExists", None),
        ("app.kubernetes.io/managed-by", "Helm", Some("helm upgrade")),
    ] {
        let mut survey = with_core(CORE);
        survey.core.as_mut().unwrap().labels.insert(label.to_owned(), value.to_owned());
        let notes = install(&survey, false)[0].notes.concat();
        assert!(told.map_or(notes.is_empty(), |told| notes.contains(told)), "{label}={value}: {notes}");
    }
}

#[test]
fn a_config_map_that_was_made_for_the_block_goes_with_it() {
    let mut custom = config(CUSTOM, &[(OUR_KEY, after(&install(&with_core(AKS), false)[0]).unwrap())]);
    custom.labels.insert("app.kubernetes.io/part-of".to_owned(), "landbridge".to_owned());
    let survey = Survey { custom: custom.clone(), ..with_core(AKS) };
    assert!(uninstall(&survey)[0].base.as_ref().unwrap().goes);
    custom.data.insert("theirs.server".to_owned(), String::new());
    assert!(!uninstall(&Survey { custom, ..survey })[0].base.as_ref().unwrap().goes, "others have put something in");
}

#[test]
fn servers_are_the_same_in_any_order_and_with_the_port_of_dns() {
    let servers: Vec<IpAddr> = vec!["10.96.7.7".parse().unwrap(), "fd00::53".parse().unwrap()];
    let asked = |words: &[&str]| is_asked(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), &servers);
    assert!(asked(&["fd00::53", "10.96.7.7:53"]) && asked(&["[fd00::53]:53", "10.96.7.7"]));
    assert!(
        !asked(&["10.96.7.7"]) && !asked(&["10.96.7.7:54", "fd00::53"]) && !asked(&[]) && !asked(&["/etc/resolv.conf"])
    );
    assert!(!is_asked(&[], &[]));
}
