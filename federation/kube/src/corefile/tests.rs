use proptest::prelude::*;

use super::*;

/// What kubeadm installs.
const KUBEADM: &str = "\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
";

const BLOCK: &str = "\
# begin landbridge clusterset.local
clusterset.local:53 {
    errors
    forward . 10.96.7.7 fd00::7
    cache 5
}
# end landbridge clusterset.local";

fn zone() -> Zone {
    Zone::default()
}

fn delegation() -> Delegation {
    let servers = ["10.96.7.7", "fd00::7"].map(|server| server.parse().unwrap());
    Delegation { zone: zone(), servers: servers.into(), force_tcp: false }
}

fn install_with(text: &str, force: bool) -> Result<String, CorefileError> {
    let corefile = Corefile::read(text)?;
    corefile.install(&delegation(), &corefile.listening(), force)
}

fn install(text: &str) -> Result<String, CorefileError> {
    install_with(text, false)
}

fn uninstall(text: &str) -> Result<String, CorefileError> {
    Corefile::read(text)?.uninstall(&zone())
}

fn standing(text: &str) -> Standing {
    Corefile::read(text).unwrap().standing(&zone()).unwrap()
}

fn refused(text: &str) -> String {
    install(text).unwrap_err().to_string()
}

#[test]
fn the_block_is_added_at_the_end_once_and_taken_out_again() {
    let installed = install(KUBEADM).unwrap();
    assert_eq!(installed, format!("{KUBEADM}{BLOCK}\n"));
    assert_eq!(install(&installed).unwrap(), installed, "the second time changes nothing");
    assert_eq!(standing(&installed), Standing::Ours(vec!["10.96.7.7".to_owned(), "fd00::7".to_owned()]));
    assert_eq!(uninstall(&installed).unwrap(), KUBEADM);
    assert_eq!(uninstall(KUBEADM).unwrap(), KUBEADM);
}

#[test]
fn a_text_without_an_end_of_its_last_line_gets_it_back_so() {
    for text in ["", "\n", ". {\n}", ". {\n}\r\n", ". {\n} # end", "# only a comment"] {
        let installed = install(text).unwrap();
        assert!(installed.contains(BLOCK), "{installed}");
        assert_eq!(uninstall(&installed).unwrap(), text, "{text:?}");
    }
}

#[test]
fn another_address_replaces_ours_where_it_is() {
    let text = format!("a:53 {{\n}}\n{BLOCK}\nb:53 {{\n}}\n").replace("10.96.7.7 fd00::7", "10.0.0.1");
    let installed = install(&text).unwrap();
    assert_eq!(installed, format!("a:53 {{\n}}\n{BLOCK}\nb:53 {{\n}}\n"));
    assert_eq!(uninstall(&installed).unwrap(), "a:53 {\n}\nb:53 {\n}\n");
}

#[test]
fn the_block_listens_where_the_names_of_the_cluster_are_answered() {
    let with = |text: &str| install(text).unwrap();
    assert!(with("dns://.:5353 {\n kubernetes cluster.local\n}\n").contains("clusterset.local:5353 {"));
    assert!(with("tls://.:853 dns://.:1053 {\n kubernetes\n}\n").contains("clusterset.local:1053 {"));
    let snippet = "(here) {\n bind 10.0.0.9 169.254.20.10\n}\nlocal:99 {\n}\n.:53 {\n import here\n kubernetes cluster.local\n}\n";
    assert!(with(snippet).contains("clusterset.local:53 {\n    errors\n    bind 10.0.0.9 169.254.20.10\n    forward"));
    assert!(with(". {\n bind lo {\n  except ::1\n }\n}\n").contains("    bind lo {\n  except ::1\n }\n    forward"));
}

#[test]
fn node_local_is_asked_over_tcp_on_the_addresses_of_its_block() {
    let text = "\
cluster.local:53 {
    errors
    bind 169.254.20.10 10.96.0.10
    forward . __PILLAR__CLUSTER__DNS__ {
        force_tcp
    }
    }
.:53 {
    bind 169.254.20.10 10.96.0.10
    forward . __PILLAR__UPSTREAM__SERVERS__
    }
";
    let corefile = Corefile::read(text).unwrap();
    let delegation = Delegation { force_tcp: true, ..delegation() };
    let installed = corefile.install(&delegation, &corefile.listening(), false).unwrap();
    let block = "    bind 169.254.20.10 10.96.0.10\n    forward . 10.96.7.7 fd00::7 {\n        force_tcp\n    }\n    cache 5\n}\n";
    assert!(installed.contains(block), "{installed}");
    assert_eq!(uninstall(&installed).unwrap(), text);
}

#[test]
fn a_block_of_somebody_else_is_refused_with_its_line_and_replaced_by_force() {
    for key in [
        "clusterset.local",
        "clusterset.local.",
        "clusterset.local:53",
        "dns://clusterset.local:53",
        "ClusterSet.Local",
    ] {
        let text = format!("# lighthouse\n{key} {{\n    forward . 10.1.2.3\n}}\n{KUBEADM}");
        let expected = "line 2: a server block that is not ours serves the zone, and asks 10.1.2.3";
        assert_eq!(refused(&text), expected);
        assert_eq!(install_with(&text, true).unwrap(), format!("# lighthouse\n{BLOCK}\n{KUBEADM}"));
        assert_eq!(uninstall(&text).unwrap(), text, "what is not ours stays");
    }
}

#[test]
fn a_block_of_several_zones_is_never_edited() {
    for keys in
        ["example.com, clusterset.local:53", "example.com,\nclusterset.local", "clusterset.local clusterset.local:1053"]
    {
        let text = format!("{keys} {{\n    forward . 10.1.2.3\n}}\n");
        assert!(refused(&text).ends_with("serves the zone and more: take the zone out of it"));
        assert!(
            install_with(&text, true).is_err(),
            "by force neither: two blocks of one zone keep CoreDNS from starting"
        );
    }
}

#[test]
fn the_plugin_of_coredns_and_parts_of_the_zone_are_told_and_by_force_stand_beside_ours() {
    let multicluster =
        ".:53 {\n    kubernetes cluster.local clusterset.local {\n        multicluster clusterset.local.\n    }\n}\n";
    assert!(refused(multicluster).contains("CoreDNS answers for the zone itself in this block, from ServiceImports"));
    let below = "shop.svc.clusterset.local:53 {\n    forward . 10.1.2.3\n}\n";
    assert!(refused(below).contains("serves shop.svc.clusterset.local, a part of the zone"));
    let forward = ".:53 {\n    forward clusterset.local 10.1.2.3 {\n        force_tcp\n    }\n}\n";
    assert_eq!(refused(forward), "line 1: this block has the zone asked of 10.1.2.3");
    let external = ".:53 {\n    multicluster clusterset.local\n}\n";
    for text in [multicluster, external, below, forward] {
        let installed = install_with(text, true).unwrap();
        assert_eq!(installed, format!("{text}{BLOCK}\n"));
        assert_eq!(install(&installed).unwrap(), installed, "ours is there, and stays without force");
        assert_eq!(uninstall(&installed).unwrap(), text);
    }
}

#[test]
fn other_transports_and_wider_zones_are_in_nobodys_way() {
    for key in ["tls://clusterset.local", "local:53", ".:53", "notclusterset.local"] {
        let text = format!("{key} {{\n    errors\n}}\n");
        assert_eq!(standing(&text), Standing::Missing, "{key}");
        assert!(install(&text).is_ok(), "{key}");
    }
}

#[test]
fn our_block_is_known_without_its_comments_and_gets_them_back() {
    let migrated = format!("{KUBEADM}\nclusterset.local:53 {{\n    errors\n    forward . 10.0.0.1\n    cache 5\n}}\n");
    assert_eq!(standing(&migrated), Standing::Ours(vec!["10.0.0.1".to_owned()]));
    assert_eq!(install(&migrated).unwrap(), format!("{KUBEADM}\n{BLOCK}\n"));
    assert_eq!(uninstall(&migrated).unwrap(), format!("{KUBEADM}\n"));
    let edited = migrated.replace("cache 5", "cache 5\n    log");
    assert!(matches!(standing(&edited), Standing::Claimed(Claim::Block { .. })), "one word more is not ours");
}

#[test]
fn comments_that_are_not_around_our_block_alone_are_refused() {
    let (begin, end) = (begin(&zone()), end(&zone()));
    for text in [
        format!("{begin}\nclusterset.local {{\n}}\n"),
        format!("clusterset.local {{\n}}\n{end}\n"),
        format!("{end}\n{begin}\n"),
        format!("{BLOCK}\n{BLOCK}\n"),
        BLOCK.replace("# end", "example.com {\n}\n# end"),
        format!(". {{\n{begin}\n    errors\n{end}\n}}\n"),
    ] {
        assert!(matches!(install(&text), Err(CorefileError::Marker { .. })), "{text}");
        assert!(matches!(uninstall(&text), Err(CorefileError::Marker { .. })), "{text}");
    }
    let twice = format!("{BLOCK}\nclusterset.local:53 {{\n}}\n");
    assert!(matches!(install(&twice), Err(CorefileError::Claimed(Claim::Block { line: 8, .. }))));
    assert!(matches!(standing(&twice), Standing::Claimed(_)));
}

#[test]
fn comments_in_quotes_and_after_words_are_not_ours() {
    let text = format!(". {{\n    log . \"\n{BLOCK}\n\"\n    errors # begin landbridge clusterset.local\n}}\n");
    assert_eq!(standing(&text), Standing::Missing);
    assert_eq!(uninstall(&install(&text).unwrap()).unwrap(), text);
}

#[test]
fn a_text_that_coredns_would_not_take_is_refused_with_the_line() {
    for (text, expected) in [
        (". {\n    errors\n", "line 1: the block that begins here is not closed"),
        (". {\n    log {\n}\n", "line 1: the block that begins here is not closed"),
        (".:53\nerrors\nforward . 8.8.8.8\n", "line 1: a server block without braces takes all that follows"),
        ("a {\n}\n. { errors }\n", "line 3: a brace stands where none can be"),
        ("}\n", "line 1: a brace"),
        ("{\n}\n", "line 1: a brace"),
        (". {\n    log \"{combined}\n}\n", "line 2: a quote is not closed"),
    ] {
        let said = refused(text);
        assert!(said.starts_with(expected), "{text}: {said}");
    }
}

#[test]
fn imports_and_the_plugin_that_follows_changes_are_seen() {
    let read = |text: &'static str| Corefile::read(text).unwrap();
    for import in ["import custom/*.server", "import /etc/coredns/custom/*.server"] {
        let text = format!(".:53 {{\n    reload\n    import custom/*.override\n}}\n{import}\n");
        let corefile = Corefile::read(&text).unwrap();
        assert!(corefile.imports_custom() && corefile.is_followed(), "{import}");
    }
    assert!(!read(".:53 {\n    errors # reload\n    import custom/*.server\n}\n").imports_custom());
    assert!(read("(all) {\n    reload\n}\n. {\n    import all\n}\n").is_followed());
    assert!(!read("(all) {\n    reload\n}\n. {\n    errors\n}\n").is_followed());
}

#[test]
fn a_snippet_that_imports_itself_ends() {
    let text = "(a) {\n    import b\n}\n(b) {\n    import a\n}\n. {\n    import a\n}\n";
    assert!(!Corefile::read(text).unwrap().is_followed());
}

#[test]
fn snippets_that_would_grow_without_end_are_refused() {
    let snippet = |name: &str, imported: &str, times: usize| {
        format!("({name}) {{\n{}}}\n", format!("    import {imported}\n").repeat(times))
    };
    let block = ". {\n    import a\n}\n";
    let itself = |times: usize| snippet("a", "a", times);
    assert!(Corefile::read(&format!("{}{block}", itself(3))).is_ok());
    // With nothing at its end it is as long a way.
    let chain: Vec<_> = "abcdefgh".chars().map(String::from).collect();
    let chain: String = chain.windows(2).map(|names| snippet(&names[0], &names[1], 9)).collect();
    for (text, line) in [
        (format!("{}{block}", itself(4)), 7),
        (format!("{}{block}.:1053 {{\n    import a\n}}\n", itself(3)), 9),
        (format!("{chain}(h) {{\n}}\n{block}"), 80),
    ] {
        assert!(
            refused(&text).starts_with(&format!("line {line}: with this block there are more than 10000 directives"))
        );
    }
}

/// Parts of Corefiles, in any order and number.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(KUBEADM.to_owned()),
        Just("import custom/*.server\n".to_owned()),
        Just("(snip) {\n\terrors\n}\n".to_owned()),
        Just("a.example, b.example:5300\n{\n    log . \"{combined} # \\\" }\"\n}".to_owned()),
        Just(". {\r\n    errors\r\n}\r\n".to_owned()),
        Just("tls://clusterset.local {\n}\n".to_owned()),
        Just("# begin landbridge another.local\n".to_owned()),
        Just("clusterset.local:53 {\n    errors\n}\n".to_owned()),
        Just(format!("{BLOCK}\n")),
        "[ \t]*#[ -~]*\n",
        "[ \r\n\t]*",
        "[a-z.{}#\"\\\\ \n]{0,12}",
    ]
}

proptest! {
    #[test]
    fn what_was_there_before_is_there_after(parts in proptest::collection::vec(part(), 0..8), force: bool) {
        let text = parts.concat();
        let Ok(installed) = install_with(&text, force) else { return Ok(()) };
        prop_assert_eq!(&install(&installed).unwrap(), &installed, "idempotent");
        prop_assert!(installed.contains(BLOCK));
        let there = standing(&text);
        if there == Standing::Missing || matches!(&there, Standing::Claimed(claim) if !claim.collides()) {
            prop_assert_eq!(uninstall(&installed).unwrap(), text);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ -~\n\r\t\u{feff}é]{0,64}") {
        match install(&text) {
            Ok(installed) => {
                let asked = delegation().servers.iter().map(ToString::to_string).collect();
                prop_assert_eq!(standing(&installed), Standing::Ours(asked));
                prop_assert_eq!(&uninstall(&installed).unwrap(), &text);
                prop_assert_eq!(uninstall(&text).unwrap(), text, "ours is not there");
            }
            Err(error) => prop_assert!(error.to_string().starts_with("line "), "{}", error),
        }
    }
}
