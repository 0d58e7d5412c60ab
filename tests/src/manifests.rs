//! Manifests as a person would write them.
//!
//! Owns the text of Service, EndpointSlice, ServiceExport and Pod. Never writes a file.

use std::{fmt::Write as _, net::IpAddr};

/// A service with its endpoints and its export.
#[derive(Debug, Clone)]
pub struct Export {
    /// `namespace/name`.
    pub service: String,
    /// The port of the service.
    pub port: u16,
    /// The port its endpoints listen on.
    pub target: u16,
    /// Its endpoints.
    pub endpoints: Vec<IpAddr>,
    /// Whether it has no address of its own.
    pub headless: bool,
    /// What its author says the port speaks.
    pub app_protocol: Option<&'static str>,
    /// Annotations of the export, without their prefix.
    pub annotations: Vec<(&'static str, String)>,
    /// When the export was created, RFC 3339.
    pub created: Option<&'static str>,
}

impl Export {
    /// An export with one endpoint that listens on the service's port.
    #[must_use]
    pub fn new(service: &str, port: u16, endpoint: IpAddr) -> Self {
        Self {
            service: service.to_owned(),
            port,
            target: port,
            endpoints: vec![endpoint],
            headless: false,
            app_protocol: None,
            annotations: Vec::new(),
            created: None,
        }
    }

    /// With an annotation `landbridge.dev/NAME`.
    #[must_use]
    pub fn annotated(mut self, name: &'static str, value: &str) -> Self {
        self.annotations.push((name, value.to_owned()));
        self
    }

    /// With other endpoints.
    #[must_use]
    pub fn endpoints(mut self, endpoints: &[IpAddr]) -> Self {
        self.endpoints = endpoints.to_vec();
        self
    }

    /// The name of its file.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}.yaml", self.service.replace('/', "-"))
    }

    /// The text of its file.
    #[must_use]
    pub fn yaml(&self) -> String {
        let (namespace, name) = self.service.split_once('/').expect("a service is written namespace/name");
        let Self { port, target, .. } = self;
        let cluster_ip = if self.headless { "clusterIP: None, " } else { "" };
        let mut metadata = format!("{{namespace: {namespace}, name: {name}");
        if let Some(created) = self.created {
            let _ = write!(metadata, ", creationTimestamp: \"{created}\"");
        }
        let annotations: Vec<_> =
            self.annotations.iter().map(|(name, value)| format!("landbridge.dev/{name}: \"{value}\"")).collect();
        let _ = write!(metadata, ", annotations: {{{}}}}}", annotations.join(", "));
        let app_protocol = self.app_protocol.map(|said| format!(", appProtocol: {said}")).unwrap_or_default();
        let endpoints: Vec<_> = self.endpoints.iter().map(|ip| format!("{{addresses: [\"{ip}\"]}}")).collect();
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{namespace: {namespace}, name: {name}}}\n\
             spec: {{{cluster_ip}ports: [{{name: main, port: {port}, targetPort: {target}{app_protocol}}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{namespace: {namespace}, name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{name: main, port: {target}}}]\nendpoints: [{endpoints}]\n---\n\
             apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {metadata}\n",
            endpoints = endpoints.join(", "),
        )
    }
}

/// A pod that runs at `ip` with a service account.
#[must_use]
pub fn pod(namespace: &str, name: &str, account: &str, ip: IpAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: {name}}}\n\
         spec: {{serviceAccountName: {account}}}\nstatus: {{phase: Running, podIP: \"{ip}\"}}\n"
    )
}
