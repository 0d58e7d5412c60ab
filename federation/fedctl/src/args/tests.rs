use clap::{CommandFactory, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_help_that_changes_only_on_purpose() {
    let mut all = String::new();
    let mut command = Cli::command().term_width(100);
    command.build();
    collect(&mut command, &mut all);
    insta::assert_snapshot!(all);
}

fn collect(command: &mut clap::Command, all: &mut String) {
    // The help of later commands repeats the global options.
    if all.is_empty() {
        all.push_str(&command.render_long_help().to_string());
    } else {
        let help = command.render_help().to_string();
        all.push_str(help.split("\nWhom to talk to:").next().unwrap_or(&help));
    }
    for subcommand in command.get_subcommands_mut() {
        all.push_str("\n----------------------------------------\n");
        collect(subcommand, all);
    }
}

#[test]
fn options_stand_before_or_after_the_command() {
    for line in [
        "fedctl -o json --federation https://fed.example:15010 --operator /op status",
        "fedctl status --federation fed.example:15010 --operator /op -o json",
    ] {
        let cli = parse(line).unwrap();
        assert_eq!(cli.output, Format::Json);
        assert_eq!(cli.target.federation.unwrap().0.to_string(), "fed.example:15010");
    }
}

#[test]
fn addresses_are_taken_in_every_usual_form_and_refused_with_the_right_one() {
    for text in ["https://a:1", "a:1", "https://a:1/", "https://[::1]:1", "127.0.0.1:1"] {
        assert!(text.parse::<FederationUrl>().is_ok(), "{text}");
    }
    for text in ["", "a", "http://a:1", "https://a", "https://a:1/path"] {
        assert!(text.parse::<FederationUrl>().unwrap_err().contains("https://host:port"), "{text}");
    }
    for text in ["unix:/run/a.sock", "unix:///run/a.sock", "/run/a.sock", "unix:a.sock", "./a.sock"] {
        assert!(text.parse::<GatewaySocket>().is_ok(), "{text}");
    }
    assert_eq!("unix:///run/a".parse::<GatewaySocket>().unwrap().0, PathBuf::from("/run/a"));
    for text in ["", "unix:", "https://a:1", "a.sock"] {
        assert!(text.parse::<GatewaySocket>().unwrap_err().contains("unix:PATH"), "{text}");
    }
}

#[test]
fn the_federation_service_may_have_names_and_addresses_with_and_without_port() {
    for name in ["fed.example", "fed.example:443", "192.0.2.9", "::1", "[::1]:443", "localhost"] {
        assert_eq!(parse_server_name(name).as_deref(), Ok(name));
    }
}

#[test]
fn a_join_needs_exactly_one_source_of_its_token() {
    assert_eq!(parse("fedctl join").unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
    assert_eq!(parse("fedctl join T --token-file f").unwrap_err().kind(), ErrorKind::ArgumentConflict);
    let Command::Join(join) = parse("fedctl join - --wait 2m").unwrap().command else { panic!() };
    assert_eq!((join.token.as_deref(), join.wait), (Some("-"), Duration::from_secs(120)));
    assert!(parse("fedctl join T --wait 2h").unwrap_err().to_string().contains("at most 1h"));
}

#[test]
fn a_foreign_trust_domain_is_stated_whole() {
    let add = "fedctl trust foreign add spire.example --url https://spire.example:8443/";
    for line in [
        add.to_owned(),
        format!("{add} --profile https_spiffe"),
        "fedctl trust foreign add spire.example --profile https_web".to_owned(),
        "fedctl trust foreign remove".to_owned(),
    ] {
        assert_eq!(parse(&line).unwrap_err().kind(), ErrorKind::MissingRequiredArgument, "{line}");
    }
    let whole = format!("{add} --profile https_spiffe --endpoint-id spiffe://spire.example/spire/server --bundle f");
    let Command::Trust(Trust::Foreign(Foreign::Add(add))) = parse(&whole).unwrap().command else { panic!() };
    assert_eq!((add.profile, add.endpoint_id.is_some()), (Profile::HttpsSpiffe, true));
    assert!(parse("fedctl trust foreign refresh").is_ok());
}

#[test]
fn names_that_could_not_be_used_are_refused_before_anything_runs() {
    for line in [
        "fedctl token create --cluster West",
        "fedctl token create --cluster west --ttl soon",
        "fedctl token revoke xyz",
        "fedctl revoke cluster West",
        "fedctl revoke id west",
        "fedctl revoke id spiffe://west.example",
        "fedctl revoke serial xyz --trust-domain west.example",
        "fedctl revoke cluster west --wait 2h",
        "fedctl revoke reinstate xyz",
        "fedctl join T --federation-fingerprint abc",
        "fedctl trust foreign add spire.example --url http://spire.example/ --profile https_web",
        "fedctl trust foreign add Spire/x --url https://spire.example/ --profile https_web",
        "fedctl init federation --name a/b --dir d",
        "fedctl init gateway --cluster west --trust-domain Not/Valid --dir d",
    ] {
        assert_eq!(parse(line).unwrap_err().kind(), ErrorKind::ValueValidation, "{line}");
    }
}

#[test]
fn a_serial_number_needs_its_trust_domain_and_a_whole_trust_domain_an_asterisk() {
    assert_eq!(parse("fedctl revoke serial 0a:1b").unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
    let Command::Revoke(revoke::Revoke::Id { id, how }) =
        parse("fedctl revoke id spiffe://west.example/* --reason moved --yes").unwrap().command
    else {
        panic!()
    };
    assert_eq!((id.to_string(), how.reason.as_str()), ("id spiffe://west.example/*".to_owned(), "moved"));
    assert_eq!((how.wait, how.yes), (Duration::from_secs(30), true));
    let slip = parse("fedctl revoke id spiffe://west.example").unwrap_err().to_string();
    assert!(slip.contains("write spiffe://west.example/* to revoke everything in it"), "{slip}");
}

#[test]
fn a_context_means_its_own_federation_service_unless_another_is_typed() {
    let federation = |line: &str| Cli::read(line.split_whitespace()).unwrap().target.federation.is_some();
    assert!(!federation("fedctl members --context east"));
    assert!(federation("fedctl members --context east --federation https://f.example:15010"));
    assert!(federation("fedctl --federation https://f.example:15010 members --context east"));
}
