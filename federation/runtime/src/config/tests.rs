use std::net::SocketAddr;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    cluster: Cluster,
    tunnel: Tunnel,
}

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Cluster {
    name: String,
    trust_domain: String,
    source: Source,
    sni: Option<SocketAddr>,
}

#[derive(Debug, Deserialize, Default, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Source {
    #[default]
    SelfSigned,
    Files,
    Spire,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tunnel {
    listen: SocketAddr,
    advertise: Vec<String>,
    streams: u32,
    bbr: bool,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 15443)), advertise: Vec::new(), streams: 100, bbr: false }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Strict {
    #[expect(dead_code, reason = "its absence is what is tested")]
    cluster: StrictCluster,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictCluster {
    #[expect(dead_code, reason = "its absence is what is tested")]
    name: String,
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn fails(text: &str, pairs: &[(&str, &str)]) -> (String, PathBuf, tempfile::TempDir) {
    let (dir, path) = file(text);
    let error = load::<Settings>(Some(&path), &env(pairs)).unwrap_err().to_string();
    (error, path, dir)
}

#[test]
fn the_environment_overrides_the_file_and_the_file_the_defaults() {
    let (_dir, path) = file("[cluster]\nname = 'east'\ntrust_domain = 'east.example'\n[tunnel]\nstreams = 5\n");
    let overrides = env(&[
        ("LANDBRIDGE_CLUSTER__NAME", "west"),
        ("LANDBRIDGE_TUNNEL__BBR", "true"),
        ("LANDBRIDGE_CLUSTER__TRUST_DOMAIN", ""),
        ("LANDBRIDGE_GATEWAY_SERVICE_HOST", "10.0.0.1"),
    ]);
    let settings: Settings = load(Some(&path), &overrides).unwrap();
    assert_eq!((settings.cluster.name.as_str(), settings.cluster.trust_domain.as_str()), ("west", "east.example"));
    assert_eq!((settings.tunnel.streams, settings.tunnel.bbr), (5, true));
    assert_eq!(settings.tunnel.listen.port(), 15443);
}

#[test]
fn a_name_made_of_digits_stays_a_name() {
    let settings: Settings = load(None, &env(&[("LANDBRIDGE_CLUSTER__NAME", "0042")])).unwrap();
    assert_eq!(settings.cluster.name, "0042");
}

#[test]
fn lists_in_variables_are_written_with_commas_or_as_an_array() {
    for text in ["a:1, b:2", "a:1,b:2", r#"["a:1", "b:2"]"#] {
        let settings: Settings = load(None, &env(&[("LANDBRIDGE_TUNNEL__ADVERTISE", text)])).unwrap();
        assert_eq!(settings.tunnel.advertise, ["a:1", "b:2"], "{text}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_file_and_the_key_that_was_meant() {
    let (error, path, _dir) = fails("[tunnel]\nadvertised = []\n", &[]);
    let expected = format!("{}: unknown key `tunnel.advertised`; did you mean `tunnel.advertise`?", path.display());
    assert_eq!(error, expected);
}

#[test]
fn an_unknown_key_far_from_any_other_lists_the_known_ones() {
    let (error, _, _dir) = fails("[tunnel]\nqqq = 1\n", &[]);
    assert!(error.contains("known keys are tunnel.listen, tunnel.advertise"), "{error}");
}

#[test]
fn an_unknown_section_is_named() {
    let (error, _, _dir) = fails("[clutser]\nname = 'a'\n", &[]);
    assert!(error.ends_with("unknown key `clutser`; did you mean `cluster`?"), "{error}");
}

#[test]
fn an_unknown_key_of_the_environment_names_the_variable() {
    let (error, _, _dir) = fails("[tunnel]\nbbr = true\n", &[("LANDBRIDGE_TUNNEL__LISTENN", "1.2.3.4:5")]);
    assert_eq!(
        error,
        "environment variable LANDBRIDGE_TUNNEL__LISTENN: unknown key `tunnel.listenn`; did you mean `tunnel.listen`?"
    );
    let (error, _, _dir) = fails("", &[("LANDBRIDGE_TUNEL__LISTEN", "1.2.3.4:5")]);
    assert!(error.starts_with("environment variable LANDBRIDGE_TUNEL__LISTEN: unknown key `tunel`"), "{error}");
}

#[test]
fn a_value_of_the_wrong_type_names_the_key_and_where_it_is() {
    let (error, path, _dir) = fails("[tunnel]\nlisten = 'nowhere'\n", &[]);
    assert!(error.starts_with(&format!("{}: `tunnel.listen` is not valid: ", path.display())), "{error}");
    assert!(error.contains("socket address"), "{error}");
    let (error, _, _dir) = fails("", &[("LANDBRIDGE_TUNNEL__STREAMS", "many")]);
    assert_eq!(
        error,
        "environment variable LANDBRIDGE_TUNNEL__STREAMS: `tunnel.streams` is not valid: it is the text \"many\", where a whole number from 0 to 4294967295 is expected"
    );
}

#[test]
fn every_wrong_type_in_a_file_is_said_in_words() {
    for (text, expected) in [
        (
            "[tunnel]\nlisten = 15443",
            "it is the number 15443, where an address with a port, such as \"127.0.0.1:15000\", is expected",
        ),
        ("[tunnel]\nstreams = '5'", "it is the text \"5\", where a whole number from 0 to 4294967295 is expected"),
        ("[tunnel]\nstreams = -1", "it is the number -1, where a whole number from 0 to 4294967295 is expected"),
        ("[tunnel]\nstreams = 1.5", "it is the number 1.5, where a whole number from 0 to 4294967295 is expected"),
        ("[tunnel]\nbbr = 'yes'", "it is the text \"yes\", where true or false is expected"),
        ("[tunnel]\nadvertise = 'a:1'", "it is the text \"a:1\", where a list is expected"),
        ("[tunnel]\nadvertise = ['a:1', 2]", "it is the number 2, where a text in quotes is expected"),
        ("tunnel = 5", "it is the number 5, where a section with keys is expected"),
        ("cluster.name.first = 'a'", "it is a section, where a text in quotes is expected"),
    ] {
        let (error, _, _dir) = fails(text, &[]);
        assert!(error.ends_with(&format!(" is not valid: {expected}")), "{text}: {error}");
    }
    let (error, _, _dir) = fails("[tunnel]\nadvertise = ['a:1', 2]", &[]);
    assert!(error.contains("`tunnel.advertise[1]`"), "{error}");
}

#[test]
fn a_number_where_a_name_is_expected_is_refused_in_a_file() {
    let (error, path, _dir) = fails("[cluster]\nname = 42\n", &[]);
    let expected = "`cluster.name` is not valid: it is the number 42, where a text in quotes is expected";
    assert_eq!(error, format!("{}: {expected}", path.display()));
}

#[test]
fn a_choice_that_does_not_exist_names_those_that_do() {
    let choices = "write \"self-signed\", \"files\" or \"spire\"";
    let (error, path, _dir) = fails("[cluster]\nsource = 'vault'\n", &[]);
    let expected = format!("`cluster.source` is not valid: the text \"vault\" cannot be chosen; {choices}");
    assert_eq!(error, format!("{}: {expected}", path.display()));
    let (error, _, _dir) = fails("", &[("LANDBRIDGE_CLUSTER__SOURCE", "vault")]);
    assert_eq!(error, format!("environment variable LANDBRIDGE_CLUSTER__SOURCE: {expected}"));
    let (error, _, _dir) = fails("[cluster]\nsource = 3\n", &[]);
    assert!(error.ends_with(&format!("it is the number 3; {choices}")), "{error}");
}

#[test]
fn a_choice_is_read_from_the_file_and_from_a_variable() {
    let (_dir, path) = file("[cluster]\nsource = 'files'\n");
    let settings: Settings = load(Some(&path), &env(&[])).unwrap();
    assert_eq!(settings.cluster.source, Source::Files);
    let settings: Settings = load(Some(&path), &env(&[("LANDBRIDGE_CLUSTER__SOURCE", "spire")])).unwrap();
    assert_eq!(settings.cluster.source, Source::Spire);
}

#[test]
fn an_empty_text_turns_an_optional_setting_off() {
    let (_dir, path) = file("[cluster]\nsni = ''\n");
    assert_eq!(load::<Settings>(Some(&path), &env(&[])).unwrap().cluster.sni, None);
    let (_dir, path) = file("[cluster]\nsni = '127.0.0.1:1'\n");
    assert!(load::<Settings>(Some(&path), &env(&[])).unwrap().cluster.sni.is_some());
}

#[test]
fn a_key_given_twice_is_refused() {
    let (error, path, _dir) = fails("[cluster]\nname = 'a'\nname = 'b'\n", &[]);
    assert!(error.starts_with(&format!("{} is not valid TOML: ", path.display())), "{error}");
    assert!(error.contains("line 3") && error.contains("duplicate key"), "{error}");
    let (error, _, _dir) = fails("", &[("LANDBRIDGE_CLUSTER__NAME", "a"), ("LANDBRIDGE_cluster__name", "b")]);
    assert_eq!(
        error,
        "environment variable LANDBRIDGE_cluster__name: `cluster.name` is not valid: environment variable LANDBRIDGE_CLUSTER__NAME sets the same key; keep one of them"
    );
}

#[test]
fn a_long_wrong_value_is_not_repeated_whole() {
    let (error, _, _dir) = fails(&format!("[tunnel]\nstreams = '{}'\n", "é".repeat(5000)), &[]);
    assert!(error.len() < 400, "{error}");
}

#[test]
fn a_missing_key_says_where_to_set_it() {
    let (_dir, path) = file("[cluster]\n");
    let error = load::<Strict>(Some(&path), &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("`cluster.name` is missing"), "{error}");
    assert!(error.ends_with("LANDBRIDGE_CLUSTER__NAME"), "{error}");
}

#[test]
fn a_missing_file_says_what_to_do() {
    let error = load::<Settings>(Some(Path::new("/nowhere/gateway.toml")), &BTreeMap::new()).unwrap_err().to_string();
    assert_eq!(
        error,
        "the configuration file /nowhere/gateway.toml does not exist: create it, or name another one with --config FILE"
    );
}

#[test]
fn a_file_that_is_not_toml_names_the_line() {
    let (error, path, _dir) = fails("[tunnel\n", &[]);
    assert!(error.starts_with(&format!("{} is not valid TOML: ", path.display())), "{error}");
    assert!(error.contains("line 1"), "{error}");
}
