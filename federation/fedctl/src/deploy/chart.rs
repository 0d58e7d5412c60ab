//! The templates of the charts, made from ours.
//!
//! Owns the expression of Helm for each parameter, flag and list. Compiled for tests alone: the charts are files of the
//! repository.

use super::template::{EACH, Node, Template, file_of, fill, unknown};

type Table = &'static [(&'static str, &'static str)];

/// Parameters and lists of both programs.
const EXPRESSIONS: Table = &[
    ("namespace", "$.Release.Namespace | quote"),
    ("image", "$.Values.image | quote"),
    ("priority_class", "$.Values.priorityClassName | quote"),
    ("service_type", "$.Values.service.type | quote"),
    ("cluster", "$.Values.cluster.name | quote"),
    ("advertise", r#"join "," $.Values.advertise | quote"#),
    ("namespaces", r#"join "," $.Values.namespaces | quote"#),
    ("replicas", "$.Values.replicas"),
    (
        "names",
        r#"default (printf "landbridge-federation.%s.svc" $.Release.Namespace) (join "," $.Values.names) | quote"#,
    ),
];

const FLAGS: Table = &[
    ("create_namespace", "$.Values.createNamespace"),
    ("namespaced", "$.Values.namespaces"),
    ("cert_manager", r#"eq $.Values.identity "cert-manager""#),
    ("service", r#"ne $.Values.service.type "none""#),
    ("load_balancer", r#"eq $.Values.service.type "LoadBalancer""#),
    ("monitoring", "$.Values.monitoring"),
    ("priority_class", "$.Values.priorityClassName"),
];

const LISTS: Table = &[("namespaces", "$.Values.namespaces")];

/// A chart: where its trust domain stands differs.
pub(super) struct Chart {
    /// The expression of the trust domain.
    pub trust_domain: &'static str,
}

impl Chart {
    /// The template of the chart.
    pub(super) fn text(&self, template: &Template<'_>) -> Result<String, String> {
        let mut text = String::new();
        self.write(&template.0, &mut text)?;
        Ok(text)
    }

    fn write(&self, nodes: &[Node<'_>], text: &mut String) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Line(line) => {
                    text.push_str(&self.line(line)?);
                    text.push('\n');
                }
                Node::When { flag, wanted, body } => {
                    let flag = look_up(FLAGS, flag)?;
                    let condition = if *wanted { flag.to_owned() } else { format!("not ({flag})") };
                    text.push_str(&format!("{{{{- if {condition} }}}}\n"));
                    self.write(body, text)?;
                    text.push_str("{{- end }}\n");
                }
                Node::Each { list, body } => {
                    text.push_str(&format!("{{{{- range {} }}}}\n", look_up(LISTS, list)?));
                    self.write(body, text)?;
                    text.push_str("{{- end }}\n");
                }
            }
        }
        Ok(())
    }

    fn line(&self, line: &str) -> Result<String, String> {
        match file_of(line) {
            Some((indent, name)) => Ok(format!("{{{{- $.Files.Get \"files/{name}\" | nindent {indent} }}}}")),
            None => fill(line, |name| Ok(format!("{{{{ {} }}}}", self.expression(name)?))),
        }
    }

    fn expression(&self, name: &str) -> Result<&'static str, String> {
        match name {
            EACH => Ok(". | quote"),
            "trust_domain" => Ok(self.trust_domain),
            other => look_up(EXPRESSIONS, other),
        }
    }
}

fn look_up(table: Table, name: &str) -> Result<&'static str, String> {
    table.iter().find(|(known, _)| *known == name).map(|(_, text)| *text).ok_or_else(|| unknown(name))
}
