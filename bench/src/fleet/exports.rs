//! Exports and pods as manifests, written the way a careful operator writes them: whole or not at all.
//!
//! Owns the YAML.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

/// Writes Service, EndpointSlice and ServiceExport of `service` into one file; the export has one annotation of ours.
pub(super) fn write(
    directory: &Path,
    service: &str,
    endpoint: SocketAddr,
    (annotation, value): (&str, &str),
) -> anyhow::Result<()> {
    let (address, port) = (endpoint.ip(), endpoint.port());
    let yaml = format!(
        "\
apiVersion: v1
kind: Service
metadata: {{ namespace: bench, name: {service} }}
spec: {{ ports: [{{ name: main, port: {service_port}, targetPort: {port} }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ namespace: bench, name: {service}-1, labels: {{ kubernetes.io/service-name: {service} }} }}
addressType: IPv4
ports: [{{ name: main, port: {port}, protocol: TCP }}]
endpoints: [{{ addresses: [{address}], conditions: {{ ready: true }} }}]
---
apiVersion: multicluster.x-k8s.io/v1beta1
kind: ServiceExport
metadata:
  namespace: bench
  name: {service}
  creationTimestamp: \"2026-01-01T00:00:00Z\"
  annotations: {{ landbridge.dev/{annotation}: \"{value}\" }}
",
        service_port = super::super::backend::PORT,
    );
    place(directory, service, &yaml)
}

/// Writes a pod that runs at `address` with this service account.
pub(super) fn pod(directory: &Path, account: &str, address: IpAddr) -> anyhow::Result<()> {
    let yaml = format!(
        "\
apiVersion: v1
kind: Pod
metadata: {{ namespace: bench, name: {account} }}
spec: {{ serviceAccountName: {account} }}
status: {{ phase: Running, podIP: \"{address}\" }}
"
    );
    place(directory, account, &yaml)
}

fn place(directory: &Path, name: &str, yaml: &str) -> anyhow::Result<()> {
    let (part, file) = (directory.join(format!(".{name}.part")), directory.join(format!("{name}.yaml")));
    fs::write(&part, yaml)?;
    fs::rename(part, file)?;
    Ok(())
}

/// Removes the file of `service`.
pub(super) fn remove(directory: &Path, service: &str) -> anyhow::Result<()> {
    Ok(fs::remove_file(directory.join(format!("{service}.yaml")))?)
}
