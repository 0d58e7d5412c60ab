use super::*;

fn config(lines: &str) -> Config {
    let text = format!("[cluster]\nname = \"east\"\ntrust_domain = \"east.example\"\n{lines}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    std::fs::write(&file, text).unwrap();
    federation_runtime::config::load(Some(&file), &BTreeMap::new()).unwrap()
}

#[test]
fn times_and_counts_that_cannot_work_are_refused_by_name() {
    assert!(config("").checked().is_ok());
    for (lines, key) in [
        // Pings would follow each other without pause.
        ("[tunnel]\nlease = \"0s\"", "tunnel.lease"),
        ("[tunnel]\nkeep_alive = \"0s\"", "tunnel.keep_alive"),
        ("[limits]\nidle_timeout = \"0s\"", "limits.idle_timeout"),
        // Sums with it would overflow.
        ("[limits]\nconnect_timeout = \"500000000000years\"", "limits.connect_timeout"),
        ("[limits]\nconnections = 0", "limits.connections"),
        ("[limits]\nconnections = 9223372036854775807", "limits.connections"),
        // Every tunnel would keep as many entries.
        ("[limits]\nstreams_per_peer = 4294967295", "limits.streams_per_peer"),
    ] {
        let error = config(lines).checked().unwrap_err().to_string();
        assert!(error.starts_with(key), "{lines}: {error}");
    }
    assert!(config("[limits]\ndrain_timeout = \"0s\"\n[tunnel]\nhold_down = \"0s\"").checked().is_ok());
}

#[test]
fn a_source_of_identity_without_its_place_is_refused() {
    let error = config("[identity]\nsource = \"files\"").checked().unwrap_err().to_string();
    assert!(error.contains("identity.dir is not set"), "{error}");
    assert!(config("[identity]\nsource = \"files\"\ndir = \"\"").checked().is_err());
    let spire = config("[identity]\nsource = \"spire\"\nsocket = \"unix:///run/agent.sock\"").checked().unwrap();
    assert_eq!(spire.identity.socket.unwrap().to_string(), "unix:///run/agent.sock");
    assert!(config("[identity]\nsource = \"spire\"\nsocket = \"\"").checked().unwrap().identity.socket.is_none());
    assert!(config("[identity]\nsource = \"files\"\ndir = \"/etc/landbridge/identity\"").checked().is_ok());
}

#[test]
fn a_context_without_a_kubeconfig_and_too_many_namespaces_are_refused() {
    let refused = |lines| config(lines).checked().unwrap_err().to_string();
    assert!(refused("[kubernetes]\ncontext = \"west\"").contains("kubernetes.kubeconfig is not"));
    let many: Vec<_> = (0..=MAX_NAMESPACES).map(|i| format!("\"n{i}\"")).collect();
    assert!(refused(&format!("[kubernetes]\nnamespaces = [{}]", many.join(","))).contains("has 65 entries"));
    let given = config("[kubernetes]\nkubeconfig = \"k\"\ncontext = \"west\"\nnamespace = \"\"").checked().unwrap();
    assert_eq!((given.kubernetes.context.as_deref(), given.kubernetes.namespace), (Some("west"), None));
    assert_eq!(config("[catalog]\nsource = \"kubernetes\"").catalog.source, CatalogSource::Kubernetes);
}
